// What concerns somebody: answers, mentions, reactions, reposts, and who follows.
import { useEffect, useMemo, useState } from 'preact/hooks';
import { counts, people } from '../app.ts';
import { notices } from '../notices.ts';
import { answers, FOLLOWS, isHex, NOTE, note, REACTION, REPOST, values, type Event } from '../nostr.ts';
import { self } from '../self.ts';
import { useTold } from '../state.ts';
import { beginning, many } from '../words.ts';
import { Actions, FollowButton } from './actions.tsx';
import { Egg, When, Who } from './parts.tsx';
import { Content } from './post.tsx';

export function NoticesScreen() {
  useTold(notices, people);
  const { all, ready } = notices;
  // What comes while somebody reads waits until they want it.
  const [shown, setShown] = useState<Set<string> | null>(null);
  const show = () => setShown(new Set(all.map(event => event.id)));
  useEffect(() => {
    if (ready && !shown?.size) show();
  }, [ready, all.length]);
  const listed = shown ? all.filter(event => shown.has(event.id)) : [];
  const waiting = notices.folded(all).length - notices.folded(listed).length;
  useEffect(() => {
    const read = () => document.visibilityState === 'visible' && notices.read(listed);
    const timer = setTimeout(read, 1_000);
    document.addEventListener('visibilitychange', read);
    return () => {
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', read);
    };
  }, [listed[0]?.id]);
  // What was new when the screen was opened stays so while it is looked at.
  const seen = useMemo(() => notices.seen, []);
  counts.want(listed.filter(event => event.kind === NOTE).map(event => event.id).slice(0, 100));
  return (
    <div class="page">
      <main id="main" tabindex={-1}>
        <div class="head">
          <h1>Notices</h1>
        </div>
        {shown && waiting > 0 && (
          <div class="fresh">
            <button class="btn" type="button" id="fresh" title="Key: ." aria-keyshortcuts="." onClick={show}>
              {many(waiting, 'new notice')}
            </button>
          </div>
        )}
        <div role="feed" aria-label="Notices, newest first">
          {notices.folded(listed).map(({ event, others }, nth) => (
            <Notice key={event.id} event={event} others={others} place={nth + 1} isNew={event.created_at > seen} />
          ))}
          {all.length === 0 && ready && (
            <article class="item quiet top-of end-of" tabindex={-1}>
              <span class="knot" />
              <p class="body gone">Nothing yet. Answers, mentions, reactions, reposts and new followers arrive here.</p>
            </article>
          )}
        </div>
      </main>
      <aside class="side wide" aria-label="About this page">
        <section class="stack">
          <h2>What arrives here</h2>
          <p class="dim">Replies, mentions, reactions, reposts and new followers. People you muted do not.</p>
        </section>
      </aside>
    </div>
  );
}

/** `post`: what it is about, if that is known. */
function did(event: Event, post: Event | null | undefined): string {
  // Anybody can name somebody beside the post of a third.
  const isMine = !post || post.pubkey === self.me?.userId;
  if (event.kind === REACTION) return isMine ? 'reacted to your post' : 'reacted to a post and named you';
  if (event.kind === REPOST) return isMine ? 'reposted you' : 'reposted a post and named you';
  if (event.kind === FOLLOWS) return 'follows you';
  return answers(event) ? 'replied to you' : 'mentioned you';
}

function Notice({ event, others, place, isNew }: { event: Event; others: number; place: number; isNew: boolean }) {
  const id = `n${event.id.slice(0, 16)}`;
  const isPost = event.kind === NOTE;
  const about = event.kind === REACTION || event.kind === REPOST ? notices.about(event) : undefined;
  const post = event.kind === FOLLOWS ? undefined : isPost ? event.id : (values(event, 'e').filter(isHex).at(-1) ?? event.id);
  return (
    <article class={`item ${isNew ? 'is-new' : ''} ${place === 1 ? 'top-of' : ''}`} id={id} tabindex={0} aria-posinset={place} aria-setsize={-1} aria-labelledby={`${id}-w`}>
      <Egg of={event.pubkey} />
      <div class="body">
        <p class="line1" id={`${id}-w`}>
          <Who of={event.pubkey} />
          {others > 0 && ` and ${others} ${others === 1 ? 'other' : 'others'}`} {did(event, about)}
        </p>
        {isPost && (
          <div class="quote">
            <Content event={event} whole={false} />
          </div>
        )}
        {isPost && <Actions event={event} />}
        {event.kind === FOLLOWS && <FollowButton of={event.pubkey} />}
        {post && !isPost && (
          <a class="quote one" dir="auto" href={`/${note(post)}`}>
            {about ? beginning(about, key => people.name(key)) : about === null ? 'The post is not here.' : 'Your post'}
          </a>
        )}
      </div>
      <When at={event.created_at} {...(post ? { post } : {})} />
    </article>
  );
}

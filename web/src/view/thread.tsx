// A post, what it answers, and what answers it.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { counts, line, people } from '../app.ts';
import { first } from '../first.ts';
import type { Event } from '../nostr.ts';
import { self } from '../self.ts';
import { useTold } from '../state.ts';
import { Thread } from '../thread.ts';
import { many } from '../words.ts';
import { Actions, answerTags } from './actions.tsx';
import { Composer, Waiting } from './composer.tsx';
import { Gone, heightInView, idOfItem, Post } from './post.tsx';

function threadOf(id: string): Thread {
  const thread = new Thread(line, people, id);
  if (first.screen.name === 'thread' && first.screen.id === id) thread.begin(first.screen.events);
  return thread;
}

export function ThreadView({ of }: { of: string }) {
  const thread = useMemo(() => threadOf(of), [of]);
  useTold(thread, people, self);
  const [all, showAll] = useState(false);
  const focus = useRef<string | null>(null);
  if (self.me) counts.want([...thread.above, ...(thread.post ? [thread.post] : []), ...thread.below.map(answer => answer.event)].map(event => event.id));
  useEffect(() => {
    thread.measure(heightInView);
    thread.start();
    return () => thread.stop();
  }, [thread]);
  useLayoutEffect(() => {
    if (focus.current) document.getElementById(focus.current)?.focus({ preventScroll: true });
    focus.current = null;
  }, [all]);
  const { above, post, below } = thread;
  const muted = all ? [] : below.filter(({ event }) => self.hasMuted(event.pubkey));
  const heard = below.filter(answer => !muted.includes(answer));
  const showOnce = () => {
    focus.current = idOfItem(muted[0]!.event);
    showAll(true);
  };
  const drawn = (event: Event, place: number, kind = '') => {
    const height = thread.gone.get(event.id);
    if (height !== undefined) return <Gone key={event.id} event={event} height={height} place={place} />;
    return <Post key={event.id} event={event} place={place} class={kind} whole={kind === 'main'} below={<Actions event={event} />} />;
  };
  return (
    <div class="page">
      <main id="main" tabindex={-1}>
        <div class="head">
          <h1>Thread</h1>
        </div>
        <div class="thread">
          {above.map((event, nth) => drawn(event, nth + 1))}
          {post && drawn(post, above.length + 1, 'main')}
          {post && self.me && (
            <Composer
              key={post.id}
              about={post.id}
              label={`Reply to ${people.name(post.pubkey)}`}
              placeholder={`Reply to ${people.name(post.pubkey)}`}
              tags={answerTags(post)}
              autofocus={location.hash === '#reply'}
            />
          )}
          {post && <Waiting about={post.id} />}
          {!post && thread.ready && <p class="gone">This post is not here.</p>}
          {heard.map(({ event, depth }, nth) => drawn(event, above.length + 2 + nth, depth > 1 ? 'd2' : ''))}
          {muted.length > 0 && (
            <div class="item end-of">
              <span class="knot" />
              <p class="body gone">
                {many(muted.length, 'reply', 'replies')} by {muted.length === 1 ? 'someone' : 'people'} you muted.{' '}
                <button class="btn quiet" type="button" onClick={showOnce}>
                  Show once
                </button>
              </p>
            </div>
          )}
        </div>
      </main>
    </div>
  );
}


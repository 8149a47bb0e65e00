// The feed of somebody who is signed in: whom they follow, newest first.
import { useEffect, useMemo } from 'preact/hooks';
import { counts, line, people, relay } from '../app.ts';
import { relayNow } from '../clock.ts';
import { ask } from '../api.ts';
import { Feed } from '../feed.ts';
import type { Count } from '../feed/reach.ts';
import { first } from '../first.ts';
import { look } from '../look.ts';
import { ACTIVITY, isHex, NOTE, npub, REPOST, reposted, values, type Event } from '../nostr.ts';
import { outbox } from '../outbox.ts';
import { self } from '../self.ts';
import { useTold } from '../state.ts';
import { many } from '../words.ts';
import { Actions } from './actions.tsx';
import { Composer, Waiting } from './composer.tsx';
import { FeedView } from './feed.tsx';
import { Icon, When } from './parts.tsx';
import { Elsewhere, Find, PeopleHere } from './people.tsx';
import { idOfItem, Post } from './post.tsx';

/** Authors of a filter: relays take so many. */
const AUTHORS = 1_000;

function home(): Feed {
  const me = self.me!.userId;
  const authors = () => [me, ...(self.follows ?? [])].slice(0, AUTHORS);
  const wants = (event: Event) => {
    const post = reposted(event);
    return (
      (event.pubkey === me || (self.follows?.has(event.pubkey) ?? true)) &&
      !self.hasMuted(event.pubkey) &&
      (event.kind === NOTE || event.kind === ACTIVITY || (post !== null && !self.hasMuted(post.pubkey)))
    );
  };
  const feed = new Feed({
    line,
    most: relay.max_limit,
    now: relayNow,
    filters: () => [
      { kinds: [NOTE, REPOST], authors: authors() },
      { kinds: [ACTIVITY], authors: authors() },
    ],
    wants,
    count: async (newer, older, held) => {
      const between = `after=${older.created_at}:${older.id}&before=${newer.created_at}:${newer.id}`;
      const answer = await ask<{ count?: Count }>('GET', `/feed?${between}&count=1&limit=1`).catch(() => null);
      const { number, isMore } = answer?.count ?? { number: null, isMore: false };
      return number === null ? null : { number: isMore ? number : Math.max(0, number - held), isMore };
    },
    // Whoever did it knows.
    quiet: event => event.kind === ACTIVITY && (event.pubkey === me || look.postsOnly),
    subject: event => reposted(event) ?? event,
    seen: event => {
      people.expect(event);
      const post = reposted(event);
      if (post) people.expect(post);
      if (event.kind === ACTIVITY) values(event, 'p').forEach(key => people.get(key));
    },
  });
  if (first.screen.name === 'home' && first.me?.userId === me) feed.begin(first.screen.events);
  feed.mark(seen(me));
  outbox.taken = event => {
    if (event.kind === NOTE) feed.put(event);
  };
  return feed;
}

const SEEN = 'rookery-seen-';

/** Up to when somebody has seen their feed at this browser. */
function seen(account: string): number {
  try {
    return Number(localStorage.getItem(SEEN + account)) || 0;
  } catch {
    return 0;
  }
}

function see(account: string, feed: Feed): void {
  const newest = feed.shown[0]?.created_at;
  if (!newest) return;
  try {
    localStorage.setItem(SEEN + account, String(newest));
  } catch {
    // It is all new again next time.
  }
}

interface Kept {
  account: string;
  feed: Feed;
  /** Whose posts it has, and whose it has not; null: those that the document had. */
  of: { follows: Set<string>; mutes: Set<string> } | null;
}

let kept: Kept | null = null;

/** The feed stays as it was when somebody comes back from a thread. */
function keptOf(account: string): Kept {
  if (kept?.account !== account) kept = { account, feed: home(), of: null };
  return kept;
}

/** Has a feed be of those who are followed and not muted now. */
function renew(kept: Kept): void {
  const { feed, of } = kept;
  const [follows, mutes] = [self.follows ?? new Set<string>(), self.mutes ?? new Set<string>()];
  const wider = of !== null && ([...follows].some(key => !of.follows.has(key)) || [...of.mutes].some(key => !mutes.has(key)));
  kept.of = { follows, mutes };
  feed.sift();
  feed.again(wider);
}

export function Home() {
  useTold(self, look);
  const account = self.me!.userId;
  const kept = useMemo(() => keptOf(account), [account]);
  const { feed } = kept;
  useTold(feed);
  const follows = self.follows;
  const listed = follows && [follows, self.mutes ?? []].map(keys => [...keys].sort().join()).join(';');
  useEffect(() => {
    if (listed === null) return;
    renew(kept);
    return () => feed.stop();
  }, [feed, listed]);
  useEffect(() => {
    const leave = () => see(account, feed);
    addEventListener('pagehide', leave);
    return () => {
      removeEventListener('pagehide', leave);
      leave();
    };
  }, [feed]);
  counts.want(feed.shown.flatMap(event => reposted(event)?.id ?? (event.kind === NOTE ? event.id : [])).slice(0, 300));
  const alone = follows?.size === 0;
  return (
    <div class="page">
      <main id="main" tabindex={-1}>
        <div class="feedbar">
          <h1>{alone && feed.shown.length === 0 ? `Welcome, ${self.me!.username}.` : 'Home'}</h1>
          {!alone && <Show />}
        </div>
        <Composer top />
        <FeedView
          feed={feed}
          name="Home, newest first"
          live
          held
          above={<Waiting />}
          below={event => <Actions event={event} />}
          other={(event, place, isNew) => other(event, place, isNew)}
          empty={<Silence />}
        />
        {alone && <Lonely />}
      </main>
      <aside class="side wide" aria-label="About this page">
        <section class="stack">
          <h2>This feed</h2>
          <p class="dim">
            Newest first. Nothing is ranked, nothing is left out. Where something is missing, the line breaks.
          </p>
          <p>
            <a href="/people">{follows?.size ? many(follows.size, 'person', 'people') : 'Find people'}</a>
          </p>
          <Elsewhere />
        </section>
      </aside>
    </div>
  );
}

function Silence() {
  return (
    <article class="item quiet top-of end-of" tabindex={-1}>
      <span class="knot" />
      <p class="body gone">Nothing has been said yet.</p>
    </article>
  );
}

function Show() {
  const choice = (on: boolean, label: string) => (
    <label>
      <input type="radio" name="show" checked={look.postsOnly === on} onChange={() => look.setPostsOnly(on)} /> {label}
    </label>
  );
  return (
    <fieldset>
      <legend class="vh">Show</legend>
      <div class="seg">
        {choice(false, 'Everything')}
        {choice(true, 'Posts only')}
      </div>
    </fieldset>
  );
}

function Lonely() {
  return (
    <div class="more stack lg">
      <p>
        Your feed is a line that people sit on. It is empty because you don’t follow anyone yet. Three or four is a good start.
      </p>
      <Find id="find-home" />
      <PeopleHere />
    </div>
  );
}

/** What is drawn for an event that is no post; undefined: it is one. */
function other(event: Event, place: number, isNew: boolean) {
  if (event.kind === ACTIVITY) return look.postsOnly ? null : <Did key={event.id} event={event} place={place} isNew={isNew} />;
  const post = reposted(event);
  if (!post) return undefined;
  return (
    <Post
      key={event.id}
      event={post}
      by={event}
      place={place}
      isNew={isNew}
      context={
        <p class="ctx">
          <Icon name="repost" />
          <a href={`/${npub(event.pubkey)}`} dir="auto">
            {people.name(event.pubkey)}
          </a>{' '}
          reposted
        </p>
      }
      below={<Actions event={post} />}
    />
  );
}

const DID: Record<string, string> = { 'signed-in': 'signed in', 'signed-out': 'signed out', followed: 'followed' };

function Did({ event, place, isNew }: { event: Event; place: number; isNew: boolean }) {
  const did = DID[values(event, 'activity')[0] ?? ''];
  const whom = values(event, 'p').find(isHex);
  if (!did) return null;
  const id = idOfItem(event);
  const name = (key: string) => (
    <a class="who" href={`/${npub(key)}`} dir="auto" tabindex={-1}>
      {people.name(key)}
    </a>
  );
  return (
    <article class={`item activity ${isNew ? 'is-new' : ''} ${place === 1 ? 'top-of' : ''}`} id={id} tabindex={-1} aria-posinset={place} aria-setsize={-1} aria-labelledby={`${id}-w`}>
      <span class="knot" />
      <p class="body" id={`${id}-w`}>
        {name(event.pubkey)} {did}
        {did === 'followed' && whom && <> {name(whom)}</>}
      </p>
      <When at={event.created_at} />
    </article>
  );
}

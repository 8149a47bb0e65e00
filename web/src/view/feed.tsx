// A feed on its branch.
import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { line, people } from '../app.ts';
import type { Feed } from '../feed.ts';
import type { Gap } from '../feed/reach.ts';
import { ACTIVITY, type Event } from '../nostr.ts';
import { say } from '../say.ts';
import { useTold } from '../state.ts';
import { capital, many, timeOfDay } from '../words.ts';
import { Egg } from './parts.tsx';
import { Gone, heightInView, idOfItem, Post } from './post.tsx';

interface FeedProps {
  feed: Feed;
  name: string;
  /** What is drawn for an event that is no post. */
  other?: (event: Event, place: number, isNew: boolean) => ComponentChildren | undefined;
  below?: (event: Event) => ComponentChildren;
  /** What stands above all of it: posts that wait to be sent. */
  above?: ComponentChildren;
  empty: ComponentChildren;
  /** Whether it goes on by itself, and new posts wait for a press. */
  live?: boolean;
  /** Whether somebody else starts it and ends it. */
  held?: boolean;
}

/** Activity comes along with posts, and is said where there is nothing else. */
function waits(events: Event[]): string {
  const posts = events.filter(event => event.kind !== ACTIVITY).length;
  return posts > 0 ? many(posts, 'new post') : many(events.length, 'update');
}

const NO_ANSWER = 'The relay did not answer.';

/** At most so often is it said that something waits. */
const SAY = 30_000;

export function FeedView({ feed, name, other, below, above, empty, live, held }: FeedProps) {
  useTold(feed, people, line);
  const anchor = useRef<{ element: Element; top: number } | null>(null);
  const focus = useRef<string | null>(null);

  useEffect(() => {
    feed.measure(heightInView);
    if (held) return;
    if (live) feed.start();
    return () => feed.stop();
  }, [feed]);

  // What is read stays where it is, whatever came above it.
  useLayoutEffect(() => {
    const held = anchor.current;
    anchor.current = null;
    if (held?.element.isConnected) scrollBy(0, held.element.getBoundingClientRect().top - held.top);
    const item = focus.current && document.getElementById(focus.current);
    focus.current = null;
    if (item) item.focus({ preventScroll: !!held });
  });

  const show = () => {
    const text = waits(feed.due);
    const first = feed.show();
    if (!first) return;
    focus.current = idOfItem(first);
    say(`${text} added above`);
  };
  const fill = async (gap: Gap, older: Event) => {
    const first = await feed.fill(gap, () => {
      const below = document.getElementById(idOfItem(older));
      if (below) anchor.current = { element: below, top: below.getBoundingClientRect().top };
      // The button that was pressed may go.
      focus.current = idOfItem(older);
    });
    if (first) focus.current = idOfItem(first);
    say(gap.state === 'failed' ? NO_ANSWER : first ? 'Loaded' : 'Nothing more was missing');
  };
  const more = async () => {
    const first = await feed.more();
    if (first) focus.current = idOfItem(first);
    say(feed.older === 'failed' ? NO_ANSWER : first ? 'Loaded' : 'There are no older posts');
  };

  const drawn = (event: Event, place: number, isNew: boolean) => {
    const instead = other?.(event, place, isNew);
    if (instead !== undefined) return instead;
    return <Post key={event.id} event={event} place={place} isNew={isNew} below={below?.(event)} />;
  };

  return (
    <>
      <Slot warm={feed.due.length > 0} />
      <div class="feedwrap">
        {live && <Fresh feed={feed} show={show} />}
        <div role="feed" id="feed" class={feed.older === 'none' ? 'ends' : ''} aria-label={name} aria-busy={feed.older === 'loading' || feed.gaps.some(gap => gap.state === 'loading')} tabindex={-1}>
          {above}
          {feed.shown.map((event, nth) => {
            const isNew = feed.fresh.has(event.id);
            const gap = feed.gapAbove(nth);
            const height = feed.gone.get(event.id);
            return [
              feed.edge?.id === event.id && <Edge key={`edge${event.id}`} since={feed.edge.since} />,
              gap && <GapRow key={`gap${event.id}`} gap={gap} fill={() => fill(gap, event)} />,
              height !== undefined ? (
                <Gone key={event.id} event={event} height={height} place={nth + 1} />
              ) : (
                drawn(event, nth + 1, isNew)
              ),
            ];
          })}
          {feed.shown.length === 0 && (feed.ready ? empty : <Unread />)}
        </div>
      </div>
      {feed.shown.length > 0 && feed.older !== 'none' && (
        <p class="more">
          {feed.older === 'failed' && <span class="dim">{NO_ANSWER} </span>}
          <button class="btn" type="button" aria-busy={feed.older === 'loading'} onClick={more}>
            {feed.older === 'loading' ? 'Loading older posts' : feed.older === 'failed' ? 'Try again' : 'Older posts'}
          </button>
        </p>
      )}
    </>
  );
}

/** The place that is always kept: for what waits, or for the word that the line is broken. */
function Slot({ warm }: { warm: boolean }) {
  useTold(line);
  const broken = line.state !== 'live' && line.reconnects + line.lost > 0;
  return (
    <div class={`slot ${warm ? 'warm' : ''} ${broken ? 'broken' : ''}`}>
      {broken && !warm && <p class="gone">The line broke at {timeOfDay(line.since / 1000)}. What follows is what you had.</p>}
    </div>
  );
}

function Fresh({ feed, show }: { feed: Feed; show: () => void }) {
  const said = useRef(0);
  const due = feed.due;
  const count = due.length;
  useEffect(() => {
    if (count === 0 || Date.now() - said.current < SAY) return;
    said.current = Date.now();
    say(waits(due));
  }, [count]);
  if (count === 0) return null;
  const authors = [...new Set(due.toReversed().map(event => event.pubkey))].slice(0, 3);
  return (
    <div class="fresh">
      <button class="btn" type="button" id="fresh" title="Key: ." aria-keyshortcuts="." onClick={show}>
        <span class="eggs" aria-hidden="true">
          {authors.map(key => (
            <Egg key={key} of={key} size="sm" />
          ))}
        </span>
        {waits(feed.waiting)}
      </button>
    </div>
  );
}

/** Nothing is known of a feed, so nothing is said of what it has. */
function Unread() {
  const isBroken = line.state !== 'live' && line.reconnects + line.lost > 0;
  return (
    <article class="item quiet top-of end-of" tabindex={-1}>
      <span class="knot" />
      <p class="body gone">{isBroken ? 'The line is broken. It is read when it is back.' : 'Reading.'}</p>
    </article>
  );
}

function Edge({ since }: { since: number }) {
  return (
    <div class="unread" role="none">
      <span>
        <span aria-hidden="true">↑</span> New since {timeOfDay(since)}
      </span>
    </div>
  );
}

function GapRow({ gap, fill }: { gap: Gap; fill: () => void }) {
  const { count } = gap;
  const posts = count ? `${count.isMore ? 'over ' : ''}${many(count.number, 'post')}` : '';
  // It is filled by pages.
  const load = count ? `Load ${many(Math.min(count.number, 100), 'post')}` : 'Look';
  const busy = gap.state === 'loading';
  return (
    <article class="item gap" tabindex={0} aria-label="Posts are missing here">
      <span class="at">
        {timeOfDay(gap.older.created_at)}–{timeOfDay(gap.newer.created_at)}
      </span>
      <div class="body">
        <p>
          <b>{count ? `${capital(posts)} missing.` : 'Posts may be missing here.'}</b>{' '}
          {gap.state === 'failed' ? NO_ANSWER : gap.why}
        </p>
        <button class="btn" type="button" aria-busy={busy} onClick={() => busy || fill()}>
          {gap.state === 'failed' ? 'Try again' : busy ? 'Loading posts' : load}
        </button>
      </div>
    </article>
  );
}

// A post, as it stands in any list.
import { memo } from 'preact/compat';
import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { people } from '../app.ts';
import { answers, described, note, npub, warning, type Event } from '../nostr.ts';
import { useTold } from '../state.ts';
import { FOLD, host, parts } from '../words.ts';
import { Egg, Icon, When, Who } from './parts.tsx';

/** The post that had the focus last. */
let lastFocused = '';
document.addEventListener('focusin', event => (lastFocused = (event.target as Element).closest('article')?.id ?? lastFocused));

interface PostProps {
  event: Event;
  /** Its place in the list, from 1. */
  place: number;
  class?: string;
  isNew?: boolean;
  /** Shown whole, however long. */
  whole?: boolean;
  context?: ComponentChildren;
  /** The event that brought it here, if that is another one. */
  by?: Event;
  below?: ComponentChildren;
}

export const idOfItem = (event: { id: string }): string => `e${event.id.slice(0, 16)}`;

/** How high a post stands in the window or above it, 0 where it is below: what is read stays where it is. */
export function heightInView(id: string): number {
  const box = document.getElementById(idOfItem({ id }))?.getBoundingClientRect();
  return box && box.top < innerHeight ? box.height : 0;
}

export function Post({ event, place, class: kind, isNew, whole, context, by, below }: PostProps) {
  useTold(people);
  const id = idOfItem(by ?? event);
  const answered = answers(event);
  return (
    <article
      class={`item ${kind ?? ''} ${isNew ? 'is-new' : ''} ${place === 1 ? 'top-of' : ''}`}
      id={id}
      tabindex={0}
      aria-posinset={place}
      aria-setsize={-1}
      aria-labelledby={`${id}-w ${id}-d`}
      aria-describedby={`${id}-t`}
    >
      {kind === 'd2' && <span class="bend" />}
      <Egg of={event.pubkey} />
      <div class="body">
        {context}
        {answered && <Answering whom={answered.whom} />}
        <p class="line1" id={`${id}-w`}>
          <Who of={event.pubkey} />
        </p>
        <div id={`${id}-t`}>
          <Content event={event} whole={whole ?? false} />
        </div>
        {below}
      </div>
      <When id={`${id}-d`} at={event.created_at} post={event.id} />
    </article>
  );
}

function Answering({ whom }: { whom: string | null }) {
  return (
    <p class="ctx">
      <Icon name="reply" />
      {whom ? 'replying to ' : 'a reply'}
      {whom && (
        <a href={`/${npub(whom)}`} dir="auto">
          {people.name(whom)}
        </a>
      )}
    </p>
  );
}

export const Content = memo(function Content({ event, whole }: { event: Event; whole: boolean }) {
  useTold(people);
  const reason = warning(event);
  const said = <Said event={event} whole={whole} />;
  if (reason === null) return said;
  return (
    <details class="cw">
      <summary class="shut">
        <Icon name="eye" />
        <p>
          <b>Content warning</b>
          {reason && ': '}
          {reason && <span dir="auto">{reason}</span>}
        </p>
        <span class="btn show">Show</span>
        <span class="btn hide">Hide</span>
      </summary>
      {said}
    </details>
  );
});

function Said({ event, whole }: { event: Event; whole: boolean }) {
  const signs = [...event.content];
  const isLong = !whole && signs.length > FOLD;
  const said = parts(isLong ? signs.slice(0, FOLD).join('') : event.content);
  return (
    <>
      <p class="text" dir="auto">
        {said.parts.map(part =>
          'text' in part ? (
            part.text
          ) : 'link' in part ? (
            <a href={part.link} rel="noopener noreferrer" target="_blank">
              {part.label}
            </a>
          ) : 'person' in part ? (
            <a href={`/${npub(part.person)}`} dir="auto">
              @{people.name(part.person)}
            </a>
          ) : (
            <a href={`/${note(part.post)}`}>a post</a>
          ),
        )}
        {isLong && '… '}
        {isLong && <a href={`/${note(event.id)}`}>Show all</a>}
      </p>
      {said.pictures.map(url => (
        <Picture url={url} alt={described(event, url)} />
      ))}
    </>
  );
}

/** A picture is a link: nothing is loaded from elsewhere. */
function Picture({ url, alt }: { url: string; alt: string | null }) {
  return (
    <div class="shut">
      <Icon name="picture" />
      <p>
        <b>{alt ? 'Picture' : 'Picture without description'}</b>
        {alt && ': '}
        {alt && (
          <span class="alt" dir="auto">
            {alt}
          </span>
        )}
        <br />
        <span>From {host(url)}, which will see your IP address</span>
      </p>
      <a class="btn" href={url} rel="noopener noreferrer" target="_blank">
        Open
      </a>
    </div>
  );
}

/** What was being read keeps its height when its author deletes it. */
export function Gone({ event, height, place }: { event: Event; height: number; place: number }) {
  const item = useRef<HTMLElement>(null);
  useLayoutEffect(() => {
    if (item.current && height) item.current.style.minHeight = `${height}px`;
    // Whoever was in it is where it was.
    if (lastFocused === idOfItem(event) && document.activeElement === document.body) item.current?.focus({ preventScroll: true });
  }, []);
  return (
    <article ref={item} class="item activity" id={idOfItem(event)} tabindex={-1} aria-posinset={place} aria-setsize={-1}>
      <span class="knot" />
      <p class="body">
        <b class="who" dir="auto">
          {people.name(event.pubkey)}
        </b>{' '}
        deleted a post
      </p>
      <When at={event.created_at} />
    </article>
  );
}

// What is stored of a feed: how it is asked for, page by page, and down to where an answer is whole.
import type { Answer, Line } from '../line.ts';
import { DELETION, isNewer, matches, newestFirst, type Event, type Filter, type Place } from '../nostr.ts';

/** Of a question: how many of the newest. */
const PAGE = 100;
/** Pages that are read until one of them has something to be shown. */
const PAGES = 10;

/** Before all of a second. */
const FIRST = '0'.repeat(64);

/** Where a feed is read from. */
export interface Source {
  line: Pick<Line, 'page'>;
  /** How many an answer to a filter has at most. */
  most: number;
  /** What the feed is of, without limits. */
  filters: () => Filter[];
}

const pageOf = (source: Source): number => Math.min(PAGE, source.most);

/** What is asked for with a subscription. */
export function questions(source: Source): Filter[] {
  const posts = source.filters().map(filter => ({ ...filter, limit: pageOf(source) }));
  return [...posts, ...posts.map(filter => ({ ...filter, kinds: [DELETION] }))];
}

/** What is stored from one place on, down to another one or to the first, as far as an answer reaches, and down to
 *  where that is all; null: no answer. `isMissing`: a page with such an event is the last that is read. */
export async function read(
  source: Source,
  from: Place,
  to: Place | null,
  isMissing: (event: Event) => boolean,
): Promise<{ events: Event[]; cut: Place | null } | null> {
  let at = from;
  for (let page = 0, limit = pageOf(source); ; ) {
    const window = { until: at.created_at, ...(to ? { since: to.created_at } : {}), limit };
    const asked = source.filters().map(filter => ({ ...filter, ...window }));
    const answer = await source.line.page(asked);
    if (!answer) return null;
    let cut = cutOf(answer, asked);
    if (cut && !isNewer(at, cut)) {
      // A second holds more than a page.
      if (limit < source.most) {
        limit = Math.min(limit * 7, source.most);
        continue;
      }
      cut = { created_at: at.created_at - 1, id: FIRST };
    }
    const events = answer.events.filter(event => !cut || !isNewer(cut, event));
    const isWorth = events.some(isMissing);
    if (isWorth || !cut || (to && !isNewer(cut, to)) || ++page === PAGES) return { events, cut };
    at = cut;
    limit = pageOf(source);
  }
}

/** Down to where an answer is whole; null: it is all there is. */
export function cutOf({ events, more }: Answer, asked: Filter[]): Place | null {
  const ends = asked.flatMap(filter => {
    const of = events.filter(event => matches(filter, event));
    // A filter that has as many as were asked for was cut off there.
    return of.length >= filter.limit! ? [{ end: of.sort(newestFirst).at(-1)!, filter }] : [];
  });
  // An answer that is too large is cut off where it ends.
  if (more && ends.length === 0) return events.toSorted(newestFirst).at(-1) ?? null;
  const cuts = ends.filter(({ filter }) => !filter.kinds?.includes(DELETION)).map(({ end }) => end);
  return cuts.sort(newestFirst)[0] ?? null;
}

// A feed: what is shown, what waits to be, and where something is missing. Nothing that is shown moves unless a person
// asked for it.
import type { Line } from './line.ts';
import { DELETION, newestFirst, values, type Event, type Filter } from './nostr.ts';
import { Told } from './state.ts';

/** Of a question: how many of the newest. */
const PAGE = 100;
/** What relays answer at most. */
const MOST = 4_000;
/** Most that is kept in the document after new posts were put in; older ones are a page away. */
const SHOWN = 400;
/** Most that waits. What is older then is a gap. */
const WAITING = 300;

/** Between two posts that are shown something is missing, or may be. */
export interface Gap {
  /** The post above it. */
  newer: Event;
  /** The post below it. */
  older: Event;
  /** How many; null: nobody knows. */
  count: number | null;
  why: string;
  state: 'found' | 'loading' | 'failed';
}

export interface FeedParts {
  line: Line;
  /** What the feed is of, without limits. */
  filters: () => Filter[];
  /** Whether an event belongs in it, beside the filters. */
  wants: (event: Event) => boolean;
  /** How many belong in between two that are not here; `held`: those from one to the other that are. */
  count?: (newer: Event, older: Event, held: number) => Promise<number | null>;
  seen?: (event: Event) => void;
  /** Whether an event is worth no word: it comes along with the next that is. */
  quiet?: (event: Event) => boolean;
  /** The id of the post that an event shows: what is reposted ten times stands there once. */
  subject?: (event: Event) => string;
}

export class Feed extends Told {
  /** Newest first. */
  shown: Event[] = [];
  waiting: Event[] = [];
  gaps: Gap[] = [];
  /** Ids of those that were put in last. */
  fresh = new Set<string>();
  /** The post under the edge of what is new, and since when that is. */
  edge: { id: string; since: number } | null = null;
  /** Deleted while they were shown, and how high they were. */
  gone = new Map<string, number>();
  /** Older ones may be had. */
  older: 'unknown' | 'loading' | 'none' = 'unknown';
  /** Everything stored was read at least once. */
  ready = false;

  #parts: FeedParts;
  #ids = new Set<string>();
  #deleted = new Set<string>();
  #batch: Event[] | null = null;
  #known: Event | null = null;
  #seen = 0;
  #looked = Math.floor(Date.now() / 1000);
  #end: (() => void) | null = null;
  #heightOf: (id: string) => number = () => 0;

  constructor(parts: FeedParts) {
    super();
    this.#parts = parts;
  }

  /** How high a post stands in the window, 0 where it is out of sight. */
  measure(heightOf: (id: string) => number): void {
    this.#heightOf = heightOf;
  }

  /** What the document showed already. */
  begin(events: Event[]): void {
    this.shown = this.#take(events);
  }

  /** Until when everything was seen at an earlier visit. */
  mark(seen: number): void {
    this.#seen = seen;
    this.#draw();
  }

  /** Subscribes, then reads: nothing falls between what is stored and what is live. */
  start(): void {
    if (this.#end) return;
    this.#end = this.#parts.line.subscribe({
      filters: () => {
        // A new answer begins, on this socket or on the next.
        this.#batch = [];
        this.#known = this.#newest();
        const posts = this.#parts.filters().map(filter => ({ ...filter, limit: PAGE }));
        return [...posts, ...posts.map(filter => ({ ...filter, kinds: [DELETION] }))];
      },
      event: event => (this.#batch ? this.#batch.push(event) : this.#live(event)),
      stored: () => this.#stored(),
    });
  }

  stop(): void {
    this.#end?.();
    this.#end = null;
  }

  /** Of what waits, what is worth a word. */
  get due(): Event[] {
    return this.waiting.filter(event => !this.#parts.quiet?.(event));
  }

  /** The filters are others now. */
  again(): void {
    this.stop();
    this.start();
  }

  /** Puts in what waits; the first of it. */
  show(): Event | null {
    if (this.waiting.length === 0) return null;
    const put = this.waiting.sort(newestFirst);
    const top = this.shown[0];
    this.waiting = [];
    this.fresh = new Set(put.map(event => event.id));
    if (top) this.edge = { id: top.id, since: this.#looked };
    this.#looked = Math.floor(Date.now() / 1000);
    this.shown = [...put, ...this.shown].sort(newestFirst);
    if (this.shown.length > SHOWN) {
      for (const event of this.shown.splice(SHOWN)) this.#forget(event);
      this.gaps = this.gaps.filter(gap => this.#ids.has(gap.older.id));
      this.older = 'unknown';
    }
    this.tell();
    return this.shown.find(event => this.fresh.has(event.id)) ?? null;
  }

  /** One's own post goes in at once. */
  put(event: Event): void {
    // The socket may have been faster than the answer.
    const waited = this.waiting.filter(other => other.id === event.id);
    this.waiting = this.waiting.filter(other => other.id !== event.id);
    this.shown = [...this.shown, ...waited, ...this.#take([event])].sort(newestFirst);
    this.tell();
  }

  /** Takes those away that are not wanted any more. */
  sift(): void {
    const wants = this.#parts.wants;
    [...this.shown, ...this.waiting].filter(event => !wants(event)).forEach(event => this.#forget(event));
    this.shown = this.shown.filter(wants);
    this.waiting = this.waiting.filter(wants);
    this.gaps = this.gaps.filter(gap => this.#ids.has(gap.older.id) && this.#ids.has(gap.newer.id));
    this.tell();
  }

  /** The gap above a post. While what is above it waits, nothing is put in. */
  gapAbove(post: Event): Gap | undefined {
    return this.gaps.find(gap => gap.older.id === post.id && this.shown.some(event => event.id === gap.newer.id));
  }

  /** Reads what a gap hides, or a page of it; the first of that. `before`: called before anything changes. */
  async fill(gap: Gap, before: () => void): Promise<Event | null> {
    gap.state = 'loading';
    this.tell();
    const filters = this.#parts.filters();
    const { newer, older } = gap;
    const window = filters.map(filter => ({ ...filter, since: older.created_at, until: newer.created_at }));
    const page = await this.#page(window);
    if (!page) {
      gap.state = 'failed';
      this.tell();
      return null;
    }
    before();
    const { found, whole } = page;
    this.shown = [...this.shown, ...found].sort(newestFirst);
    const oldest = found.at(-1);
    if (whole || !oldest) {
      this.gaps = this.gaps.filter(other => other !== gap);
    } else {
      gap.newer = oldest;
      gap.state = 'found';
      gap.count = gap.count === null ? null : Math.max(0, gap.count - found.length) || null;
    }
    this.tell();
    return found[0] ?? null;
  }

  /** Reads older ones. */
  async more(): Promise<void> {
    const last = this.shown.at(-1);
    if (!last || this.older === 'loading') return;
    this.older = 'loading';
    this.tell();
    const until = last.created_at;
    const page = await this.#page(this.#parts.filters().map(filter => ({ ...filter, until })));
    this.shown = [...this.shown, ...(page?.found ?? [])].sort(newestFirst);
    this.older = page?.whole ? 'none' : 'unknown';
    this.tell();
  }

  /** A page of what is stored, without what is here already; `whole`: there is no more. A second may hold more than a page. */
  async #page(filters: Filter[]): Promise<{ found: Event[]; whole: boolean } | null> {
    for (let limit = PAGE; ; limit *= 7) {
      const events = await this.#parts.line.read(filters.map(filter => ({ ...filter, limit })));
      if (!events) return null;
      const found = this.#take(events);
      const whole = events.length < limit;
      if (found.length > 0 || whole || limit > MOST) return { found, whole: whole || found.length === 0 };
    }
  }

  #newest(): Event | null {
    const all = [this.shown[0], ...this.waiting].filter(event => event !== undefined);
    return all.sort(newestFirst)[0] ?? null;
  }

  /** Those that are not here yet, newest first; from now on they are. */
  #take(events: Event[]): Event[] {
    const { wants, seen } = this.#parts;
    return events.sort(newestFirst).filter(event => {
      const subject = this.#subject(event);
      if (this.#ids.has(event.id) || this.#ids.has(subject)) return false;
      if (this.#deleted.has(`${event.pubkey} ${event.id}`) || !wants(event)) return false;
      this.#ids.add(event.id).add(subject);
      seen?.(event);
      return true;
    });
  }

  #subject = (event: Event): string => this.#parts.subject?.(event) ?? event.id;

  #forget(event: Event): void {
    this.#ids.delete(event.id);
    this.#ids.delete(this.#subject(event));
    this.gone.delete(event.id);
  }

  #live(event: Event): void {
    if (event.kind === DELETION) return this.#delete(event);
    const taken = this.#take([event]);
    if (taken.length === 0) return;
    // In an empty feed nothing is being read.
    if (this.shown.length === 0) this.shown = taken;
    else this.waiting.push(event);
    this.#bound();
    this.tell();
  }

  #stored(): void {
    const batch = this.#batch;
    if (!batch) return;
    this.#batch = null;
    batch.filter(event => event.kind === DELETION).forEach(event => this.#delete(event));
    const posts = batch.filter(event => event.kind !== DELETION).sort(newestFirst);
    const known = this.#known;
    const cut = this.#cut(posts);
    const found = this.#take(posts);
    if (this.shown.length === 0) {
      this.shown = found;
    } else {
      const last = this.shown.at(-1)!;
      // What is older than all that is shown stands below it, where nothing moves by it.
      const below = found.filter(event => newestFirst(last, event) < 0);
      this.shown = [...this.shown, ...below];
      this.waiting.push(...found.filter(event => newestFirst(last, event) >= 0));
      if (known && cut && newestFirst(cut, known) < 0) this.#missed(cut, known);
    }
    if (!cut && !this.ready) this.older = 'none';
    this.ready = true;
    this.#bound();
    this.#draw();
    this.tell();
  }

  /** Down to where an answer is whole; null: it is all there is. A filter that has as many as were asked for was cut off. */
  #cut(posts: Event[]): Event | null {
    const ends = this.#parts.filters().flatMap(({ kinds }) => {
      const of = posts.filter(event => !kinds || kinds.includes(event.kind));
      return of.length >= PAGE ? [of.at(-1)!] : [];
    });
    return ends.sort(newestFirst)[0] ?? null;
  }

  /** Draws the edge of what came since an earlier visit. */
  #draw(): void {
    if (this.#seen === 0 || this.edge) return;
    const under = this.shown.find(event => event.created_at <= this.#seen);
    if (!under || under === this.shown[0]) return;
    this.edge = { id: under.id, since: this.#seen };
    this.fresh = new Set(this.shown.filter(event => event.created_at > this.#seen).map(event => event.id));
    this.tell();
  }

  /** The answer did not reach what was known: posts are missing between the two. */
  #missed(newer: Event, older: Event, why = 'This page was away for long.'): void {
    const gap: Gap = { newer, older, count: null, why, state: 'found' };
    this.gaps.push(gap);
    const held = [...this.shown, ...this.waiting].filter(
      event => event.created_at <= newer.created_at && event.created_at >= older.created_at,
    );
    this.#parts.count?.(newer, older, held.length).then(count => {
      if (count === 0) this.gaps = this.gaps.filter(other => other !== gap);
      else gap.count = count;
      this.tell();
    });
  }

  #bound(): void {
    if (this.waiting.length <= WAITING) return;
    const left = this.waiting.sort(newestFirst).splice(WAITING / 2);
    left.forEach(event => this.#forget(event));
    this.gaps = this.gaps.filter(gap => this.#ids.has(gap.newer.id));
    const [newer, older] = [this.waiting.at(-1), this.shown[0]];
    if (newer && older) this.#missed(newer, older, 'More came than this page keeps.');
  }

  #delete(request: Event): void {
    for (const id of values(request, 'e')) {
      // A request of somebody else deletes nothing.
      this.#deleted.add(`${request.pubkey} ${id}`);
      this.waiting = this.waiting.filter(event => event.id !== id || event.pubkey !== request.pubkey);
      const shown = this.shown.find(event => event.id === id && event.pubkey === request.pubkey);
      if (shown && !this.gone.has(id)) this.gone.set(id, this.#heightOf(id));
    }
    this.tell();
  }
}

// A feed: what is shown, what waits to be, and where something is missing. Nothing that is shown moves unless a person
// asked for it, and no line is whole where something may be missing: down to its floor the feed has everything that
// belongs in it, but what its gaps hide.
import type { Answer, Line } from './line.ts';
import { DELETION, matches, newestFirst, values, type Event, type Filter, type Place } from './nostr.ts';
import { Told } from './state.ts';

/** Of a question: how many of the newest. */
const PAGE = 100;
/** Pages that are read until one of them has something to be shown. */
const PAGES = 10;
/** Most that is kept in the document after new posts were put in; older ones are a page away. */
const SHOWN = 400;
/** Most that waits. What is older then is a gap. */
const WAITING = 300;

/** How many there are, or more. */
export interface Count {
  number: number;
  isMore: boolean;
}

/** Between two places something is missing, or may be. */
export interface Gap {
  /** What stands above it is here, from this place on. */
  newer: Place;
  /** What stands below it is here, from this place on. */
  older: Place;
  /** How many; null: nobody knows. */
  count: Count | null;
  why: string;
  state: 'found' | 'loading' | 'failed';
}

export interface FeedParts {
  line: Pick<Line, 'subscribe' | 'page'>;
  /** How many an answer to a filter has at most. */
  most: number;
  /** What the feed is of, without limits. */
  filters: () => Filter[];
  /** Whether an event belongs in it, beside the filters. */
  wants: (event: Event) => boolean;
  /** How many belong in between two places that are not here; `held`: those from one to the other that are. */
  count?: (newer: Place, older: Place, held: number) => Promise<Count | null>;
  seen?: (event: Event) => void;
  /** Whether an event is worth no word: it comes along with the next that is. */
  quiet?: (event: Event) => boolean;
  /** The post that an event shows: what is reposted ten times stands there once. */
  subject?: (event: Event) => Event;
  /** The time of now by the relay's clock, in seconds since 1970. */
  now: () => number;
}

/** What comes while the line is broken may be dated so many seconds before it broke: clocks differ. */
const LATE = 60;

/** After all of a second, and before all of it. */
const LAST = 'f'.repeat(64);
const FIRST = '0'.repeat(64);

const isNewer = (a: Place, b: Place): boolean => newestFirst(a, b) < 0;

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
  older: 'unknown' | 'loading' | 'failed' | 'none' = 'unknown';
  /** Everything stored was read at least once. */
  ready = false;

  #parts: FeedParts;
  #ids = new Set<string>();
  /** What shows a post that is shown already, by the id of that: it takes its place when it goes. */
  #behind = new Map<string, Event[]>();
  #deleted = new Set<string>();
  #batch: Event[] | null = null;
  /** Down to where everything is here; null: down to the first. Undefined: nothing has been read. */
  #floor: Place | null | undefined;
  /** Up to where everything was here when the subscription was made last; null: nothing was. */
  #known: Place | null = null;
  /** The date of the newest that the relay has told: one's own posts, and those dated ahead, say nothing of what else
   *  there is. */
  #told = 0;
  /** Older than all that was read, while a page of it is read. */
  #late: Event[] = [];
  /** What is here by the filters that were before is not all by those that are now. */
  #wider = false;
  #seen = 0;
  #looked = Math.floor(Date.now() / 1000);
  #end: (() => void) | null = null;
  #heightOf: (id: string) => number = () => 0;

  constructor(parts: FeedParts) {
    super();
    this.#parts = parts;
  }

  /** How high a post stands in the window or above it, 0 where it is below. */
  measure(heightOf: (id: string) => number): void {
    this.#heightOf = heightOf;
  }

  /** What the document showed already: the newest ones. */
  begin(events: Event[]): void {
    this.ready = true;
    if (events.length === 0) return;
    this.#floor = events.toSorted(newestFirst).at(-1)!;
    events.forEach(event => this.#hear(event));
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
        this.#known = this.#told ? { created_at: this.#told - LATE, id: LAST } : null;
        return this.#questions();
      },
      event: event => (this.#batch ? this.#batch.push(event) : this.#live(event)),
      stored: more => this.#stored(more),
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

  /** The filters are others now; `wider`: they have what those before had not. */
  again(wider: boolean): void {
    this.#wider ||= wider;
    this.stop();
    this.start();
  }

  /** Puts in what waits; the first of it that is worth a word. */
  show(): Event | null {
    if (this.waiting.length === 0) return null;
    const put = this.waiting.sort(newestFirst);
    const top = this.shown[0];
    this.waiting = [];
    this.fresh = new Set(put.map(event => event.id));
    if (top) this.edge = { id: top.id, since: this.#looked };
    this.#looked = Math.floor(Date.now() / 1000);
    this.shown = [...put, ...this.shown].sort(newestFirst);
    if (this.shown.length > SHOWN) this.#raise(this.shown[SHOWN - 1]!);
    this.tell();
    const first = (event: Event) => this.fresh.has(event.id) && !this.#parts.quiet?.(event);
    return this.shown.find(first) ?? null;
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
    this.#keep(wants);
    this.tell();
  }

  /** The gap right above a post. While what stands above it waits, nothing is put in. */
  gapAbove(nth: number): Gap | undefined {
    const post = this.shown[nth]!;
    const above = this.shown[nth - 1];
    const isHere = (gap: Gap) => !isNewer(post, gap.older) && above !== undefined && isNewer(above, gap.older);
    return this.gaps.find(gap => isHere(gap) && !isNewer(gap.newer, this.shown[0]!));
  }

  /** Reads what a gap hides, or a page of it; the first of that. `before`: called before anything changes. */
  async fill(gap: Gap, before: () => void): Promise<Event | null> {
    gap.state = 'loading';
    this.tell();
    const answer = await this.#read(gap.newer, gap.older);
    if (!answer) {
      gap.state = 'failed';
      this.tell();
      return null;
    }
    // It is another one meanwhile.
    if (!this.gaps.includes(gap)) return null;
    before();
    const { events, cut } = answer;
    const found = this.#take(events);
    this.shown = [...this.shown, ...found].sort(newestFirst);
    if (!cut || !isNewer(cut, gap.older)) {
      this.gaps = this.gaps.filter(other => other !== gap);
    } else {
      gap.newer = cut;
      gap.state = 'found';
      if (gap.count && !gap.count.isMore) gap.count.number -= found.length;
      if (gap.count && gap.count.number <= 0) gap.count = null;
    }
    this.tell();
    return found[0] ?? null;
  }

  /** Reads older ones; the first of them. */
  async more(): Promise<Event | null> {
    const floor = this.#floor;
    if (!floor || this.older === 'loading') return null;
    this.older = 'loading';
    this.tell();
    const answer = await this.#read(floor, null);
    let found: Event[] = [];
    // Where it was raised meanwhile, what was read is not what follows.
    if (answer && this.#floor === floor) {
      found = this.#take(answer.events);
      this.shown = [...this.shown, ...found].sort(newestFirst);
      this.#floor = answer.cut;
    }
    this.older = this.#floor === null ? 'none' : answer ? 'unknown' : 'failed';
    this.#late.splice(0).forEach(event => this.#live(event));
    this.tell();
    return found[0] ?? null;
  }

  get #page(): number {
    return Math.min(PAGE, this.#parts.most);
  }

  /** What is asked for with a subscription. */
  #questions(): Filter[] {
    const posts = this.#parts.filters().map(filter => ({ ...filter, limit: this.#page }));
    return [...posts, ...posts.map(filter => ({ ...filter, kinds: [DELETION] }))];
  }

  /** What is stored from one place on, down to another one or to the first, as far as an answer reaches, and down to where
   *  that is all; null: no answer. */
  async #read(from: Place, to: Place | null): Promise<{ events: Event[]; cut: Place | null } | null> {
    let at = from;
    for (let page = 0, limit = this.#page; ; ) {
      const window = { until: at.created_at, ...(to ? { since: to.created_at } : {}), limit };
      const asked = this.#parts.filters().map(filter => ({ ...filter, ...window }));
      const answer = await this.#parts.line.page(asked);
      if (!answer) return null;
      let cut = cutOf(answer, asked);
      if (cut && !isNewer(at, cut)) {
        // A second holds more than a page.
        if (limit < this.#parts.most) {
          limit = Math.min(limit * 7, this.#parts.most);
          continue;
        }
        cut = { created_at: at.created_at - 1, id: FIRST };
      }
      const events = answer.events.filter(event => !cut || !isNewer(cut, event));
      const isWorth = events.some(event => !this.#ids.has(event.id) && this.#belongs(event));
      if (isWorth || !cut || (to && !isNewer(cut, to)) || ++page === PAGES) return { events, cut };
      at = cut;
      limit = this.#page;
    }
  }

  /** Those that are not here yet, newest first; from now on they are. */
  #take(events: Event[]): Event[] {
    return events.sort(newestFirst).filter(event => {
      const subject = this.#subject(event).id;
      if (this.#ids.has(event.id) || !this.#belongs(event)) return false;
      const isBehind = this.#behind.has(subject);
      this.#ids.add(event.id);
      this.#parts.seen?.(event);
      this.#behind.set(subject, [...(this.#behind.get(subject) ?? []), ...(isBehind ? [event] : [])]);
      return !isBehind;
    });
  }

  #belongs(event: Event): boolean {
    const isDeleted = ({ pubkey, id }: Event) => this.#deleted.has(`${pubkey} ${id}`);
    return this.#parts.wants(event) && !isDeleted(event) && !isDeleted(this.#subject(event));
  }

  /** Lets go of the others. */
  #keep(stays: (event: Event) => boolean): void {
    const goes = [...this.shown, ...this.waiting].filter(event => !stays(event));
    this.shown = this.shown.filter(stays);
    this.waiting = this.waiting.filter(stays);
    for (const [subject, behind] of this.#behind) {
      behind.filter(event => !stays(event)).forEach(event => this.#ids.delete(event.id));
      this.#behind.set(subject, behind.filter(stays));
    }
    goes.forEach(event => this.#forget(event));
  }

  #subject = (event: Event): Event => this.#parts.subject?.(event) ?? event;

  /** It is not here any more; what else shows its post waits to be in its place. */
  #forget(event: Event): void {
    const subject = this.#subject(event).id;
    this.#ids.delete(event.id);
    this.gone.delete(event.id);
    const [next, ...behind] = (this.#behind.get(subject) ?? []).filter(other => this.#belongs(other));
    if (next) {
      this.#behind.set(subject, behind);
      this.waiting.push(next);
    } else {
      this.#behind.delete(subject);
    }
  }

  /** The relay told of it, so everything up to there is here. */
  #hear(event: Event): void {
    this.#told = Math.max(this.#told, Math.min(event.created_at, this.#parts.now()));
  }

  /** Whether it stands where the feed reaches. */
  #reaches(place: Place): boolean {
    return !this.#floor || !isNewer(this.#floor, place);
  }

  #live(event: Event): void {
    if (event.kind === DELETION) return this.#delete(event);
    this.#hear(event);
    // What is older than all that has been read comes with its page, or came too late for it.
    if (!this.#reaches(event)) {
      if (this.older === 'loading') this.#late.push(event);
      return;
    }
    const taken = this.#take([event]);
    if (taken.length === 0) return;
    // In an empty feed nothing is being read.
    if (this.shown.length === 0) this.shown = taken;
    else this.waiting.push(event);
    this.#bound();
    this.tell();
  }

  #stored(more: boolean): void {
    const batch = this.#batch;
    if (!batch) return;
    this.#batch = null;
    batch.filter(event => event.kind === DELETION).forEach(event => this.#delete(event));
    const cut = cutOf({ events: batch, more }, this.#questions());
    const posts = batch.filter(event => event.kind !== DELETION && (!cut || !isNewer(cut, event)));
    posts.forEach(event => this.#hear(event));
    this.#reach(cut);
    const found = this.#take(posts);
    if (this.shown.length === 0) {
      this.shown = found;
    } else {
      const last = this.shown.at(-1)!;
      // What is older than all that is shown stands below it, where nothing moves by it.
      const below = found.filter(event => isNewer(last, event));
      this.shown = [...this.shown, ...below];
      this.waiting.push(...found.filter(event => !isNewer(last, event)));
    }
    if (this.#floor === null && this.older !== 'loading') this.older = 'none';
    this.ready = true;
    this.#bound();
    this.#draw();
    this.tell();
  }

  /** Everything is here down to there, and what was here before. */
  #reach(cut: Place | null): void {
    const known = this.#known;
    const wider = this.#wider;
    this.#wider = false;
    if (!cut || !known || this.#floor === undefined) {
      this.gaps = [];
      this.#floor = cut;
    } else if (wider) {
      this.gaps = [];
      this.#raise(cut);
    } else if (isNewer(cut, known)) {
      this.#missed(cut, known, 'This page was away for long.');
    } else {
      for (const gap of this.gaps) if (isNewer(gap.newer, cut)) gap.newer = cut;
      this.gaps = this.gaps.filter(gap => isNewer(gap.newer, gap.older));
      if (this.#floor && isNewer(this.#floor, cut)) this.#floor = cut;
    }
  }

  /** From now on the feed reaches down to there only. */
  #raise(floor: Place): void {
    // What a gap spans is not reached.
    const spans = this.gaps.filter(gap => isNewer(gap.newer, floor) && !isNewer(gap.older, floor));
    const to = spans.map(gap => gap.newer).concat(floor).sort(newestFirst)[0]!;
    this.gaps = this.gaps.filter(gap => isNewer(gap.older, to));
    this.#floor = { created_at: to.created_at, id: to.id };
    this.#keep(event => this.#reaches(event));
    if (this.older !== 'loading') this.older = 'unknown';
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

  /** Between these two something may be missing. */
  #missed(newer: Place, older: Place, why: string): void {
    // Gaps that meet are one.
    const meets = this.gaps.filter(gap => !isNewer(gap.older, newer) && !isNewer(older, gap.newer));
    for (const gap of meets) {
      if (isNewer(gap.newer, newer)) newer = gap.newer;
      if (isNewer(older, gap.older)) older = gap.older;
    }
    const gap: Gap = { newer, older, count: null, why, state: 'found' };
    this.gaps = [...this.gaps.filter(other => !meets.includes(other)), gap];
    const held = [...this.shown, ...this.waiting].filter(
      event => event.created_at <= newer.created_at && event.created_at >= older.created_at,
    );
    this.#parts.count?.(newer, older, held.length).then(count => {
      // It was filled meanwhile, in part.
      if (gap.newer !== newer) return;
      if (count?.number === 0) this.gaps = this.gaps.filter(other => other !== gap);
      else gap.count = count;
      this.tell();
    });
  }

  #bound(): void {
    if (this.waiting.length <= WAITING) return;
    const left = this.waiting.sort(newestFirst).splice(WAITING / 2);
    const [newer, last] = [this.waiting.at(-1)!, left.at(-1)!];
    left.forEach(event => this.#forget(event));
    const older = this.shown.find(event => isNewer(last, event));
    if (older) this.#missed(newer, older, 'More came than this page keeps.');
    else this.#raise(newer);
  }

  #delete(request: Event): void {
    for (const id of values(request, 'e')) {
      // A request of somebody else deletes nothing. What is deleted is gone where it was reposted, too.
      const isIt = (event: Event) =>
        [event, this.#subject(event)].some(one => one.id === id && one.pubkey === request.pubkey);
      this.#deleted.add(`${request.pubkey} ${id}`);
      const waits = this.waiting.filter(isIt);
      this.waiting = this.waiting.filter(event => !isIt(event));
      waits.forEach(event => this.#forget(event));
      const shown = this.shown.find(isIt);
      if (!shown || this.gone.has(shown.id)) continue;
      // A line in its place says so; what else shows the post waits.
      this.#forget(shown);
      this.#ids.add(shown.id);
      this.gone.set(shown.id, this.#heightOf(shown.id));
    }
    this.tell();
  }
}

/** Down to where an answer is whole; null: it is all there is. */
function cutOf({ events, more }: Answer, asked: Filter[]): Place | null {
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

// A feed: what is shown, what waits to be, and where something is missing. Nothing that is shown moves unless a person
// asked for it, and no line is whole where something may be missing: down to its floor the feed has everything that
// belongs in it, but what its gaps hide.
import { Here, type Belonging } from './feed/here.ts';
import { Reach, type Count, type Gap } from './feed/reach.ts';
import { cutOf, questions, read, type Source } from './feed/stored.ts';
import type { Line } from './line.ts';
import { DELETION, isNewer, newestFirst, values, type Event, type Place } from './nostr.ts';
import { Told } from './state.ts';

/** Most that is kept in the document after new posts were put in; older ones are a page away. */
const SHOWN = 400;
/** Most that waits. What is older then is a gap. */
const WAITING = 300;

export interface FeedParts extends Source, Belonging {
  line: Pick<Line, 'subscribe' | 'page'>;
  /** How many belong in between two places that are not here; `held`: those from one to the other that are. */
  count?: (newer: Place, older: Place, held: number) => Promise<Count | null>;
  /** Whether an event is worth no word: it comes along with the next that is. */
  quiet?: (event: Event) => boolean;
  /** The time of now by the relay's clock, in seconds since 1970. */
  now: () => number;
}

/** What comes while the line is broken may be dated so many seconds before it broke: clocks differ. */
const LATE = 60;

/** After all of a second. */
const LAST = 'f'.repeat(64);

export class Feed extends Told {
  /** Newest first. */
  shown: Event[] = [];
  waiting: Event[] = [];
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
  #here: Here;
  #reach = new Reach();
  #batch: Event[] | null = null;
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
    this.#here = new Here(parts);
  }

  /** How high a post stands in the window or above it, 0 where it is below. */
  measure(heightOf: (id: string) => number): void {
    this.#heightOf = heightOf;
  }

  /** What the document showed already: the newest ones. */
  begin(events: Event[]): void {
    this.ready = true;
    if (events.length === 0) return;
    this.#reach.floor = events.toSorted(newestFirst).at(-1)!;
    events.forEach(event => this.#hear(event));
    this.shown = this.#here.take(events);
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
        return questions(this.#parts);
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
    this.shown = [...this.shown, ...waited, ...this.#here.take([event])].sort(newestFirst);
    this.tell();
  }

  /** Takes those away that are not wanted any more. */
  sift(): void {
    const wants = this.#parts.wants;
    this.#keep(wants);
    this.tell();
  }

  get gaps(): Gap[] {
    return this.#reach.gaps;
  }

  /** The gap right above a post. While what stands above it waits, nothing is put in. */
  gapAbove(nth: number): Gap | undefined {
    return this.#reach.above(this.shown, nth);
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
    const found = this.#here.take(events);
    this.shown = [...this.shown, ...found].sort(newestFirst);
    this.#reach.fill(gap, cut, found.length);
    this.tell();
    return found[0] ?? null;
  }

  /** Reads older ones; the first of them. */
  async more(): Promise<Event | null> {
    const floor = this.#reach.floor;
    if (!floor || this.older === 'loading') return null;
    this.older = 'loading';
    this.tell();
    const answer = await this.#read(floor, null);
    let found: Event[] = [];
    // Where it was raised meanwhile, what was read is not what follows.
    if (answer && this.#reach.floor === floor) {
      found = this.#here.take(answer.events);
      this.shown = [...this.shown, ...found].sort(newestFirst);
      this.#reach.floor = answer.cut;
    }
    this.older = this.#reach.floor === null ? 'none' : answer ? 'unknown' : 'failed';
    this.#late.splice(0).forEach(event => this.#live(event));
    this.tell();
    return found[0] ?? null;
  }

  #read(from: Place, to: Place | null): ReturnType<typeof read> {
    return read(this.#parts, from, to, event => this.#here.isMissing(event));
  }

  /** Lets go of the others. */
  #keep(stays: (event: Event) => boolean): void {
    const goes = [...this.shown, ...this.waiting].filter(event => !stays(event));
    this.shown = this.shown.filter(stays);
    this.waiting = this.waiting.filter(stays);
    this.#here.keep(stays);
    goes.forEach(event => this.#forget(event));
  }

  /** It is not here any more; what else shows its post waits to be in its place. */
  #forget(event: Event): void {
    this.gone.delete(event.id);
    const next = this.#here.forget(event);
    if (next) this.waiting.push(next);
  }

  /** The relay told of it, so everything up to there is here. */
  #hear(event: Event): void {
    this.#told = Math.max(this.#told, Math.min(event.created_at, this.#parts.now()));
  }

  #live(event: Event): void {
    if (event.kind === DELETION) return this.#delete(event);
    this.#hear(event);
    // What is older than all that has been read comes with its page, or came too late for it.
    if (!this.#reach.covers(event)) {
      if (this.older === 'loading') this.#late.push(event);
      return;
    }
    const taken = this.#here.take([event]);
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
    const cut = cutOf({ events: batch, more }, questions(this.#parts));
    const posts = batch.filter(event => event.kind !== DELETION && (!cut || !isNewer(cut, event)));
    posts.forEach(event => this.#hear(event));
    this.#answered(cut);
    const found = this.#here.take(posts);
    if (this.shown.length === 0) {
      this.shown = found;
    } else {
      const last = this.shown.at(-1)!;
      // What is older than all that is shown stands below it, where nothing moves by it.
      const below = found.filter(event => isNewer(last, event));
      this.shown = [...this.shown, ...below];
      this.waiting.push(...found.filter(event => !isNewer(last, event)));
    }
    if (this.#reach.floor === null && this.older !== 'loading') this.older = 'none';
    this.ready = true;
    this.#bound();
    this.#draw();
    this.tell();
  }

  /** Everything is here down to there, and what was here before. */
  #answered(cut: Place | null): void {
    const known = this.#known;
    const wider = this.#wider;
    this.#wider = false;
    if (!cut || !known || this.#reach.floor === undefined) {
      this.#reach.begin(cut);
    } else if (wider) {
      this.#reach.gaps = [];
      this.#raise(cut);
    } else if (isNewer(cut, known)) {
      this.#missed(cut, known, 'This page was away for long.');
    } else {
      this.#reach.extend(cut);
    }
  }

  /** From now on the feed reaches down to there only. */
  #raise(floor: Place): void {
    this.#reach.raise(floor);
    this.#keep(event => this.#reach.covers(event));
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

  /** Between these two something may be missing: a gap, and how many it hides. */
  #missed(from: Place, to: Place, why: string): void {
    const gap = this.#reach.miss(from, to, why);
    const { newer, older } = gap;
    const held = [...this.shown, ...this.waiting].filter(
      event => event.created_at <= newer.created_at && event.created_at >= older.created_at,
    );
    this.#parts.count?.(newer, older, held.length).then(count => {
      // It was filled meanwhile, in part.
      if (gap.newer !== newer) return;
      if (count?.number === 0) this.#reach.drop(gap);
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
        [event, this.#here.subject(event)].some(one => one.id === id && one.pubkey === request.pubkey);
      this.#here.bar(request.pubkey, id);
      const waits = this.waiting.filter(isIt);
      this.waiting = this.waiting.filter(event => !isIt(event));
      waits.forEach(event => this.#forget(event));
      const shown = this.shown.find(isIt);
      if (!shown || this.gone.has(shown.id)) continue;
      // A line in its place says so; what else shows the post waits.
      this.#forget(shown);
      this.#here.hold(shown);
      this.gone.set(shown.id, this.#heightOf(shown.id));
    }
    this.tell();
  }
}

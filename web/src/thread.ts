// A thread: the post, what it answers and what answers it, as it grows.
import type { Line } from './line.ts';
import { answers, DELETION, NOTE, newestFirst, isHex, values, type Event } from './nostr.ts';
import type { People } from './people.ts';
import { Told } from './state.ts';

const MOST = 200;
/** Posts that come within so many milliseconds are asked of together. */
const MOMENT = 100;

export class Thread extends Told {
  above: Event[] = [];
  post: Event | null = null;
  /** Each after what it answers, oldest first, and how deep it stands: 1 is an answer to the post. */
  below: { event: Event; depth: number }[] = [];
  ready = false;
  /** Deleted while they were shown, and how high they were. */
  gone = new Map<string, number>();

  #line: Line;
  #people: People;
  #id: string;
  #all = new Map<string, Event>();
  #wanted = new Set<string>();
  #ends: (() => void)[] = [];
  #timer = 0;
  #heightOf: (id: string) => number = () => 0;

  constructor(line: Line, people: People, id: string) {
    super();
    this.#line = line;
    this.#people = people;
    this.#id = id;
  }

  begin(events: Event[]): void {
    events.forEach(event => this.#all.set(event.id, event));
    this.#sort();
    this.ready = true;
  }

  /** How high a post stands in the window or above it, 0 where it is below. */
  measure(heightOf: (id: string) => number): void {
    this.#heightOf = heightOf;
  }

  start(): void {
    const end = this.#line.subscribe({
      filters: () => [{ ids: [this.#id] }, { kinds: [NOTE], '#e': [this.#id], limit: MOST }],
      event: event => event.kind === NOTE && this.put(event),
      stored: () => {
        this.ready = true;
        this.tell();
      },
    });
    this.#ends = [end];
    this.#deletions();
    this.#ancestors();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#ends.forEach(end => end());
    this.#ends = [];
  }

  put(event: Event): void {
    if (this.#all.has(event.id)) return;
    this.#all.set(event.id, event);
    this.#people.expect(event);
    this.#sort();
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.#deletions(), MOMENT);
    this.#ancestors();
    this.tell();
  }

  /** Hears what is deleted of all that is here, which is asked for anew when there is more. */
  #deletions(): void {
    const [thread, before] = this.#ends;
    if (!thread) return;
    const end = this.#line.subscribe({
      filters: () => [{ kinds: [DELETION], '#e': [...new Set([this.#id, ...this.#all.keys()])].slice(0, 2 * MOST) }],
      event: request => {
        for (const id of values(request, 'e')) {
          // A request of somebody else deletes nothing.
          if (this.#all.get(id)?.pubkey === request.pubkey && !this.gone.has(id)) this.gone.set(id, this.#heightOf(id));
        }
        this.tell();
      },
    });
    before?.();
    this.#ends = [thread, end];
  }

  #sort(): void {
    this.post = this.#all.get(this.#id) ?? null;
    const ancestors = new Set(this.post ? values(this.post, 'e') : []);
    const oldestFirst = (a: Event, b: Event) => -newestFirst(a, b);
    const others = [...this.#all.values()].filter(event => event.id !== this.#id);
    this.above = others.filter(event => ancestors.has(event.id)).sort(oldestFirst);
    this.below = nested(this.#id, others.filter(event => !ancestors.has(event.id)).sort(oldestFirst));
  }

  /** What the post answers is asked for once. */
  async #ancestors(): Promise<void> {
    if (!this.post) return;
    const ids = values(this.post, 'e').filter(id => isHex(id) && !this.#all.has(id) && !this.#wanted.has(id)).slice(0, 20);
    if (ids.length === 0) return;
    ids.forEach(id => this.#wanted.add(id));
    for (const event of (await this.#line.read([{ ids }])) ?? []) if (event.kind === NOTE) this.put(event);
  }
}

/** Puts answers below what they answer. What answers something that is not here stands at the post itself. */
function nested(post: string, oldestFirst: Event[]): { event: Event; depth: number }[] {
  const here = new Set(oldestFirst.map(event => event.id));
  const below = Map.groupBy(oldestFirst, event => {
    const parent = answers(event)?.id;
    return parent && here.has(parent) ? parent : post;
  });
  const open = (id: string, depth: number): { event: Event; depth: number }[] =>
    (below.get(id) ?? []).flatMap(event => [{ event, depth }, ...open(event.id, depth + 1)]);
  return open(post, 1);
}

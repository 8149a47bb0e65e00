// What of a feed is here, shown or waiting: each post once, whoever hands it on, and nothing that was deleted.
import { newestFirst, type Event } from '../nostr.ts';

/** What belongs in a feed. */
export interface Belonging {
  /** Whether an event belongs in it, beside the filters. */
  wants: (event: Event) => boolean;
  seen?: (event: Event) => void;
  /** The post that an event shows: what is reposted ten times stands there once. */
  subject?: (event: Event) => Event;
}

export class Here {
  #parts: Belonging;
  #ids = new Set<string>();
  /** What shows a post that is shown already, by the id of that: it takes its place when it goes. */
  #behind = new Map<string, Event[]>();
  #deleted = new Set<string>();

  constructor(parts: Belonging) {
    this.#parts = parts;
  }

  subject(event: Event): Event {
    return this.#parts.subject?.(event) ?? event;
  }

  /** It belongs in the feed, and is not here. */
  isMissing(event: Event): boolean {
    return !this.#ids.has(event.id) && this.#belongs(event);
  }

  /** Those that are not here yet, newest first; from now on they are. */
  take(events: Event[]): Event[] {
    return events.sort(newestFirst).filter(event => {
      const subject = this.subject(event).id;
      if (!this.isMissing(event)) return false;
      const isBehind = this.#behind.has(subject);
      this.#ids.add(event.id);
      this.#parts.seen?.(event);
      this.#behind.set(subject, [...(this.#behind.get(subject) ?? []), ...(isBehind ? [event] : [])]);
      return !isBehind;
    });
  }

  /** It counts as here, so that it is not taken again. */
  hold(event: Event): void {
    this.#ids.add(event.id);
  }

  /** It is not here any more; what else shows its post is to be in its place. */
  forget(event: Event): Event | undefined {
    const subject = this.subject(event).id;
    this.#ids.delete(event.id);
    const [next, ...behind] = (this.#behind.get(subject) ?? []).filter(other => this.#belongs(other));
    if (next) this.#behind.set(subject, behind);
    else this.#behind.delete(subject);
    return next;
  }

  /** Lets go of the others that stand behind. */
  keep(stays: (event: Event) => boolean): void {
    for (const [subject, behind] of this.#behind) {
      behind.filter(event => !stays(event)).forEach(event => this.#ids.delete(event.id));
      this.#behind.set(subject, behind.filter(stays));
    }
  }

  /** Its author has deleted it. */
  bar(author: string, id: string): void {
    this.#deleted.add(`${author} ${id}`);
  }

  #belongs(event: Event): boolean {
    const isDeleted = ({ pubkey, id }: Event) => this.#deleted.has(`${pubkey} ${id}`);
    return this.#parts.wants(event) && !isDeleted(event) && !isDeleted(this.subject(event));
  }
}

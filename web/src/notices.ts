// What concerns whoever sits here: read from the relay, and heard as it happens.
import type { Line } from './line.ts';
import { FOLLOWS, isHex, newestFirst, NOTE, REACTION, REPOST, values, type Event } from './nostr.ts';
import { people } from './app.ts';
import { self } from './self.ts';
import { Told } from './state.ts';
import { Wanted } from './wanted.ts';

const MOST = 100;
/** Followers that are remembered to be known, by so many signs of their keys. */
const FOLLOWERS = 2_000;
const SIGNS = 12;

class Notices extends Told {
  ready = false;
  /** The date of the newest that was looked at. */
  seen = 0;

  /** Who is known to follow: their lists are told again whenever they change, and are no news. */
  #followers = new Set<string>();
  #all: Event[] = [];
  /** The posts that these are about; null: it is not here. */
  #posts = new Map<string, Event | null>();
  #wanted = new Wanted(async ids => {
    const events = (await this.#line?.read([{ ids }])) ?? null;
    if (!events) return false;
    ids.forEach(id => this.#posts.set(id, events.find(event => event.id === id) ?? null));
    this.tell();
    return true;
  });
  #line: Line | null = null;
  #account = '';
  #end: (() => void) | null = null;

  start(line: Line): void {
    this.#line = line;
    self.hear(() => this.#renew());
    this.#renew();
  }

  /** Newest first, without those of people who are muted. */
  get all(): Event[] {
    return this.#all.filter(event => !self.hasMuted(event.pubkey));
  }

  /** The post that a reaction or a repost is about; null: it is not here, undefined: it is being asked for. */
  about(notice: Event): Event | null | undefined {
    const id = values(notice, 'e').at(-1);
    if (!isHex(id)) return null;
    this.#wanted.want(id);
    return this.#posts.get(id);
  }

  get unread(): number {
    return this.folded().filter(({ event }) => event.created_at > this.seen).length;
  }

  /** These were looked at. */
  read(looked: Event[]): void {
    const newest = looked[0]?.created_at ?? 0;
    if (newest <= this.seen) return;
    this.seen = newest;
    try {
      localStorage.setItem(`rookery-noticed-${this.#account}`, String(newest));
      const followers = looked.filter(event => event.kind === FOLLOWS).map(event => event.pubkey.slice(0, SIGNS));
      const known = [...new Set([...followers, ...this.#followers])].slice(0, FOLLOWERS);
      localStorage.setItem(`rookery-followers-${this.#account}`, known.join());
    } catch {
      // They are new again next time.
    }
    this.tell();
  }

  /** Reactions to one post are one notice. */
  folded(of = this.all): { event: Event; others: number }[] {
    const folded: { event: Event; others: number; about: string }[] = [];
    for (const event of of) {
      const about = event.kind === REACTION ? `${event.kind} ${values(event, 'e').at(-1)}` : '';
      const same = about && folded.find(one => one.about === about);
      if (same) same.others++;
      else folded.push({ event, others: 0, about });
    }
    return folded;
  }

  #renew(): void {
    const account = self.me?.userId ?? '';
    // Whom somebody has muted may be others now.
    if (account === this.#account) return this.tell();
    this.#end?.();
    this.#end = null;
    this.#account = account;
    this.#all = [];
    this.ready = false;
    try {
      this.seen = Number(localStorage.getItem(`rookery-noticed-${account}`)) || 0;
      this.#followers = new Set(localStorage.getItem(`rookery-followers-${account}`)?.split(','));
    } catch {
      this.seen = 0;
      this.#followers = new Set();
    }
    if (account && this.#line) {
      this.#end = this.#line.subscribe({
        filters: () => [{ kinds: [NOTE, REPOST, REACTION, FOLLOWS], '#p': [account], limit: MOST }],
        event: event => this.#put(event),
        stored: () => {
          this.ready = true;
          this.tell();
        },
      });
    }
    this.tell();
  }

  #put(event: Event): void {
    if (event.pubkey === this.#account || !values(event, 'p').includes(this.#account)) return;
    if (this.#all.some(other => other.id === event.id)) return;
    if (event.kind === FOLLOWS) {
      const told = this.#all.some(other => other.kind === FOLLOWS && other.pubkey === event.pubkey);
      if (told || this.#followers.has(event.pubkey.slice(0, SIGNS))) return;
    }
    people.expect(event);
    this.#all = [...this.#all, event].sort(newestFirst).slice(0, 2 * MOST);
    this.tell();
  }
}

export const notices = new Notices();

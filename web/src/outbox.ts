// Posts on their way: they stand on the branch until the relay has them, and are sent again as the same event, so never
// twice. They are kept in this tab, under the account.
import { ask, Problem } from './api.ts';
import type { Line } from './line.ts';
import { idOf, NOTE, type Event, type Unsigned } from './nostr.ts';
import { self } from './self.ts';
import { Told } from './state.ts';

export interface Pending {
  id: string;
  event: Unsigned;
  state: 'waiting' | 'sending' | 'failed';
  /** Why it was not sent. */
  why: string;
  /** When it is tried again by itself. */
  again: number;
}

class Outbox extends Told {
  pending: Pending[] = [];
  /** The relay has it. */
  taken: (event: Event) => void = () => {};

  #line: Line | null = null;
  #account = '';
  #timer = 0;

  start(line: Line): void {
    this.#line = line;
    this.#load();
    self.hear(() => this.#load());
    line.hear(() => line.state === 'live' && this.#flush());
  }

  post(content: string, tags: string[][] = [], kind = NOTE): Pending {
    const event = { pubkey: self.me!.userId, created_at: Math.floor(Date.now() / 1000), kind, tags, content };
    const pending: Pending = { id: idOf(event), event, state: 'waiting', why: '', again: 0 };
    this.pending = [pending, ...this.pending];
    this.#save();
    void this.send(pending);
    return pending;
  }

  cancel(pending: Pending): void {
    this.pending = this.pending.filter(other => other !== pending);
    this.#save();
  }

  async send(pending: Pending): Promise<void> {
    if (pending.state === 'sending') return;
    if (this.#line?.state !== 'live') {
      pending.state = 'waiting';
      this.#save();
      return;
    }
    pending.state = 'sending';
    pending.again = 0;
    this.tell();
    try {
      const { pubkey: _, ...unsigned } = pending.event;
      const { event } = await ask<{ event: Event }>('POST', '/posts', unsigned);
      this.cancel(pending);
      this.taken(event);
    } catch (error) {
      this.#failed(pending, error);
    }
    this.#save();
  }

  #failed(pending: Pending, error: unknown): void {
    const problem = error instanceof Problem ? error : new Problem(0, {});
    pending.state = 'failed';
    if (self.ended(error)) pending.why = 'you were signed out';
    else if (problem.word === 'slow-down') {
      pending.why = 'too many posts in a minute. It goes out by itself';
      this.#later(pending, problem.seconds || 20);
    } else if (problem.word === 'away' || problem.word === 'busy' || problem.status >= 500) {
      pending.state = 'waiting';
      this.#later(pending, 5);
    } else pending.why = `it says: “${problem.message}”`;
  }

  #later(pending: Pending, seconds: number): void {
    pending.again = Date.now() + seconds * 1_000;
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.#flush(), seconds * 1_000 + 50);
  }

  #flush(): void {
    for (const pending of this.pending.toReversed()) {
      const due = pending.again > 0 && pending.again <= Date.now();
      if (pending.state === 'waiting' ? pending.again <= Date.now() : due) void this.send(pending);
    }
  }

  #key = (): string => `rookery-outbox-${this.#account}`;

  #load(): void {
    const account = self.me?.userId ?? '';
    if (account === this.#account) return;
    this.#account = account;
    this.pending = [];
    try {
      const kept = account ? sessionStorage.getItem(this.#key()) : null;
      const pending: Pending[] = kept ? JSON.parse(kept) : [];
      this.pending = pending.map(one => (one.state === 'sending' ? { ...one, state: 'waiting' } : one));
    } catch {
      // Nothing is kept.
    }
    this.tell();
    this.#flush();
  }

  #save(): void {
    try {
      if (this.pending.length > 0) sessionStorage.setItem(this.#key(), JSON.stringify(this.pending));
      else sessionStorage.removeItem(this.#key());
    } catch {
      // It is kept while the page is open.
    }
    this.tell();
  }
}

export const outbox = new Outbox();

// Posts on their way: they stand on the branch until the relay has them, and are sent again as the same event, so never
// twice. They are kept in this tab, under the account.
import { ask, Problem } from './api.ts';
import { relayNow } from './clock.ts';
import type { Line } from './line.ts';
import { idOf, NOTE, type Event, type Unsigned } from './nostr.ts';
import { say } from './say.ts';
import { self } from './self.ts';
import { Told } from './state.ts';
import { toast } from './toast.ts';

const now = (): number => Math.floor(Date.now() / 1000);

export interface Pending {
  id: string;
  event: Unsigned;
  /** Where it was written: under the post that it answers, or at home. */
  about: string;
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
  /** The same, of what is no post. */
  done: (event: Event) => void = () => {};

  #line: Line | null = null;
  #account = '';
  #timer = 0;

  start(line: Line): void {
    this.#line = line;
    this.#load();
    self.hear(() => this.#load());
    line.hear(() => line.state === 'live' && this.#flush());
  }

  post(content: string, tags: string[][] = [], kind = NOTE, about = 'home'): Pending {
    const event = { pubkey: self.me!.userId, created_at: now(), kind, tags, content };
    const pending: Pending = { id: idOf(event), event, about, state: 'waiting', why: '', again: 0 };
    this.pending = [pending, ...this.pending];
    this.#save();
    void this.send(pending);
    return pending;
  }

  /** Whether a reaction to a post, or a repost of it, is on its way. */
  isUnderWay(kind: number, post: string): boolean {
    return this.pending.some(({ event }) => event.kind === kind && event.tags.some(tag => tag[0] === 'e' && tag[1] === post));
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
      if (event.kind === NOTE) say('Posted');
      (event.kind === NOTE ? this.taken : this.done)(event);
    } catch (error) {
      this.#failed(pending, error);
    }
    this.#save();
  }

  #failed(pending: Pending, error: unknown): void {
    const problem = error instanceof Problem ? error : new Problem(0, {});
    pending.state = 'failed';
    if (problem.field === 'created_at') {
      // It has waited for too long, or the clock of this device is wrong. The relay has looked: it has it not.
      this.#dateAnew(pending, problem);
      return;
    }
    if (self.ended(error)) pending.why = 'you were signed out';
    else if (problem.word === 'slow-down') {
      pending.why = 'too many posts in a minute. It goes out by itself';
      this.#later(pending, problem.seconds || 20);
    } else if (problem.word === 'away' || problem.word === 'busy' || problem.status >= 500) {
      pending.state = 'waiting';
      this.#later(pending, 5);
    } else pending.why = `it says: “${problem.message}”`;
    if (pending.state !== 'failed') return;
    if (pending.event.kind === NOTE) return say(`Not sent: ${pending.why}.`);
    // Nothing stands for it that could be pressed.
    if (pending.again > 0) return;
    this.cancel(pending);
    toast.show({ text: `That did not work: ${pending.why}.` });
  }

  #dateAnew(pending: Pending, problem: Problem): void {
    const at = relayNow();
    if (Math.abs(at - pending.event.created_at) < 60) {
      pending.why = `it says: “${problem.message}”`;
      return;
    }
    pending.event = { ...pending.event, created_at: at };
    pending.id = idOf(pending.event);
    pending.state = 'waiting';
    this.#later(pending, 0);
  }

  #later(pending: Pending, seconds: number): void {
    pending.again = Date.now() + seconds * 1_000;
    this.#schedule();
  }

  /** Tries again when the first of them is due. */
  #schedule(): void {
    clearTimeout(this.#timer);
    const due = this.pending.map(one => one.again).filter(again => again > 0);
    if (due.length === 0) return;
    this.#timer = window.setTimeout(() => {
      this.#flush();
      this.#schedule();
    }, Math.max(50, Math.min(...due) - Date.now() + 50));
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
      this.#schedule();
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

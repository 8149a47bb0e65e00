// Who sits at this page: signed in with an account of this relay, or nobody.
import { ask, Problem } from './api.ts';
import { first, type Activity, type Me } from './first.ts';
import { AUTH, FOLLOWS, isHex, MUTES, values, type Event } from './nostr.ts';
import type { Line } from './line.ts';
import { Told } from './state.ts';

interface SignedIn {
  userId: string;
  username: string;
  npub: string;
}

class Self extends Told {
  me: Me | null = first.me;
  /** Whom they follow; null: not known yet. */
  follows: Set<string> | null = null;
  /** Whom they have muted; null: not known yet. */
  mutes: Set<string> | null = null;
  /** Ended by somebody else, or by its age: what was being written stays. */
  endedElsewhere = false;

  #line: Line | null = null;
  /** When the lists were written that are known. */
  #written = { follows: 0, mutes: 0 };
  #end: (() => void) | null = null;

  start(line: Line): void {
    this.#line = line;
    line.start(challenge => this.#sign(challenge));
    this.#hear();
  }

  async signIn(username: string, password: string): Promise<void> {
    await this.#enter(await ask<SignedIn>('POST', '/auth/sign-in', { username, password }));
  }

  async signUp(wanted: { username: string; password: string; activity: Activity; listed: boolean; invitation?: string }): Promise<void> {
    await this.#enter(await ask<SignedIn>('POST', '/auth/sign-up', { ...wanted, passwordConfirm: wanted.password }));
  }

  async signOut(): Promise<void> {
    await ask('POST', '/auth/sign-out').catch(error => {
      if (!(error instanceof Problem && error.status === 401)) throw error;
    });
    this.#leave(false);
  }

  /** Removes the account. `vanish`: all relays are asked to remove what it has said. */
  async leave(password: string, vanish: boolean): Promise<void> {
    await ask('POST', '/me/leave', { password, vanish });
    this.#leave(false);
  }

  async set(settings: { activity?: Activity; listed?: boolean }): Promise<void> {
    this.me = { ...this.me!, ...(await ask<Me>('PUT', '/settings', settings)) };
    this.tell();
  }

  /** `confirm`: the list from which it goes on, where that is a lot shorter than it was. */
  follow = (key: string, confirm = ''): Promise<void> => this.#change('follows', key, true, confirm);
  unfollow = (key: string, confirm = ''): Promise<void> => this.#change('follows', key, false, confirm);
  mute = (key: string): Promise<void> => this.#change('mutes', key, true);
  unmute = (key: string): Promise<void> => this.#change('mutes', key, false);
  hasMuted = (key: string): boolean => key !== this.me?.userId && (this.mutes?.has(key) ?? false);

  /** Shown at once, and taken back where the relay does not take it. */
  async #change(list: 'follows' | 'mutes', key: string, on: boolean, confirm = ''): Promise<void> {
    const was = this[list]?.has(key) ?? false;
    const change = (on: boolean) => {
      const keys = new Set(this[list]);
      if (on) keys.add(key);
      else keys.delete(key);
      this[list] = keys;
      this.tell();
    };
    change(on);
    try {
      const path = `/${list === 'follows' ? 'friends' : 'mutes'}/${key}`;
      await ask(on ? 'POST' : 'DELETE', confirm ? `${path}?confirm=${confirm}` : path);
    } catch (error) {
      change(was);
      this.ended(error);
      throw error;
    }
  }

  /** Whether a failure means that the session is over: a password that is asked for again may be a wrong one. */
  ended(error: unknown): boolean {
    const over = error instanceof Problem && error.status === 401 && error.word !== 'wrong-password' && this.me !== null;
    if (over) this.#leave(true);
    return over;
  }

  async #enter(signedIn: SignedIn): Promise<void> {
    this.me = { activity: 'nobody', listed: false, ...signedIn };
    this.endedElsewhere = false;
    this.#renew();
    this.me = { ...this.me, ...(await ask<Me>('GET', '/me').catch(() => null)) };
    this.tell();
  }

  #leave(elsewhere: boolean): void {
    this.me = null;
    this.endedElsewhere = elsewhere;
    this.#renew();
  }

  #renew(): void {
    this.follows = null;
    this.mutes = null;
    this.#written = { follows: 0, mutes: 0 };
    this.#line?.renew();
    this.#hear();
    this.tell();
  }

  /** Whom they follow and whom they have muted, as it is now and as it changes, whoever changes it. */
  #hear(): void {
    this.#end?.();
    this.#end = null;
    const me = this.me;
    if (!me || !this.#line) return;
    this.#end = this.#line.subscribe({
      filters: () => [FOLLOWS, MUTES].map(kind => ({ kinds: [kind], authors: [me.userId], limit: 1 })),
      event: event => this.#list(event.kind === FOLLOWS ? 'follows' : 'mutes', event),
      stored: () => {
        this.follows ??= new Set();
        this.mutes ??= new Set();
        this.tell();
      },
    });
  }

  #list(list: 'follows' | 'mutes', event: Event): void {
    if (event.pubkey !== this.me?.userId || event.created_at < this.#written[list]) return;
    this.#written[list] = event.created_at;
    this[list] = new Set(values(event, 'p').filter(isHex));
    this.tell();
  }

  /** The socket is this person's: the relay signs what it asks for itself. */
  async #sign(challenge: string): Promise<Event | null> {
    if (!this.me) return null;
    try {
      const { event } = await ask<{ event: Event }>('POST', '/auth/socket', { challenge });
      return event.kind === AUTH ? event : null;
    } catch (error) {
      if (this.ended(error)) return null;
      throw error;
    }
  }
}

export const self = new Self();

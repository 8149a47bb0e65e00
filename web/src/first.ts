// What the relay put into the document.
import type { Event, Filter } from './nostr.ts';

export interface Relay {
  name: string;
  description: string;
  address: string;
  host: string;
  contact: string;
  nips: number[];
  max_message_bytes: number;
  max_subscriptions: number;
  max_limit: number;
  max_ahead_seconds: number;
  write: string;
  version: string;
  /** What strangers see; null: nothing. */
  live: Filter[] | null;
}

export interface Person {
  name?: string | null;
  about?: string | null;
  username?: string | null;
}

/** Somebody with an account here. */
export interface User extends Person {
  userId: string;
}

export type Activity = 'nobody' | 'friends' | 'followers';

export interface Me {
  userId: string;
  npub: string;
  username: string;
  activity: Activity;
  listed: boolean;
  /** When the password was set anew by leave of whoever runs the relay, in seconds since 1970. */
  passwordReset?: number;
}

export interface Accounts {
  open: 'everybody' | 'invitation' | 'closed';
}

interface Shown {
  events: Event[];
  profiles: Record<string, Person>;
}

export type Screen =
  | ({ name: 'landing' } & Shown)
  | ({ name: 'home' } & Shown)
  | ({ name: 'person'; pubkey: string; npub: string } & Shown)
  | ({ name: 'thread'; id: string } & Shown)
  | { name: 'missing'; what: string }
  | { name: 'late' };

export interface First {
  relay: Relay;
  screen: Screen;
  now: number;
  me: Me | null;
  accounts: Accounts | null;
}

export const first: First = JSON.parse(document.querySelector<HTMLMetaElement>('meta[name=first]')!.content);

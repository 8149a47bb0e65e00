// What is being written is not lost: it is kept in this tab, under the account and what it answers. Who signs out takes it
// away; who is signed out finds it again.
import { Told } from './state.ts';

export interface Draft {
  text: string;
  /** What is said of it before it is seen; null: nothing. */
  reason: string | null;
}

const NONE: Draft = { text: '', reason: null };

const key = (account: string, about: string): string => `rookery-draft-${account}-${about}`;

class Drafts extends Told {
  of(account: string, about: string): Draft {
    try {
      return { ...NONE, ...JSON.parse(sessionStorage.getItem(key(account, about)) ?? '{}') };
    } catch {
      return NONE;
    }
  }

  keep(account: string, about: string, draft: Draft): void {
    try {
      if (draft.text) sessionStorage.setItem(key(account, about), JSON.stringify(draft));
      else sessionStorage.removeItem(key(account, about));
    } catch {
      // It is kept while the page is open.
    }
  }

  /** Puts something back to be written on. */
  putBack(account: string, about: string, draft: Draft): void {
    this.keep(account, about, draft);
    this.tell();
  }
}

export const drafts = new Drafts();

/** On a shared computer the next person must not read it. */
export function clear(account: string): void {
  try {
    for (const name of Object.keys(sessionStorage)) {
      if (name.startsWith(`rookery-draft-${account}-`) || name === `rookery-outbox-${account}`) sessionStorage.removeItem(name);
    }
  } catch {
    // There is nothing.
  }
}

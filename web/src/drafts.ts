// What is being written is not lost: it is kept in this tab, under the account and what it answers. Who signs out takes it
// away; who is signed out finds it again.

const key = (account: string, about: string): string => `rookery-draft-${account}-${about}`;

export function draft(account: string, about: string): string {
  try {
    return sessionStorage.getItem(key(account, about)) ?? '';
  } catch {
    return '';
  }
}

export function keep(account: string, about: string, text: string): void {
  try {
    if (text) sessionStorage.setItem(key(account, about), text);
    else sessionStorage.removeItem(key(account, about));
  } catch {
    // It is kept while the page is open.
  }
}

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

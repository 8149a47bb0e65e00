// Which screen an address is of, and how one is gone to.
import { decode } from './nostr.ts';
import { Told } from './state.ts';

export type Route =
  | { name: 'home' }
  | { name: 'sign-in' }
  | { name: 'sign-up' }
  | { name: 'reset' }
  | { name: 'people' }
  | { name: 'notices' }
  | { name: 'settings' }
  | { name: 'person'; key: string }
  | { name: 'thread'; id: string }
  | { name: 'missing' };

export function routeOf(path: string): Route {
  const name = path.slice(1);
  if (name === '') return { name: 'home' };
  if (name === 'join') return { name: 'sign-up' };
  if (name === 'reset' || name === 'sign-in' || name === 'sign-up' || name === 'people' || name === 'notices' || name === 'settings') {
    return { name };
  }
  const code = decode(name.toLowerCase());
  if (!code) return { name: 'missing' };
  return 'person' in code ? { name: 'person', key: code.person } : { name: 'thread', id: code.post };
}

class Place extends Told {
  route = routeOf(location.pathname);
  path = location.pathname;
  /** Where each screen was scrolled to. */
  #scrolled = new Map<string, number>();

  /** Whether the script draws: else every address is a document of the relay. */
  #draws = false;

  /** From now on the script draws what is gone to. */
  start(): void {
    this.#draws = true;
    history.scrollRestoration = 'manual';
    addEventListener('popstate', () => this.#arrive(this.#scrolled.get(location.pathname) ?? 0));
    document.addEventListener('click', event => this.#clicked(event));
  }

  /** `hash`: `#reply`, to write an answer there. */
  go(path: string, hash = ''): void {
    if (!this.#draws) return location.assign(path + hash);
    if (path !== location.pathname || hash !== location.hash) history.pushState(null, '', path + hash);
    this.#arrive(0);
  }

  #arrive(scroll: number): void {
    const hash = location.hash.slice(1);
    if (this.path !== location.pathname) {
      this.#scrolled.set(this.path, scrollY);
      this.path = location.pathname;
      this.route = routeOf(this.path);
      this.tell();
      // When the screen is drawn; focus follows the person.
      setTimeout(() => {
        const target = hash ? document.getElementById(hash) : null;
        if (target) target.scrollIntoView();
        else scrollTo(0, scroll);
        if (hash !== 'reply' || !focusReply()) document.getElementById('main')?.focus({ preventScroll: true });
      });
    } else if (hash === 'reply') {
      focusReply();
    } else if (!hash) {
      scrollTo({ top: 0 });
    }
  }

  #clicked(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element).closest?.('a');
    if (!link || link.target || link.hasAttribute('download')) return;
    const url = new URL(link.href);
    if (url.origin !== location.origin || (url.hash && url.hash !== '#reply') || routeOf(url.pathname).name === 'missing') return;
    event.preventDefault();
    this.go(url.pathname, url.hash);
  }
}

/** Where an answer is written, if it is there already. */
function focusReply(): boolean {
  const field = document.querySelector<HTMLElement>('.composer textarea');
  field?.focus();
  return field !== null;
}

export const place = new Place();

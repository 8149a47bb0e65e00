// How a person wants the page: the theme stands in a cookie, so that the relay writes it before anything is painted.
import { Told } from './state.ts';

export type Theme = 'system' | 'light' | 'dark';

class Look extends Told {
  theme: Theme = (document.documentElement.dataset['theme'] as Theme | undefined) ?? 'system';
  /** Whether single keys do something. */
  keys = read('keys') !== 'off';
  /** Whether the feed shows posts alone. */
  postsOnly = read('posts-only') === 'on';

  setTheme(theme: Theme): void {
    this.theme = theme;
    const root = document.documentElement;
    if (theme === 'system') delete root.dataset['theme'];
    else root.dataset['theme'] = theme;
    const age = theme === 'system' ? 0 : 31_536_000;
    document.cookie = `rookery-theme=${theme}; Path=/; SameSite=Lax; Max-Age=${age}`;
    this.tell();
  }

  setKeys(on: boolean): void {
    this.keys = on;
    write('keys', on ? 'on' : 'off');
    this.tell();
  }

  setPostsOnly(on: boolean): void {
    this.postsOnly = on;
    write('posts-only', on ? 'on' : 'off');
    this.tell();
  }
}

function read(name: string): string | null {
  try {
    return localStorage.getItem(`rookery-${name}`);
  } catch {
    return null;
  }
}

function write(name: string, value: string): void {
  try {
    localStorage.setItem(`rookery-${name}`, value);
  } catch {
    // It holds until the page is left.
  }
}

export const look = new Look();

// Single keys. Never while somebody types, never with Ctrl, Alt or Meta; what a browser scrolls by stays the browser's.
import { look } from './look.ts';
import { place } from './route.ts';

const all = <T extends Element>(query: string): T[] => [...document.querySelectorAll<T>(query)];

function items(): HTMLElement[] {
  return all<HTMLElement>('[role=feed] article, .thread article').filter(item => item.tabIndex === 0);
}

const current = (): HTMLElement | null => document.activeElement?.closest('article') ?? null;

function step(by: 1 | -1): void {
  const list = items();
  const at = list.indexOf(current() as HTMLElement);
  const inView = list.findIndex(item => item.getBoundingClientRect().top > 56);
  const item = list[at < 0 ? Math.max(0, inView) : Math.min(list.length - 1, Math.max(0, at + by))];
  item?.focus({ preventScroll: true });
  item?.scrollIntoView({ block: 'nearest' });
}

const press = (query: string): void => current()?.querySelector<HTMLElement>(query)?.click();
const act = (name: string): void => press(`[data-act=${name}]`);

export function showKeys(): void {
  document.querySelector<HTMLDialogElement>('#keys')?.showModal();
}

const KEYS: Record<string, () => void> = {
  j: () => step(1),
  k: () => step(-1),
  '.': () => document.getElementById('fresh')?.click(),
  n: () => document.querySelector<HTMLElement>('.composer textarea')?.focus(),
  o: () => press('time a'),
  r: () => act('reply'),
  t: () => act('repost'),
  l: () => act('react'),
  x: () => press('.cw > summary'),
  '/': () => {
    const field = document.querySelector<HTMLElement>('input[type=search]');
    if (field) field.focus();
    else place.go('/people');
  },
  '?': showKeys,
};

const PLACES: Record<string, string> = { h: '/', n: '/notices', p: '/people', s: '/settings' };

const TYPING = 'input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]';

let went = 0;

addEventListener('keydown', event => {
  const target = event.target as Element;
  if (event.key === 'Escape') {
    for (const menu of all<HTMLDetailsElement>('details.menu[open]')) {
      menu.open = false;
      menu.querySelector('summary')?.focus();
    }
  }
  if (!look.keys || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (target.matches?.(TYPING) || document.querySelector('dialog[open]')) return;
  const to = Date.now() - went < 1_200 ? PLACES[event.key] : undefined;
  went = 0;
  if (to) {
    event.preventDefault();
    return place.go(to);
  }
  if (event.key === 'g') {
    went = Date.now();
    return;
  }
  const action = KEYS[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

// A press elsewhere closes a menu; so does a choice in it, which leaves the focus at the menu. That is before what was
// chosen is done: it may take the focus further, and give it back.
addEventListener(
  'click',
  event => {
    const target = event.target as Element;
    for (const menu of all<HTMLDetailsElement>('details.menu[open]')) {
      if (menu.contains(target) && !target.closest('.sheet :is(a, button)')) continue;
      if (menu.contains(document.activeElement)) menu.querySelector('summary')?.focus({ preventScroll: true });
      menu.open = false;
    }
  },
  true,
);

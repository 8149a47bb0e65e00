// How names, texts and times are shown. The relay does the same for the first answer (`src/net/page/words.rs`): what
// stands there already must not move when the script takes over.
import { decode, npub, warning, type Unsigned } from './nostr.ts';

const NAME = 40;
export const FOLD = 1200;
const LABEL = 48;
const BEGINNING = 140;

const UNSEEN = /[\p{Cc}\u00ad\u115f\u1160\u2800\u3164\uffa0\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** One line, without signs that turn the direction of what follows or that nobody sees. */
const line = (text: string): string[] => [...text.replace(UNSEEN, sign => (/[\t-\r\u0085]/.test(sign) ? ' ' : '')).trim().split(/\s+/).join(' ')];

export const clean = (name: string): string => line(name).slice(0, NAME).join('');

export function short(key: string): string {
  const code = npub(key);
  return `${code.slice(0, 10)}…${code.slice(-4)}`;
}

export type Part = { text: string } | { link: string; label: string } | { person: string } | { post: string };

/** A post's text in parts, and its pictures, which stand below it. */
export function parts(text: string): { parts: Part[]; pictures: string[] } {
  const found: Part[] = [];
  const pictures: string[] = [];
  let plain = 0;
  for (const match of text.matchAll(/[^ \t\n\r\f]+/g)) {
    const word = match[0];
    const url = link(word);
    let part: Part | null = null;
    let length = 0;
    if (url) {
      length = url.length;
      if (isPicture(url)) pictures.push(url);
      else part = { link: url, label: label(url) };
    } else {
      const code = /^nostr:([a-zA-Z0-9]+)/.exec(word);
      part = code ? decode(code[1]!.toLowerCase()) : null;
      if (!part) continue;
      length = code![0].length;
    }
    found.push({ text: text.slice(plain, match.index) });
    if (part) found.push(part);
    plain = match.index + length;
  }
  found.push({ text: text.slice(plain) });
  const kept = found.filter(part => !('text' in part) || part.text !== '');
  const [first, last] = [kept[0], kept.at(-1)];
  if (first && 'text' in first) first.text = first.text.trimStart();
  if (last && 'text' in last) last.text = last.text.trimEnd();
  return { parts: kept.filter(part => !('text' in part) || part.text !== ''), pictures };
}

/** How a post begins, on one line; `name`: what somebody is called. */
export function beginning(post: Unsigned, name: (key: string) => string): string {
  const reason = warning(post);
  if (reason !== null) return clean(reason) ? `Content warning: ${clean(reason)}` : 'Content warning';
  const said = parts([...post.content].slice(0, FOLD).join(''));
  const text = said.parts.map(part => ('text' in part ? part.text : 'link' in part ? part.label : 'person' in part ? `@${name(part.person)}` : 'a post'));
  const signs = line(text.join(''));
  if (signs.length === 0) return said.pictures.length > 0 ? 'A picture' : 'A post without words';
  return signs.length > BEGINNING ? `${signs.slice(0, BEGINNING).join('')}…` : signs.join('');
}

function link(word: string): string | null {
  const scheme = /^https?:\/\//.exec(word)?.[0];
  if (!scheme) return null;
  const url = word.replace(/[.,;:!?)\]"']+$/, '');
  return url.length > scheme.length ? url : null;
}

const isPicture = (url: string): boolean => /\.(jpe?g|png|gif|webp|avif)$/i.test(url.split(/[?#]/)[0]!);

function label(url: string): string {
  const rest = [...url.slice(url.indexOf('://') + 3).replace(/\/+$/, '')];
  if (rest.length <= LABEL) return rest.join('');
  return `${rest.slice(0, LABEL / 2).join('')}…${rest.slice(-(LABEL / 2 - 1)).join('')}`;
}

/** Whose server it is: what a browser makes of the URL, and not what it looks like. */
export function host(url: string): string {
  try {
    return new URL(url).host;
  } catch {
    return url.slice(url.indexOf('://') + 3).split(/[\\/?#]/)[0]!.split('@').at(-1)!;
  }
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const weekday = new Intl.DateTimeFormat('en', { weekday: 'short' });
const month = new Intl.DateTimeFormat('en', { month: 'short' });

export const timeOfDay = (seconds: number): string => clock.format(seconds * 1000);

/** How long ago, in few signs. */
export function ago(then: number, now: number): string {
  const age = now - then;
  if (age < 60) return 'now';
  if (age < 3600) return `${Math.floor(age / 60)} min`;
  const [date, today] = [new Date(then * 1000), new Date(now * 1000)];
  const days = Math.round((new Date(today).setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 86_400_000);
  if (days <= 0) return timeOfDay(then);
  if (days === 1) return 'Yesterday';
  if (days < 7) return `${weekday.format(date)} ${timeOfDay(then)}`;
  const year = date.getFullYear() === today.getFullYear() ? '' : ` ${date.getFullYear()}`;
  return `${date.getDate()} ${month.format(date)}${year}`;
}

export const whole = (then: number): string => new Date(then * 1000).toLocaleString();

/** "1 post", "7 posts". */
export const many = (count: number, one: string, more = `${one}s`): string =>
  `${count.toLocaleString('en')} ${count === 1 ? one : more}`;

export const capital = (text: string): string => text.slice(0, 1).toUpperCase() + text.slice(1);

// Events, their ids, and the text forms of keys and ids (NIP-01, NIP-10, NIP-19, NIP-36, NIP-92).
import { schnorr } from '@noble/curves/secp256k1.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js';
import { bech32 } from '@scure/base';

export interface Unsigned {
  pubkey: string;
  created_at: number;
  kind: number;
  tags: string[][];
  content: string;
}

export interface Event extends Unsigned {
  id: string;
  sig: string;
}

export interface Filter {
  ids?: string[];
  authors?: string[];
  kinds?: number[];
  since?: number;
  until?: number;
  limit?: number;
  [tag: `#${string}`]: string[];
}

export const PROFILE = 0;
export const NOTE = 1;
export const FOLLOWS = 3;
export const DELETION = 5;
export const REPOST = 6;
export const REACTION = 7;
/** Whom somebody does not want to hear (NIP-51). */
export const MUTES = 10000;
/** Who signed in, signed out or followed somebody: of this relay, for those whom its author chose. */
export const ACTIVITY = 4227;
export const AUTH = 22242;

/** The id of an event: known before it is sent, so the same post sent again is the same event. */
export function idOf(event: Unsigned): string {
  const fields = [0, event.pubkey, event.created_at, event.kind, event.tags, event.content];
  return bytesToHex(sha256(utf8ToBytes(JSON.stringify(fields))));
}

const HEX = /^[0-9a-f]{64}$/;
export const isHex = (text: unknown): text is string => typeof text === 'string' && HEX.test(text);

const encode = (prefix: string, hex: string): string => bech32.encode(prefix, bech32.toWords(hexToBytes(hex)), 200);
export const npub = (key: string): string => encode('npub', key);
export const note = (id: string): string => encode('note', id);

export type Code = { person: string } | { post: string };

/** Reads npub1…, nprofile1…, note1…, nevent1…; null: it is none of them. */
export function decode(code: string): Code | null {
  let prefix: string;
  let bytes: Uint8Array;
  try {
    const read = bech32.decode(code as `${string}1${string}`, 2000);
    prefix = read.prefix;
    bytes = bech32.fromWords(read.words);
  } catch {
    return null;
  }
  if (prefix === 'nprofile' || prefix === 'nevent') {
    const value = special(bytes);
    if (!value) return null;
    bytes = value;
  }
  if (bytes.length !== 32) return null;
  const hex = bytesToHex(bytes);
  if (prefix === 'npub' || prefix === 'nprofile') return { person: hex };
  return prefix === 'note' || prefix === 'nevent' ? { post: hex } : null;
}

/** The special value of a list of types, lengths and values. */
function special(bytes: Uint8Array): Uint8Array | null {
  for (let at = 0; at + 2 <= bytes.length; ) {
    const [kind, length] = [bytes[at]!, bytes[at + 1]!];
    if (at + 2 + length > bytes.length) return null;
    if (kind === 0) return bytes.slice(at + 2, at + 2 + length);
    at += 2 + length;
  }
  return null;
}

export const values = (event: Unsigned, name: string): string[] =>
  event.tags.filter(tag => tag[0] === name && tag[1] !== undefined).map(tag => tag[1]!);

/** Whether a filter asks for an event (NIP-01). */
export function matches(filter: Filter, event: Event): boolean {
  const { ids, authors, kinds, since = 0, until = Infinity } = filter;
  return (
    (ids?.includes(event.id) ?? true) && (authors?.includes(event.pubkey) ?? true) && (kinds?.includes(event.kind) ?? true) &&
    event.created_at >= since && event.created_at <= until &&
    Object.entries(filter).every(([name, wanted]) => {
      const tag = /^#(.+)/.exec(name)?.[1];
      return tag === undefined || values(event, tag).some(value => (wanted as string[]).includes(value));
    })
  );
}

/** Which post a post answers, and whom. */
export function answers(event: Unsigned): { id: string; whom: string | null } | null {
  const tags = event.tags.filter(tag => tag[0] === 'e');
  const marked = (mark: string) => tags.find(tag => tag[3] === mark)?.[1];
  const id = marked('reply') ?? marked('root') ?? tags.filter(tag => !tag[3]).at(-1)?.[1];
  const whom = values(event, 'p').at(-1);
  return isHex(id) ? { id, whom: isHex(whom) ? whom : null } : null;
}

/** The reason of a content warning; null: there is none. */
export function warning(event: Unsigned): string | null {
  const tag = event.tags.find(tag => tag[0] === 'content-warning');
  return tag ? (tag[1] ?? '') : null;
}

/** What a picture shows, in words. */
export function described(event: Unsigned, url: string): string | null {
  const tag = event.tags.find(tag => tag[0] === 'imeta' && tag.includes(`url ${url}`));
  return tag?.find(part => part.startsWith('alt '))?.slice(4) ?? null;
}

const judged = new WeakMap<Event, Event | null>();

/** The post that a repost hands on (NIP-18). It comes from whoever reposts it, so nobody has looked at its signature. */
export function reposted(repost: Event): Event | null {
  const known = judged.get(repost);
  if (known !== undefined) return known;
  const post = repost.kind === REPOST ? embedded(repost) : null;
  judged.set(repost, post);
  return post;
}

function embedded(repost: Event): Event | null {
  try {
    const post: unknown = JSON.parse(repost.content);
    if (!isEvent(post) || post.kind !== NOTE || !values(repost, 'e').includes(post.id) || idOf(post) !== post.id) return null;
    return schnorr.verify(hexToBytes(post.sig), hexToBytes(post.id), hexToBytes(post.pubkey)) ? post : null;
  } catch {
    return null;
  }
}

/** Where an event stands among others. */
export type Place = Pick<Event, 'created_at' | 'id'>;

/** Newest first, and of one second the lowest id first: the order of all answers of a relay. */
export const newestFirst = (a: Place, b: Place): number =>
  b.created_at - a.created_at || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
export const isNewer = (a: Place, b: Place): boolean => newestFirst(a, b) < 0;

/** Whether this is shaped like an event. What a socket hands over is not believed. */
export function isEvent(value: unknown): value is Event {
  const event = value as Event;
  return (
    typeof value === 'object' && value !== null && isHex(event.id) && isHex(event.pubkey) &&
    Number.isSafeInteger(event.created_at) && Number.isInteger(event.kind) && typeof event.content === 'string' &&
    Array.isArray(event.tags) &&
    event.tags.every(tag => Array.isArray(tag) && tag.every(part => typeof part === 'string'))
  );
}

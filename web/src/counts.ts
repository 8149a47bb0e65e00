// How often posts were answered, reposted and reacted to, as this relay knows it: counted from events, live.
import type { Line } from './line.ts';
import { answers, DELETION, NOTE, REACTION, REPOST, values, type Event } from './nostr.ts';
import { Told } from './state.ts';

export interface Count {
  replies: number;
  reposts: number;
  reactions: number;
  /** One's own, to be taken back. */
  reposted: string | null;
  reacted: string | null;
}

type What = 'replies' | 'reposts' | 'reactions';

/** Posts that are counted for: those on the screen and around it. */
const MOST = 150;
const EVENTS = 500;

export class Counts extends Told {
  #line: Line;
  #me: () => string | null;
  #posts: string[] = [];
  #seen = new Map<string, { post: string; what: What; by: string }>();
  #ends: (() => void)[] = [];
  #timer = 0;
  #fresh: string[] = [];

  constructor(line: Line, me: () => string | null) {
    super();
    this.#line = line;
    this.#me = me;
  }

  of(post: string): Count {
    const count: Count = { replies: 0, reposts: 0, reactions: 0, reposted: null, reacted: null };
    const me = this.#me();
    for (const [id, seen] of this.#seen) {
      if (seen.post !== post) continue;
      count[seen.what]++;
      if (seen.by === me && seen.what === 'reposts') count.reposted = id;
      if (seen.by === me && seen.what === 'reactions') count.reacted = id;
    }
    return count;
  }

  /** From now on these are counted too. */
  want(posts: string[]): void {
    const fresh = posts.filter(id => !this.#posts.includes(id) && !this.#fresh.includes(id));
    if (fresh.length === 0) return;
    this.#fresh.push(...fresh);
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.#hear(), 100);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#ends.forEach(end => end());
    this.#ends = [];
    this.#posts = [];
  }

  /** What one did oneself counts at once. */
  put(event: Event): void {
    if (event.kind === DELETION) {
      for (const id of values(event, 'e')) if (this.#seen.get(id)?.by === event.pubkey) this.#seen.delete(id);
    } else {
      const what: What | null = event.kind === REPOST ? 'reposts' : event.kind === REACTION ? 'reactions' : event.kind === NOTE ? 'replies' : null;
      // A reaction is to the last post it names, an answer to the one it answers.
      const post = what === 'replies' ? answers(event)?.id : values(event, 'e').at(-1);
      if (!what || !post || (what === 'reactions' && event.content === '-')) return;
      this.#seen.set(event.id, { post, what, by: event.pubkey });
    }
    this.tell();
  }

  #hear(): void {
    const posts = this.#fresh.splice(0);
    this.#posts.push(...posts);
    for (let at = 0; at < posts.length; at += MOST) {
      const some = posts.slice(at, at + MOST);
      this.#ends.push(
        this.#line.subscribe({
          filters: () => [{ kinds: [NOTE, REPOST, REACTION, DELETION], '#e': some, limit: EVENTS }],
          event: event => this.put(event),
        }),
      );
    }
    // So many subscriptions are enough; what is far up does not count on.
    while (this.#ends.length > 8) this.#ends.shift()!();
  }
}

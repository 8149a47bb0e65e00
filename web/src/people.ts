// Who people are: names that came with posts, and those that are asked for when somebody unknown posts.
import type { Person, User } from './first.ts';
import type { Line } from './line.ts';
import { NOTE, PROFILE, values, type Event } from './nostr.ts';
import { Told } from './state.ts';
import { Wanted } from './wanted.ts';
import { clean, short } from './words.ts';

export class People extends Told {
  #known = new Map<string, Person>();
  #written = new Map<string, number>();
  #line: Line | null = null;
  #wanted = new Wanted(async authors => {
    const events = (await this.#line?.read([{ kinds: [PROFILE], authors }])) ?? null;
    events?.forEach(event => this.said(event));
    return events !== null;
  });

  /** From now on the unknown are asked for. */
  ask(line: Line): void {
    this.#line = line;
  }

  learn(people: Record<string, Person>): void {
    for (const [key, person] of Object.entries(people)) {
      this.#known.set(key, { ...this.#known.get(key), ...person });
      this.#wanted.known(key);
    }
    this.tell();
  }

  /** What the relay told of people who have accounts here. */
  met(users: User[]): void {
    this.learn(Object.fromEntries(users.map(({ userId, username, name, about }) => [userId, { username: username ?? null, name: name ?? null, about: about ?? null }])));
  }

  get(key: string): Person | undefined {
    this.#wanted.want(key);
    return this.#known.get(key);
  }

  name(key: string): string {
    const person = this.get(key);
    return clean(person?.name ?? '') || clean(person?.username ?? '') || short(key);
  }

  /** Whoever is named in a post, too. */
  expect(event: Event): void {
    this.get(event.pubkey);
    if (event.kind === NOTE) values(event, 'p').slice(0, 8).forEach(key => this.get(key));
  }

  /** Learns of a person from what they say of themselves. */
  said(event: Event): void {
    if (event.kind !== PROFILE || (this.#written.get(event.pubkey) ?? -1) >= event.created_at) return;
    this.#written.set(event.pubkey, event.created_at);
    let told: Record<string, unknown> = {};
    try {
      told = JSON.parse(event.content) ?? {};
    } catch {
      // Nothing that is known by this.
    }
    const text = (value: unknown) => (typeof value === 'string' && clean(value) ? value : null);
    const about = typeof told['about'] === 'string' ? told['about'].slice(0, 1200) : null;
    this.learn({ [event.pubkey]: { name: text(told['display_name']) ?? text(told['name']), about } });
  }
}

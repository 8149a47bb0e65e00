// Whom one follows, and how others are found.
import { useEffect, useState } from 'preact/hooks';
import { ask, Problem } from '../api.ts';
import { people } from '../app.ts';
import type { User } from '../first.ts';
import { decode, npub } from '../nostr.ts';
import { place } from '../route.ts';
import { self } from '../self.ts';
import { useTold } from '../state.ts';
import { many } from '../words.ts';
import { FollowButton } from './actions.tsx';
import { Fault, useForm } from './forms.tsx';
import { Egg, Who } from './parts.tsx';

/** Whoever has exactly this name; null: nobody, or it can be no name. */
async function named(name: string): Promise<User | null> {
  try {
    return await ask<User>('GET', `/users/${encodeURIComponent(name.toLowerCase())}`);
  } catch (error) {
    if (error instanceof Problem && (error.status === 404 || error.status === 400)) return null;
    throw error;
  }
}

/** Those who chose to be found, by how their names begin; and whoever has exactly this name. */
async function find(text: string): Promise<User[]> {
  const listed = ask<{ users: User[] }>('GET', `/users?q=${encodeURIComponent(text)}`);
  const [exact, { users }] = await Promise.all([text ? named(text) : null, listed]);
  const found = exact ? [exact, ...users.filter(user => user.userId !== exact.userId)] : users;
  people.met(found);
  return found;
}

export function PersonRow({ of, note }: { of: string; note?: string }) {
  useTold(people);
  const about = people.get(of)?.about;
  return (
    <li>
      <Egg of={of} />
      <div class="grow">
        <Who of={of} />
        {(about || note) && <p dir="auto">{note ?? about!.split('\n')[0]!.slice(0, 90)}</p>}
      </div>
      <FollowButton of={of} />
    </li>
  );
}

export function Find({ id }: { id: string }) {
  const [text, setText] = useState('');
  const [found, setFound] = useState<User[] | null>(null);
  const { busy, said, submit } = useForm(async () => {
    const wanted = text.trim().replace(/^nostr:/, '');
    if (!wanted) return;
    if (decode(wanted.toLowerCase())) place.go(`/${wanted.toLowerCase()}`);
    else setFound(await find(wanted.split('@')[0]!));
  });
  return (
    <form class="stack" role="search" onSubmit={submit}>
      <div class="field">
        <label for={id}>Find someone</label>
        <div class="with-btn">
          <input class="input" type="search" id={id} value={text} placeholder="npub1…, or a name here" autocapitalize="none" spellcheck={false} onInput={event => setText(event.currentTarget.value)} />
          <button class="btn quiet" type="submit" aria-busy={busy}>
            Find
          </button>
        </div>
        {said && <Fault>{said}</Fault>}
      </div>
      {found && found.length === 0 && <p class="dim small">Nobody is found by this name. Ask them for their npub, or for the link to their profile.</p>}
      {found && found.length > 0 && (
        <ul class="list" aria-label="Found">
          {found.map(user => (
            <PersonRow key={user.userId} of={user.userId} />
          ))}
        </ul>
      )}
    </form>
  );
}

/** Who chose to be found. */
export function PeopleHere() {
  const [here, setHere] = useState<User[]>([]);
  useEffect(() => {
    find('').then(setHere, () => {});
  }, []);
  const others = here.filter(user => user.userId !== self.me?.userId).slice(0, 8);
  if (others.length === 0) return null;
  return (
    <section class="stack">
      <h2>People here</h2>
      <ul class="list">
        {others.map(user => (
          <PersonRow key={user.userId} of={user.userId} />
        ))}
      </ul>
    </section>
  );
}

interface Fetched {
  people: number;
  relays: number;
}

/** How many of those who are followed are read at other relays. */
export function Elsewhere() {
  useTold(self);
  const [fetched, setFetched] = useState<Fetched | null>(null);
  const follows = self.follows;
  useEffect(() => {
    if (!follows?.size) return;
    // Where they write has to be found out first: it is asked again, and then it is as it was.
    const after = [2, 5, 15, 60];
    let timer = 0;
    const look = () => {
      ask<Fetched>('GET', '/friends/fetched').then(setFetched, () => {});
      const seconds = after.shift();
      if (seconds) timer = setTimeout(look, seconds * 1_000);
    };
    look();
    return () => clearTimeout(timer);
  }, [follows]);
  if (!fetched?.people) return null;
  return (
    <p class="dim small">
      Fetching {many(fetched.people, 'person', 'people')} from {many(fetched.relays, 'relay')}.
    </p>
  );
}

export function PeopleScreen() {
  useTold(self);
  // Whoever was unfollowed here stays in the list, so that it does not move under the finger.
  const [shown, setShown] = useState<string[]>([]);
  const follows = self.follows;
  useEffect(() => {
    if (follows) setShown(shown => [...shown, ...[...follows].filter(key => !shown.includes(key))]);
  }, [follows]);
  return (
    <div class="page">
      <main id="main" tabindex={-1}>
        <div class="head flush">
          <h1>People</h1>
        </div>
        <div class="stack lg">
          <Find id="find" />
          <section class="stack">
            <h2>Following {follows ? follows.size : ''}</h2>
            {follows?.size === 0 && shown.length === 0 && <p class="dim">Nobody yet.</p>}
            <ul class="list">
              {shown.map(key => (
                <PersonRow key={key} of={key} />
              ))}
            </ul>
            <Elsewhere />
          </section>
          {follows && <PeopleHere />}
        </div>
      </main>
      <aside class="side wide" aria-label="About this page">
        <section class="stack">
          <h2>Your follow list</h2>
          <p class="dim">Everyone can see it. Other apps that you use may change it too.</p>
          <p>
            <a href={`/${npub(self.me!.userId)}`}>Your profile</a>
          </p>
        </section>
      </aside>
    </div>
  );
}

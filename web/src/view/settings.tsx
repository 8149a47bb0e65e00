// What somebody decides about their account and this page.
import { useEffect, useState } from 'preact/hooks';
import { ask, type Problem } from '../api.ts';
import { people, relay } from '../app.ts';
import { clear } from '../drafts.ts';
import { look } from '../look.ts';
import { place } from '../route.ts';
import { self } from '../self.ts';
import { useTold } from '../state.ts';
import { toast } from '../toast.ts';
import { ago, whole } from '../words.ts';
import { copy, MuteButton, signOut, tried } from './actions.tsx';
import { Fault, NOT_YOURS, PasswordField, useForm } from './forms.tsx';
import { ThemeChoice } from './frame.tsx';
import { Egg, Note, Who } from './parts.tsx';
import { Activities } from './sign.tsx';

export function SettingsScreen() {
  useTold(self, look);
  const me = self.me!;
  return (
    <div class="page one">
      <main id="main" tabindex={-1}>
        <div class="head flush">
          <h1>Settings</h1>
        </div>
        <div class="settings">
          <nav aria-label="Settings">
            <a href="#profile">Profile</a>
            <a href="#activity">Activity</a>
            <a href="#pictures">Pictures</a>
            <a href="#look">Look and keys</a>
            <a href="#mutes">Muted people</a>
            <a href="#password">Password</a>
            <a href="#sessions">Sessions</a>
            <a href="#leave">Take along, leave</a>
          </nav>
          <div>
            <Profile />
            <section id="activity">
              <h2>Activity</h2>
              <p>Who sees “signed in”, “signed out” and “followed …”.</p>
              <fieldset class="stack">
                <legend class="vh">Who sees it</legend>
                <Activities name="activity" chosen={me.activity} choose={activity => tried(() => self.set({ activity }))} />
              </fieldset>
              <label class="check">
                <input type="checkbox" checked={me.listed} onChange={event => tried(() => self.set({ listed: event.currentTarget.checked }))} />{' '}
                Let people find me by name
              </label>
            </section>
            <section id="pictures">
              <h2>Pictures</h2>
              <p>
                A picture comes from somebody’s server, which then sees your IP address. So pictures are links that say whose server it is, and people
                are shown as eggs drawn from their key. Nothing is loaded before you open it.
              </p>
            </section>
            <section id="look">
              <h2>Look and keys</h2>
              <ThemeChoice name="theme-settings" />
              <label class="check">
                <input type="checkbox" checked={look.keys} onChange={event => look.setKeys(event.currentTarget.checked)} /> Single keys do something
              </label>
            </section>
            <Muted />
            <Password />
            <Sessions />
            <section id="leave">
              <h2>Take along, and leave</h2>
              <TakeAlong />
              <Leave />
            </section>
          </div>
        </div>
      </main>
    </div>
  );
}

function Profile() {
  useTold(people);
  const me = self.me!.userId;
  const [known, setKnown] = useState<Record<string, unknown> | null>(null);
  const [name, setName] = useState<string | null>(null);
  const [about, setAbout] = useState<string | null>(null);
  useEffect(() => {
    ask<Record<string, unknown>>('GET', '/profile').then(setKnown, () => {});
  }, [me]);
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  const knownName = text(known?.['display_name']) || text(known?.['name']) || people.get(me)?.name || '';
  const { busy, submit, said } = useForm(async () => {
    // What was not touched stays, and so does what other apps have written.
    const names = name === null ? {} : { name, ...(known?.['display_name'] ? { display_name: name } : {}) };
    const profile = { ...names, ...(about === null ? {} : { about }) };
    setKnown(await ask<Record<string, unknown>>('PUT', '/profile', profile));
    people.learn({ [me]: { ...(name === null ? {} : { name }), ...(about === null ? {} : { about }) } });
    toast.show({ text: 'Your profile is changed.' });
  });
  return (
    <section id="profile">
      <h2>Profile</h2>
      <p>
        You are <b>{self.me!.username}</b>@{relay.host}. Everyone can see this.
      </p>
      <form class="stack" onSubmit={submit}>
        <div class="field">
          <label for="p-name">Name</label>
          <input class="input" id="p-name" maxlength={40} autocomplete="nickname" value={name ?? knownName} onInput={event => setName(event.currentTarget.value)} />
        </div>
        <div class="field">
          <label for="p-about">About you</label>
          <textarea class="input" id="p-about" maxlength={1000} value={about ?? text(known?.['about'])} onInput={event => setAbout(event.currentTarget.value)} />
        </div>
        {said && <Fault>{said}</Fault>}
        <button class="btn" type="submit" aria-busy={busy}>
          Change profile
        </button>
      </form>
    </section>
  );
}

/** Whom somebody does not hear. Who is heard again here stays in the list, so that it does not move under the finger. */
function Muted() {
  useTold(self, people);
  const mutes = self.mutes;
  const [shown, setShown] = useState<string[]>([]);
  useEffect(() => {
    if (mutes) setShown(shown => [...shown, ...[...mutes].filter(key => !shown.includes(key))]);
  }, [mutes]);
  return (
    <section id="mutes">
      <h2>Muted people</h2>
      <p>
        What they post does not reach your feed, your notices and threads. They are not told, but everyone can read the list. You mute somebody at
        their profile.
      </p>
      {mutes?.size === 0 && shown.length === 0 && <p>Nobody yet.</p>}
      <ul class="list">
        {shown.map(key => (
          <li key={key}>
            <Egg of={key} />
            <div class="grow">
              <Who of={key} />
            </div>
            <MuteButton of={key} />
          </li>
        ))}
      </ul>
    </section>
  );
}

/** The field of one's own password is at fault where it is another one. */
const again = (own: string, others: Record<string, string> = {}) => (problem: Problem) => {
  if (problem.word === 'wrong-password') return { id: own, text: NOT_YOURS };
  const id = others[problem.field];
  return id ? { id } : null;
};

function Password() {
  const [password, setPassword] = useState('');
  const [newPassword, setNew] = useState('');
  const { busy, submit, said, errorAt } = useForm(
    async () => {
      await ask('PUT', '/auth/password', { password, newPassword });
      setPassword('');
      setNew('');
      toast.show({ text: 'Your password is changed. All other sessions have ended.' });
    },
    again('pw-old', { password: 'pw-new', newPassword: 'pw-new' }),
  );
  return (
    <section id="password">
      <h2>Password</h2>
      {self.me!.passwordReset && (
        <Note kind="warn" title="It was set anew">
          <p>
            Whoever runs {relay.name} gave leave to set it, and it was set {whole(self.me!.passwordReset)}. If that was not you, ask them.
          </p>
        </Note>
      )}
      <form class="stack" onSubmit={submit}>
        <input class="vh" tabindex={-1} aria-hidden="true" name="username" autocomplete="username" value={self.me!.username} readOnly />
        <PasswordField id="pw-old" label="Your password" value={password} change={setPassword} error={errorAt('pw-old')} />
        <PasswordField
          id="pw-new"
          label="The new one"
          value={newPassword}
          change={setNew}
          complete="new-password"
          error={errorAt('pw-new')}
          help="At least 10 characters. All other sessions end."
        />
        {said && <Fault>{said}</Fault>}
        <button class="btn" type="submit" aria-busy={busy}>
          Change password
        </button>
      </form>
    </section>
  );
}

function TakeAlong() {
  const [password, setPassword] = useState('');
  const [keyPassword, setKeyPassword] = useState('');
  const [key, setKey] = useState('');
  const { busy, submit, said, errorAt } = useForm(
    async () => {
      setKey((await ask<{ ncryptsec: string }>('POST', '/me/key', { password, keyPassword })).ncryptsec);
      setPassword('');
      setKeyPassword('');
    },
    again('key-old', { keyPassword: 'key-new' }),
  );
  return (
    <>
      <p>
        <a href="/v1/me/export" download>
          Everything you have said
        </a>
        , as a file.
      </p>
      <h3>Your key</h3>
      <p>With it you are the same person in any Nostr app, also when {relay.name} is gone.</p>
      <form class="stack" onSubmit={submit}>
        <PasswordField id="key-old" label="Your password" value={password} change={setPassword} error={errorAt('key-old')} />
        <PasswordField
          id="key-new"
          label="A password for the key"
          value={keyPassword}
          change={setKeyPassword}
          complete="new-password"
          error={errorAt('key-new')}
          help="At least 16 characters. Other apps ask for it."
        />
        {said && <Fault>{said}</Fault>}
        <button class="btn" type="submit" aria-busy={busy}>
          Show the encrypted key
        </button>
        {key && (
          <div class="field">
            <label for="key">The key, encrypted</label>
            <textarea class="input" id="key" readOnly rows={4} value={key} />
            <button class="btn quiet" type="button" onClick={() => copy(key)}>
              Copy
            </button>
          </div>
        )}
      </form>
    </>
  );
}

function Leave() {
  const [password, setPassword] = useState('');
  const [vanish, setVanish] = useState(false);
  const { busy, submit, said, errorAt } = useForm(async () => {
    const account = self.me!.userId;
    await self.leave(password, vanish);
    clear(account);
    place.go('/');
    toast.show({ text: 'Your account is gone.' });
  }, again('leave-p'));
  return (
    <>
      <h3>Leave</h3>
      <p>Your account and your key are removed here, for good. What you have said stays, unless you choose otherwise.</p>
      <form class="stack" onSubmit={submit}>
        <PasswordField id="leave-p" label="Your password" value={password} change={setPassword} error={errorAt('leave-p')} />
        <label class="check">
          <input type="checkbox" checked={vanish} onChange={event => setVanish(event.currentTarget.checked)} /> Ask all relays to remove what I have
          said
        </label>
        {said && <Fault>{said}</Fault>}
        <button class="btn danger" type="submit" aria-busy={busy}>
          Leave {relay.name}
        </button>
      </form>
    </>
  );
}

interface Session {
  id: string;
  client: string;
  since: number;
  seen: number;
  current: boolean;
}

function Sessions() {
  const [sessions, setSessions] = useState<Session[]>([]);
  const read = () => ask<{ sessions: Session[] }>('GET', '/auth/sessions').then(({ sessions }) => setSessions(sessions));
  useEffect(() => {
    void tried(read);
  }, []);
  const end = (session: Session) =>
    tried(async () => {
      await ask('DELETE', `/auth/sessions/${session.id}`);
      await read();
    });
  const now = Date.now() / 1000;
  return (
    <section id="sessions">
      <h2>Sessions</h2>
      <p>Where you are signed in.</p>
      <ul class="list">
        {sessions.map(session => (
          <li key={session.id}>
            <div class="grow">
              <b dir="auto">{session.current ? 'This browser' : session.client || 'A program'}</b>
              <p>
                since {ago(session.since, now)}, seen {ago(session.seen, now)}
              </p>
            </div>
            {!session.current && (
              <button class="btn" type="button" aria-label={`Sign out ${session.client || 'a program'}`} onClick={() => end(session)}>
                Sign out
              </button>
            )}
          </li>
        ))}
      </ul>
      <button class="btn danger" type="button" onClick={signOut}>
        Sign out here
      </button>
    </section>
  );
}

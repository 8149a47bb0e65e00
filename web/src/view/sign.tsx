// Signing in and signing up.
import { useState } from 'preact/hooks';
import { ask, clock } from '../api.ts';
import { relay } from '../app.ts';
import { first, type Activity } from '../first.ts';
import { place } from '../route.ts';
import { say } from '../say.ts';
import { self } from '../self.ts';
import { Choice, Fault, NameField, PasswordField, typed, useForm } from './forms.tsx';
import { Note } from './parts.tsx';

export function SignInForm({ id }: { id: string }) {
  const [name, setName] = useState(() => typed(`${id}-u`));
  const [password, setPassword] = useState(() => typed(`${id}-p`));
  const { busy, submit, problem, said, errorAt } = useForm(
    async () => {
      await self.signIn(name.trim(), password);
      say('Signed in');
      place.go('/');
    },
    problem => (problem.word === 'wrong-password' ? { id: `${id}-p` } : null),
  );
  const slow = problem?.word === 'slow-down';
  return (
    <form class="stack" method="post" action="/v1/auth/sign-in" onSubmit={submit}>
      {slow && (
        <Note kind="warn" title="Too many tries">
          <p role="alert">
            For safety this account waits. You can try again in {clock(problem.seconds || 30)}. Somebody else trying? Your
            password is still good.
          </p>
        </Note>
      )}
      <NameField id={`${id}-u`} label="Username" value={name} change={setName} />
      <PasswordField id={`${id}-p`} label="Password" value={password} change={setPassword} error={errorAt(`${id}-p`)} />
      {said && !slow && <Fault>{said}</Fault>}
      <button class="btn primary big wide" type="submit" aria-busy={busy}>
        Sign in
      </button>
    </form>
  );
}

export function SignIn() {
  return (
    <div class="page one">
      <main id="main" tabindex={-1}>
        <div class="head flush">
          <h1>Sign in</h1>
        </div>
        <div class="auth even">
          <section class="stack">
            <h2>With a password</h2>
            <SignInForm id="in" />
            <p class="small dim">
              {first.accounts?.open !== 'closed' && (
                <>
                  No account yet? <a href="/sign-up">Sign up</a>.{' '}
                </>
              )}
              There is no e-mail here. If you lose your password, ask whoever runs {relay.name}
              {relay.contact ? `: ${relay.contact.replace(/^mailto:/, '')}` : ''}.
            </p>
          </section>
        </div>
      </main>
    </div>
  );
}

/** Passwords are no shorter. */
const SHORTEST = 10;

export function SignUp() {
  const [name, setName] = useState(() => typed('up-u'));
  const [password, setPassword] = useState(() => typed('up-p'));
  const [invitation, setInvitation] = useState(() => location.hash.slice(1) || typed('up-i'));
  const [activity, setActivity] = useState<Activity>('nobody');
  const [listed, setListed] = useState(false);
  const [left, setLeft] = useState({ name: false, password: false });
  const invited = first.accounts?.open === 'invitation';
  const missing = SHORTEST - password.length;

  const { busy, submit, said, errorAt, forget } = useForm(
    async () => {
      setLeft({ name: true, password: true });
      if (missing > 0) return document.getElementById('up-p')?.focus();
      await self.signUp({ username: name.trim().toLowerCase(), password, activity, listed, ...(invitation ? { invitation } : {}) });
      say('Your account is there');
      place.go('/');
    },
    problem => {
      if (problem.word === 'taken') return { id: 'up-u', text: `${name} is taken here.${problem.free.length ? ` Free: ${problem.free.join(', ')}.` : ''}` };
      const id = { username: 'up-u', password: 'up-p' }[problem.field];
      return id ? { id } : null;
    },
  );
  const wrongName = left.name && name && !/^[a-z0-9._-]{2,30}$/.test(name.trim().toLowerCase());
  const nameError = errorAt('up-u') ?? (wrongName ? '2 to 30 of these: a to z, 0 to 9, and . _ -' : undefined);
  const passwordError = errorAt('up-p') ?? (left.password && password && missing > 0 ? `At least ${SHORTEST} characters: ${missing} to go.` : undefined);

  return (
    <div class="page one">
      <main id="main" tabindex={-1}>
        <div class="head flush">
          <h1>Join {relay.name}</h1>
        </div>
        <div class="auth">
          <form class="stack lg" method="post" action="/v1/auth/sign-up" onSubmit={submit}>
            <NameField
              id="up-u"
              label="Username"
              value={name}
              change={value => {
                setName(value);
                forget();
              }}
              leave={() => setLeft({ ...left, name: true })}
              error={nameError}
              help="This is your address on all of Nostr."
            />
            <PasswordField
              id="up-p"
              label="Password"
              value={password}
              change={setPassword}
              leave={() => setLeft({ ...left, password: true })}
              error={passwordError}
              help={`At least ${SHORTEST} characters. We cannot send you a new one: there is no e-mail here.`}
              complete="new-password"
            />
            {invited && (
              <div class="field">
                <label for="up-i">Invitation</label>
                <input class="input" id="up-i" name="invitation" required value={invitation} onInput={event => setInvitation(event.currentTarget.value)} />
                <p class="help">{relay.name} is for people who were invited.</p>
              </div>
            )}
            <fieldset class="stack">
              <legend class="label">Who sees when you come and go?</legend>
              <Activities name="activity" chosen={activity} choose={setActivity} />
            </fieldset>
            <label class="check">
              <input type="checkbox" name="listed" checked={listed} onChange={event => setListed(event.currentTarget.checked)} /> Let people
              find me by name
            </label>
            {said && <Fault>{said}</Fault>}
            <div>
              <button class="btn primary big" type="submit" aria-busy={busy}>
                Create account
              </button>
            </div>
          </form>
          <section class="stack">
            <h2>What others can see</h2>
            <Seen />
          </section>
        </div>
      </main>
    </div>
  );
}

/** A link of those who run the relay leads here, with a code behind the `#`. */
export function Reset() {
  const [password, setPassword] = useState('');
  const [done, setDone] = useState(false);
  const code = location.hash.slice(1);
  const { busy, submit, errorAt } = useForm(
    async () => {
      await ask('POST', '/auth/reset', { code, password });
      setDone(true);
    },
    () => ({ id: 're-p' }),
  );
  return (
    <div class="page one">
      <main id="main" tabindex={-1}>
        <div class="head flush">
          <h1>New password</h1>
        </div>
        <div class="auth even">
          {done ? (
            <p>
              Your password is changed, and all sessions have ended. <a href="/sign-in">Sign in</a>
            </p>
          ) : (
            <form class="stack" onSubmit={submit}>
              <PasswordField
                id="re-p"
                label="New password"
                value={password}
                change={setPassword}
                complete="new-password"
                error={errorAt('re-p')}
                help={`At least ${SHORTEST} characters. All sessions of the account end.`}
              />
              <button class="btn primary big wide" type="submit" aria-busy={busy}>
                Set password
              </button>
            </form>
          )}
        </div>
      </main>
    </div>
  );
}

export function Activities({ name, chosen, choose }: { name: string; chosen: Activity; choose: (value: Activity) => void }) {
  return (
    <>
      <Choice name={name} value="nobody" chosen={chosen} choose={choose} title="Nobody">
        You also don’t see it of others.
      </Choice>
      <Choice name={name} value="friends" chosen={chosen} choose={choose} title="Friends">
        People you follow who follow you back. Gone after 24 hours, and not passed on to other relays.
      </Choice>
      <Choice name={name} value="followers" chosen={chosen} choose={choose} title="Everyone who follows you">
        Anybody can follow you. Gone after 24 hours, and not passed on to other relays.
      </Choice>
    </>
  );
}

const SEEN: [string, string][] = [
  ['Posts, replies, reactions', 'Everyone, on any relay that copies them. Deleting asks the others to delete; it cannot make them.'],
  ['Who you follow, whom you mute', 'Everyone. These are public lists on Nostr. Nobody is told that you mute them.'],
  ['“Signed in”, “followed …”', 'Nobody, until you choose.'],
  ['Your key', 'The relay makes it and stores it encrypted. Whoever runs the relay could, if they meant to, post as you.'],
  ['Your IP address', 'This relay. Pictures are links, so their hosts do not see you until you open one.'],
  ['Password', 'Nobody. Only a hash is kept.'],
];

function Seen() {
  return (
    <table class="sees">
      <thead>
        <tr>
          <th scope="col">What</th>
          <th scope="col">Who sees it, and for how long</th>
        </tr>
      </thead>
      <tbody>
        {SEEN.map(([what, who]) => (
          <tr>
            <th scope="row">{what}</th>
            <td>{who}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

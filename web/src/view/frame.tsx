// What stands around every screen.
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { line, relay } from '../app.ts';
import { showKeys } from '../keys.ts';
import { look, type Theme } from '../look.ts';
import { first, type Me } from '../first.ts';
import { notices } from '../notices.ts';
import { place, type Route } from '../route.ts';
import { say } from '../say.ts';
import { self } from '../self.ts';
import { useTold } from '../state.ts';
import { many, timeOfDay } from '../words.ts';
import { toast } from '../toast.ts';
import { signOut } from './actions.tsx';
import { Egg, Icon, Menu } from './parts.tsx';
import { QuestionView } from './question.tsx';

export function Frame({ children }: { children: ComponentChildren }) {
  useTold(self, place);
  const me = self.me;
  return (
    <>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="top">
        <div>
          <a class="brand" href="/">
            <Icon name="mark" plain />
            <span>{relay.name}</span>
          </a>
          {me && <Nav />}
          <div class="row end">
            <Connection quiet={!me} />
            {me ? <Mine me={me} /> : <Nobody />}
          </div>
        </div>
      </header>
      <Broken />
      {self.endedElsewhere && <SignedOut />}
      {children}
      <Keys />
      <QuestionView />
      <ToastView />
    </>
  );
}

function Nobody() {
  return (
    <>
      <Menu label="Theme and keys" summary={<Icon name="gear" />}>
        <ThemeChoice name="theme-menu" />
        <ul>
          <li>
            <button type="button" onClick={showKeys}>
              Keys
            </button>
          </li>
        </ul>
      </Menu>
      {first.accounts && (
        <a class="btn" href="/sign-in">
          Sign in
        </a>
      )}
      {first.accounts && first.accounts.open !== 'closed' && (
        <a class="btn primary only-wide" href="/sign-up">
          Sign up
        </a>
      )}
    </>
  );
}

function Mine({ me }: { me: Me }) {
  return (
    <Menu label={`You: ${me.username}`} summary={<Egg of={me.userId} size="sm" />}>
      <p>
        <b>{me.username}</b>
        <br />
        <span class="dim">
          {me.username}@{relay.host}
        </span>
      </p>
      <ul>
        <li>
          <a href={`/${me.npub}`}>Your profile</a>
        </li>
        <li>
          <a href="/settings">Settings</a>
        </li>
        <li>
          <button type="button" onClick={showKeys}>
            Keys
          </button>
        </li>
        <li>
          <button type="button" onClick={signOut}>
            Sign out
          </button>
        </li>
      </ul>
      <ThemeChoice name="theme-menu" />
    </Menu>
  );
}

const PLACES: [Route['name'], string, string, string][] = [
  ['home', '/', 'home', 'Home'],
  ['notices', '/notices', 'bell', 'Notices'],
  ['people', '/people', 'people', 'People'],
  ['settings', '/settings', 'gear', 'Settings'],
];

function Nav() {
  useTold(place, notices);
  return (
    <nav class="nav" aria-label="Main">
      {PLACES.map(([name, path, icon, label]) => (
        <a key={name} class={name === 'notices' ? 'counted' : undefined} href={path} aria-current={place.route.name === name ? 'page' : undefined}>
          <Icon name={icon} />
          <span>{label}</span>
          {name === 'notices' && notices.unread > 0 && (
            <span class="count">
              {notices.unread > 99 ? '99+' : notices.unread}
              <span class="vh"> new</span>
            </span>
          )}
        </a>
      ))}
    </nav>
  );
}

function SignedOut() {
  return (
    <div class="banners">
      <div class="banner" role="status">
        <div>
          <p>
            <b>You were signed out.</b> From another session, or because it was long ago. What you were writing is still here.
          </p>
          <a class="btn" href="/sign-in">
            Sign in
          </a>
        </div>
      </div>
    </div>
  );
}

function ToastView() {
  useTold(toast);
  const shown = toast.now;
  if (!shown) return null;
  return (
    <section
      class="toast"
      aria-label="Just now"
      onFocusCapture={() => toast.hold()}
      onBlurCapture={() => toast.start()}
      onMouseEnter={() => toast.hold()}
      onMouseLeave={() => toast.start()}
    >
      <p>{shown.text}</p>
      {shown.action && (
        <button
          class="btn"
          type="button"
          onClick={() => {
            const { act } = shown.action!;
            toast.end();
            act();
          }}
        >
          {shown.action.label}
        </button>
      )}
    </section>
  );
}

const WORDS = { live: 'Live', trying: 'Reconnecting', offline: 'Offline' };
const LOOKS = { live: '', trying: 'trying', offline: 'off' };

/** On a phone strangers are told when the line is broken, and nothing before. */
function Connection({ quiet }: { quiet: boolean }) {
  useTold(line);
  return (
    <Menu wide={`link ${LOOKS[line.state]} ${quiet ? 'only-wide' : ''}`} summary={<span>{WORDS[line.state]}</span>}>
      <p>
        <b>{line.state === 'live' ? `Connected to ${relay.name}` : 'Not connected'}</b>
        <br />
        <span class="dim">
          since {timeOfDay(line.since / 1000)}, {many(line.reconnects, 'reconnect')}
        </span>
      </p>
    </Menu>
  );
}

/** Lies over the page, so that nothing moves when it comes. */
function Broken() {
  useTold(line);
  const [now, setNow] = useState(Date.now());
  const state = line.state;
  const [was, setWas] = useState(state);
  useEffect(() => {
    if (state === 'live') {
      if (was !== 'live' && line.reconnects > 0) say('Reconnected.');
      setWas(state);
      return;
    }
    setWas(state);
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [state]);
  // A page that has just been opened is not broken yet.
  if (state === 'live' || (line.lost === 0 && Date.now() - line.since < 4_000)) return <div class="banners" />;
  const seconds = Math.max(0, Math.ceil((line.next - now) / 1000));
  return (
    <div class="banners">
      <div class={`banner ${state === 'offline' ? 'off' : ''}`} role="status">
        <div>
          <p>
            <b>{state === 'offline' ? 'Offline.' : 'Reconnecting.'}</b>{' '}
            {state === 'offline'
              ? 'This device has no network. You can go on reading and writing.'
              : ['Trying again', seconds > 0 && <span aria-hidden="true"> in {seconds} s</span>, '. You can go on reading and writing.']}
          </p>
          <button class="btn" type="button" onClick={() => line.now()}>
            Try now
          </button>
        </div>
      </div>
    </div>
  );
}

export function ThemeChoice({ name }: { name: string }) {
  useTold(look);
  const choice = (theme: Theme, label: string) => (
    <label>
      <input type="radio" name={name} value={theme} checked={look.theme === theme} onChange={() => look.setTheme(theme)} /> {label}
    </label>
  );
  return (
    <fieldset class="stack">
      <legend class="label">Theme</legend>
      <div>
        <div class="seg">
          {choice('system', 'System')}
          {choice('light', 'Light')}
          {choice('dark', 'Dark')}
        </div>
      </div>
    </fieldset>
  );
}

const KEYS: [string[], string][] = [
  [['j', 'k'], 'next, previous post'],
  [['.'], 'show new posts'],
  [['n'], 'write'],
  [['o'], 'open the thread'],
  [['r'], 'reply'],
  [['l'], 'react'],
  [['t'], 'repost'],
  [['x'], 'open what is behind a warning'],
  [['g', 'h'], 'home'],
  [['g', 'n'], 'notices'],
  [['g', 'p'], 'people'],
  [['g', 's'], 'settings'],
  [['/'], 'find'],
  [['Ctrl ⏎'], 'post'],
  [['Esc'], 'close'],
];

function Keys() {
  return (
    <dialog id="keys" aria-labelledby="keys-h">
      <div class="row">
        <h2 id="keys-h">Keys</h2>
        <form method="dialog" class="end">
          <button class="btn quiet">Close</button>
        </form>
      </div>
      <dl class="keys">
        {KEYS.map(([keys, what]) => (
          <div>
            <dt>
              {keys.map(key => (
                <kbd>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      {self.me && (
        <p class="small dim">
          Single keys can be turned off in <a href="/settings">settings</a>.
        </p>
      )}
    </dialog>
  );
}

// The script of the page: takes over what the relay has drawn, and goes on from there.
import { render } from 'preact';
import { counts, line, people, relay } from './app.ts';
import { first } from './first.ts';
import './keys.ts';
import { notices } from './notices.ts';
import { outbox } from './outbox.ts';
import { place, type Route } from './route.ts';
import { self } from './self.ts';
import { useTold } from './state.ts';
import './style/index.css';
import { Frame } from './view/frame.tsx';
import { Home } from './view/home.tsx';
import { Landing } from './view/landing.tsx';
import { NoticesScreen } from './view/notices.tsx';
import { PeopleScreen } from './view/people.tsx';
import { PersonScreen } from './view/person.tsx';
import { SettingsScreen } from './view/settings.tsx';
import { Reset, SignIn, SignUp } from './view/sign.tsx';
import { ThreadView } from './view/thread.tsx';

/** Screens of whoever is signed in. */
const OWN = { home: Home, notices: NoticesScreen, people: PeopleScreen, settings: SettingsScreen };

function Screen() {
  useTold(place, self);
  const route = place.route;
  document.title = `${TITLES[route.name] ?? 'Home'} · ${relay.name}`;
  if (route.name in OWN && self.me) {
    const Own = OWN[route.name as keyof typeof OWN];
    return <Own key={`${route.name}${self.me.userId}`} />;
  }
  switch (route.name) {
    case 'home':
      return <Landing />;
    case 'sign-up':
      return first.accounts ? <SignUp /> : <Plain title="Not here" text={`${relay.name} keeps no accounts.`} />;
    case 'reset':
      return first.accounts ? <Reset /> : <Plain title="Not here" text={`${relay.name} keeps no accounts.`} />;
    case 'sign-in':
    case 'notices':
    case 'people':
    case 'settings':
      return first.accounts ? <SignIn /> : <Plain title="Not here" text={`${relay.name} keeps no accounts.`} />;
    case 'person':
      return <PersonScreen key={route.key} of={route.key} />;
    case 'thread':
      return <ThreadView key={route.id} of={route.id} />;
    default:
      return <Plain title="Not here" text="There is nothing at this address." />;
  }
}

const TITLES: Partial<Record<Route['name'], string>> = {
  'sign-in': 'Sign in',
  'sign-up': 'Join',
  reset: 'New password',
  notices: 'Notices',
  people: 'People',
  settings: 'Settings',
  person: 'Person',
  thread: 'Thread',
};

function Plain({ title, text }: { title: string; text: string }) {
  return (
    <div class="page one">
      <main id="main" tabindex={-1}>
        <div class="head flush">
          <h1>{title}</h1>
        </div>
        <p>
          {text} <a href="/">To the front page</a>
        </p>
      </main>
    </div>
  );
}

// What is missing or late stays as the relay said it.
if (first.screen.name !== 'missing' && first.screen.name !== 'late') {
  render(
    <Frame>
      <Screen />
    </Frame>,
    document.getElementById('app')!,
  );
  place.start();
  people.ask(line);
  self.start(line);
  outbox.done = event => counts.put(event);
  outbox.start(line);
  notices.start(line);
}

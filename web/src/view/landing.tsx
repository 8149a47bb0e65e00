// What somebody sees who opens the relay's address: what the relay is, and what is being said.
import { useMemo } from 'preact/hooks';
import { line, people, relay } from '../app.ts';
import { relayNow } from '../clock.ts';
import { Feed } from '../feed.ts';
import { first } from '../first.ts';
import { NOTE, warning } from '../nostr.ts';
import { FeedView } from './feed.tsx';
import { Icon } from './parts.tsx';
import { SignInForm } from './sign.tsx';

function feed(): Feed {
  const live = relay.live ?? [];
  const feed = new Feed({
    line,
    most: relay.max_limit,
    now: relayNow,
    filters: () => live,
    // Strangers are shown nothing that its author warns of.
    wants: event => event.kind === NOTE && warning(event) === null,
    count: async (newer, older, held) => {
      const all = await line.count({ ...live[0], since: older.created_at, until: newer.created_at });
      return all === null ? null : { number: Math.max(0, all - held), isMore: false };
    },
    seen: event => people.expect(event),
  });
  if (first.screen.name === 'landing') feed.begin(first.screen.events);
  return feed;
}

export function Landing() {
  const shown = useMemo(feed, []);
  return (
    <div class="page">
      <main id="main" tabindex={-1}>
        <div class="landing">
          <div class="hero">
            <Icon name="mark" plain />
            <h1>{headline()}</h1>
            <p>{welcome()}</p>
            {accounts && (
              <div class="row wrap">
                {accounts.open !== 'closed' && (
                  <a class="btn primary big" href="/sign-up">
                    Sign up
                  </a>
                )}
                <a class="btn big only-phone" href="/sign-in">
                  Sign in
                </a>
              </div>
            )}
          </div>
          <div class="feedbar">
            <h2>Being said here, right now</h2>
          </div>
          <FeedView feed={shown} name="Public notes, newest first" live={relay.live !== null} empty={<Empty />} />
        </div>
      </main>
      <aside class="side" aria-label="About this relay">
        {accounts && (
          <section class="panel stack">
            <h2>Sign in</h2>
            <SignInForm id="side" />
          </section>
        )}
        <Facts />
      </aside>
    </div>
  );
}

const accounts = first.accounts;

function welcome(): string {
  const more = accounts && accounts.open !== 'closed' ? ' Sign up to post and to follow people.' : '';
  return `${relay.name} is a relay for Nostr. Read along without an account.${more}`;
}

function headline(): string {
  return relay.description.trim().split('\n')[0] || 'A small place to talk, where nothing gets lost on the way.';
}

function Empty() {
  const text = relay.live !== null
    ? 'Nobody has said anything yet. What is said appears here by itself.'
    : 'What is said here is not shown to strangers.';
  return (
    <article class="item quiet top-of end-of" tabindex={-1}>
      <span class="knot" />
      <p class="body gone">{text}</p>
    </article>
  );
}

function Facts() {
  const mail = /^(mailto:|https:\/\/)/.test(relay.contact);
  return (
    <section class="stack">
      <h2>For developers</h2>
      <dl class="facts">
        <dt>Relay</dt>
        <dd>
          <code>{relay.address}</code>
        </dd>
        <dt>Speaks</dt>
        <dd>NIP {relay.nips.join(', ')}</dd>
        <dt>Limits</dt>
        <dd>
          {Math.floor(relay.max_message_bytes / 1024)} KiB a message, {relay.max_subscriptions} subscriptions, {relay.max_limit} events a
          page
        </dd>
        <dt>Write</dt>
        <dd>{relay.write}</dd>
        {relay.contact && <dt>Contact</dt>}
        {relay.contact && (
          <dd>
            {mail ? (
              <a href={relay.contact} rel="noopener noreferrer">
                {relay.contact.replace(/^mailto:/, '')}
              </a>
            ) : (
              relay.contact
            )}
          </dd>
        )}
        <dt>Software</dt>
        <dd>Rookery {relay.version}</dd>
      </dl>
    </section>
  );
}

// What somebody says of themselves, and their posts.
import { useMemo } from 'preact/hooks';
import { counts, line, people, relay } from '../app.ts';
import { relayNow } from '../clock.ts';
import { Feed } from '../feed.ts';
import { first } from '../first.ts';
import { NOTE, npub } from '../nostr.ts';
import { self } from '../self.ts';
import { useTold } from '../state.ts';
import { short } from '../words.ts';
import { Actions, FollowButton, PersonMenu } from './actions.tsx';
import { FeedView } from './feed.tsx';
import { Egg, Note } from './parts.tsx';

function feedOf(key: string): Feed {
  const feed = new Feed({
    line,
    most: relay.max_limit,
    now: relayNow,
    filters: () => [{ kinds: [NOTE], authors: [key] }],
    wants: event => event.kind === NOTE && event.pubkey === key,
    seen: event => people.expect(event),
  });
  if (first.screen.name === 'person' && first.screen.pubkey === key) feed.begin(first.screen.events);
  return feed;
}

export function PersonScreen({ of }: { of: string }) {
  useTold(people, self);
  const feed = useMemo(() => feedOf(of), [of]);
  useTold(feed);
  if (self.me) counts.want(feed.shown.map(event => event.id).slice(0, 200));
  const name = people.name(of);
  const about = people.get(of)?.about;
  return (
    <div class="page">
      <main id="main" tabindex={-1}>
        <div class="profile">
          <Egg of={of} size="lg" />
          <div class="stack">
            <div class="row wrap">
              <div>
                <h1 dir="auto">{name}</h1>
                <p class="small dim">
                  <code>{short(of)}</code>
                </p>
              </div>
              {self.me && (
                <div class="row end">
                  <FollowButton of={of} />
                  <PersonMenu of={of} />
                </div>
              )}
            </div>
          </div>
          <div class="rest">
            {self.hasMuted(of) && (
              <Note title={`You muted ${name}`}>
                <p>What they post stands here, and nowhere else that you look.</p>
              </Note>
            )}
            {about && (
              <p class="text" dir="auto">
                {about}
              </p>
            )}
            <details>
              <summary class="btn quiet">Key</summary>
              <dl class="facts">
                <dt>npub</dt>
                <dd>
                  <code>{npub(of)}</code>
                </dd>
              </dl>
            </details>
          </div>
        </div>
        <h2 class="vh">Posts</h2>
        <FeedView feed={feed} name={`Posts by ${name}`} live below={event => <Actions event={event} />} empty={<p class="gone">No posts yet.</p>} />
      </main>
    </div>
  );
}

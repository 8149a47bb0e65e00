// What can be done with a post.
import { ask, explain, Problem } from '../api.ts';
import { counts, people, relay } from '../app.ts';
import { asking } from '../asking.ts';
import { note, NOTE, npub, REACTION, REPOST, type Event } from '../nostr.ts';
import { clear } from '../drafts.ts';
import { outbox } from '../outbox.ts';
import { place } from '../route.ts';
import { say } from '../say.ts';
import { self } from '../self.ts';
import { useTold } from '../state.ts';
import { toast } from '../toast.ts';
import { many } from '../words.ts';
import { Icon, Menu } from './parts.tsx';

async function takeBack(id: string): Promise<void> {
  await ask('DELETE', `/posts/${id}`);
  counts.put({ id: '', sig: '', pubkey: self.me!.userId, created_at: 0, kind: 5, tags: [['e', id]], content: '' });
}

/** Says why something did not work. */
export async function tried(act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    self.ended(error);
    toast.show({ text: explain(error, relay.name) });
  }
}

/** Does it, or takes it back. It goes out once, however often it is pressed and whatever becomes of the line. */
function toggle(kind: number, event: Event, done: string | null): void {
  if (done) return void tried(() => takeBack(done));
  if (outbox.isUnderWay(kind, event.id)) return;
  const about = [['e', event.id], ['p', event.pubkey]];
  if (kind === REACTION) outbox.post('+', [...about, ['k', String(event.kind)]], kind);
  else outbox.post(JSON.stringify(event), about, kind);
}

const askToDelete = (from: HTMLElement, event: Event) =>
  asking.ask(from, {
    title: 'Delete this post?',
    text: `${relay.name} removes it at once, and asks other relays to do the same. It cannot make them. This cannot be undone.`,
    yes: 'Delete',
    no: 'Keep it',
    act: async () => {
      await ask('DELETE', `/posts/${event.id}`);
      say('Deleted');
    },
  });

/** How an answer to a post names what it answers (NIP-10). */
export function answerTags(event: Event): string[][] {
  const root = event.tags.find(tag => tag[0] === 'e' && tag[3] === 'root')?.[1];
  const people = new Set([event.pubkey, ...event.tags.filter(tag => tag[0] === 'p' && tag[1]).map(tag => tag[1]!)]);
  people.delete(self.me?.userId ?? '');
  const tags = root ? [['e', root, '', 'root'], ['e', event.id, '', 'reply']] : [['e', event.id, '', 'root']];
  // Whom it answers stands last.
  people.delete(event.pubkey);
  return [...tags, ...[...people].slice(0, 20).map(key => ['p', key]), ['p', event.pubkey]];
}

export function Actions({ event }: { event: Event }) {
  useTold(counts, outbox);
  if (!self.me) return null;
  const count = counts.of(event.id);
  const mine = event.pubkey === self.me.userId;
  const shown = (number: number) => number > 0 && <span>{number}</span>;
  return (
    <div class="acts" role="group" aria-label="Actions">
      <a class="act" href={`/${note(event.id)}#reply`} data-act="reply" aria-label={`Reply, ${many(count.replies, 'reply', 'replies')}`}>
        <Icon name="reply" />
        {shown(count.replies)}
      </a>
      <button
        class="act"
        type="button"
        data-act="repost"
        aria-pressed={count.reposted !== null}
        aria-label={`Repost, ${many(count.reposts, 'repost')}`}
        aria-busy={outbox.isUnderWay(REPOST, event.id)}
        onClick={() => toggle(REPOST, event, count.reposted)}
      >
        <Icon name="repost" />
        {shown(count.reposts)}
      </button>
      <button
        class="act"
        type="button"
        data-act="react"
        aria-pressed={count.reacted !== null}
        aria-label={`React, ${many(count.reactions, 'reaction')}`}
        aria-busy={outbox.isUnderWay(REACTION, event.id)}
        onClick={() => toggle(REACTION, event, count.reacted)}
      >
        <Icon name="heart" />
        {shown(count.reactions)}
      </button>
      <Menu wide="act" label={`More for post by ${people.name(event.pubkey)}`} summary={<Icon name="more" />}>
        <ul>
          <li>
            <a href={`/${note(event.id)}`}>Open thread</a>
          </li>
          <li>
            <button type="button" onClick={() => copy(`${location.origin}/${note(event.id)}`)}>
              Copy link
            </button>
          </li>
          {mine && event.kind === NOTE && (
            <li>
              <button type="button" onClick={press => askToDelete(press.currentTarget, event)}>
                Delete …
              </button>
            </li>
          )}
        </ul>
      </Menu>
    </div>
  );
}

export async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toast.show({ text: 'Copied' });
  } catch {
    toast.show({ text: 'This browser does not let pages copy.' });
  }
}

interface Version {
  version: string;
  people: number;
  stands: boolean;
}

/** Whether it goes on from a list that another app has made a lot shorter, or from that one that was before. */
async function askAboutShrunk(from: HTMLElement, problem: Problem, change: (confirm: string) => Promise<void>): Promise<void> {
  const { versions } = await ask<{ versions: Version[] }>('GET', '/friends/history');
  const has = versions.find(one => one.stands)?.people ?? 0;
  const before = versions.find(one => !one.stands && one.people > has);
  const confirm = problem.free[0] ?? 'none';
  asking.ask(from, {
    title: `Another app changed your list to ${many(has, 'person', 'people')}`,
    text: `${before ? `You had ${before.people.toLocaleString('en')}. ` : ''}Nothing has been written.`,
    yes: before ? `Keep my ${before.people.toLocaleString('en')}` : `Go on with ${has}`,
    no: 'Change nothing',
    ...(before ? { other: { label: `Go on with ${has}`, act: () => change(confirm) } } : {}),
    act: async () => {
      if (!before) return change(confirm);
      await ask('POST', `/friends/history/${before.version}`);
      await change('');
    },
  });
}

/** Changes a follow list, and asks where another app has made it a lot shorter. */
const changeFollows = (from: HTMLElement, change: (confirm: string) => Promise<void>): Promise<void> =>
  tried(async () => {
    try {
      await change('');
    } catch (error) {
      if (!(error instanceof Problem) || error.word !== 'shrunk') throw error;
      await askAboutShrunk(from, error, change);
    }
  });

/** Follow or unfollow, with a way back. */
export function FollowButton({ of }: { of: string }) {
  useTold(self, people);
  if (!self.me || self.follows === null) return null;
  if (of === self.me.userId) return <a class="btn" href="/settings">Edit profile</a>;
  const isFollowed = self.follows.has(of);
  const name = people.name(of);
  const follow = (from: HTMLElement) => changeFollows(from, confirm => self.follow(of, confirm));
  const unfollow = (from: HTMLElement) =>
    changeFollows(from, async confirm => {
      await self.unfollow(of, confirm);
      toast.show({ text: `You unfollowed ${name}.`, action: { label: 'Undo', act: () => follow(from) } });
    });
  return (
    <button
      class={`btn ${isFollowed ? '' : 'primary'}`}
      type="button"
      aria-pressed={isFollowed}
      aria-label={`${isFollowed ? 'Following' : 'Follow'} ${name}`}
      onClick={press => (isFollowed ? unfollow : follow)(press.currentTarget)}
    >
      {isFollowed ? 'Following' : 'Follow'}
    </button>
  );
}

const unmute = (of: string) => tried(() => self.unmute(of));

const mute = (of: string) =>
  tried(async () => {
    await self.mute(of);
    toast.show({ text: `You muted ${people.name(of)}.`, action: { label: 'Undo', act: () => unmute(of) } });
  });

/** In a list: what is muted there is heard again by it, and the other way round. */
export function MuteButton({ of }: { of: string }) {
  const muted = self.hasMuted(of);
  const label = muted ? 'Unmute' : 'Mute';
  return (
    <button class="btn" type="button" aria-label={`${label} ${people.name(of)}`} onClick={() => (muted ? unmute(of) : mute(of))}>
      {label}
    </button>
  );
}

/** What can be done with somebody, beside following them. */
export function PersonMenu({ of }: { of: string }) {
  useTold(self, people);
  const name = people.name(of);
  const muted = self.hasMuted(of);
  const canMute = self.mutes !== null && of !== self.me?.userId;
  return (
    <Menu label={`More for ${name}`} summary={<Icon name="more" />}>
      <ul>
        {canMute && (
          <li>
            <button type="button" onClick={() => (muted ? unmute(of) : mute(of))}>
              {muted ? 'Unmute' : 'Mute'} {name}
            </button>
          </li>
        )}
        <li>
          <button type="button" onClick={() => copy(npub(of))}>
            Copy npub
          </button>
        </li>
      </ul>
      {canMute && <p class="tiny faint">They are not told, but everyone can read whom you mute.</p>}
    </Menu>
  );
}

export const signOut = () =>
  tried(async () => {
    const account = self.me!.userId;
    await self.signOut();
    clear(account);
    place.go('/');
  });

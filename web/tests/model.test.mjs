// The feed against a world that knows everything: whatever comes, breaks and is pressed, in the end all of it was shown,
// once. Nothing of a browser and no relay is needed.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'vite';

let Feed, folder;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rookery-model-'));
  const entry = new URL('../src/feed.ts', import.meta.url).pathname;
  await build({
    configFile: false,
    logLevel: 'error',
    build: { outDir: folder, minify: false, lib: { entry, formats: ['es'], fileName: () => 'feed.mjs' } },
  });
  ({ Feed } = await import(join(folder, 'feed.mjs')));
});

after(() => rmSync(folder, { recursive: true, force: true }));

const [NOTE, DELETION, REPOST, ACTIVITY] = [1, 5, 6, 4227];
/** How far a clock is behind. */
const LATE = 50;

/** Numbers that look random, the same for the same seed. */
function random(seed) {
  let state = seed + 1;
  const next = () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 12), 0x297a2d39);
    mixed ^= mixed >>> 15;
    return (mixed >>> 0) / 2 ** 32;
  };
  const below = count => Math.floor(next() * count);
  return { below, chance: part => next() < part, one: list => list[below(list.length)] };
}

const newestFirst = (a, b) => b.created_at - a.created_at || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);

function asks(filter, event) {
  const { kinds, authors, since = 0, until = Infinity } = filter;
  return kinds.includes(event.kind) && authors.includes(event.pubkey) && event.created_at >= since && event.created_at <= until;
}

/** A relay, and the line to it. */
class World {
  stored = new Map();
  now = 100_000;
  live = true;
  #hearers = new Map();
  #number = 0;

  constructor(rand) {
    this.rand = rand;
    // An answer may be too large before its filters are at their limits.
    this.largest = rand.chance(0.3) ? 70 + rand.below(100) : Infinity;
    this.most = rand.chance(0.2) ? 40 : 5_000;
  }

  event(pubkey, kind, created_at, more = {}) {
    const hex = () => this.rand.below(2 ** 32).toString(16).padStart(8, '0');
    return { id: Array.from({ length: 8 }, hex).join(''), pubkey, kind, created_at, tags: [], content: '', sig: '', ...more };
  }

  publish(event) {
    this.stored.set(event.id, event);
    if (event.kind === DELETION) {
      for (const [, id] of event.tags) if (this.stored.get(id)?.pubkey === event.pubkey) this.stored.delete(id);
    }
    if (!this.live) return;
    for (const { hearer, filters } of this.#hearers.values()) if (filters.some(filter => asks(filter, event))) hearer.event(event);
  }

  answer(filters) {
    let more = false;
    const found = new Map();
    for (const { limit, ...filter } of filters) {
      const all = [...this.stored.values()].filter(event => asks(filter, event)).sort(newestFirst);
      const most = Math.min(limit, this.most);
      more ||= all.length > most;
      all.slice(0, most).forEach(event => found.set(event.id, event));
    }
    const events = [...found.values()].sort(newestFirst);
    if (events.length > this.largest) return { events: events.slice(0, this.largest), more: true };
    return { events, more };
  }

  subscribe(hearer) {
    const number = ++this.#number;
    const one = { hearer, filters: [] };
    this.#hearers.set(number, one);
    if (this.live) this.#ask(one);
    return () => this.#hearers.delete(number);
  }

  #ask(one) {
    const asked = one.hearer.filters();
    one.filters = asked;
    const { events, more } = this.answer(asked);
    events.forEach(event => one.hearer.event(event));
    one.hearer.stored(more);
  }

  async page(filters) {
    await null;
    if (!this.live || this.rand.chance(0.05)) return null;
    return this.answer(filters);
  }

  break() {
    this.live = false;
  }

  mend() {
    this.live = true;
    [...this.#hearers.values()].forEach(one => this.#ask(one));
  }
}

async function live(seed) {
  const rand = random(seed);
  const world = new World(rand);
  const people = ['a', 'b', 'c', 'd', 'e'];
  const me = 'a';
  let [follows, mutes] = [new Set(['a', 'b', 'c']), new Set()];
  const subjectOf = event => (event.kind === REPOST ? event.of : event);
  const wants = event => follows.has(event.pubkey) && !mutes.has(event.pubkey) && !mutes.has(subjectOf(event).pubkey);
  const say = (back = 0, author = rand.one(people)) => {
    const notes = [...world.stored.values()].filter(event => event.kind === NOTE);
    const kind = rand.one([NOTE, NOTE, NOTE, ACTIVITY, notes.length > 0 ? REPOST : NOTE]);
    const at = world.now - rand.below(back + 1) + (rand.chance(0.02) ? 600 : 0);
    const event = world.event(author, kind, at, kind === REPOST ? { of: rand.one(notes) } : {});
    world.publish(event);
    if (rand.chance(0.6)) world.now += rand.below(3);
    return event;
  };
  const burst = (most, back = 0) => {
    for (let count = rand.below(most); count > 0; count--) say(back);
  };
  for (let count = rand.below(900); count > 0; count--) say(90_000);
  burst(40);
  const feed = new Feed({
    line: world,
    most: world.most,
    now: () => world.now,
    filters: () => [NOTE, ACTIVITY].map(kind => ({ kinds: kind === NOTE ? [NOTE, REPOST] : [kind], authors: [...follows] })),
    wants,
    subject: subjectOf,
  });
  if (rand.chance(0.5)) {
    const all = [...world.stored.values()].filter(event => follows.has(event.pubkey) && event.kind !== DELETION);
    feed.begin(all.sort(newestFirst).slice(0, 20));
  }
  feed.start();
  let away = 0;
  const change = (list, key, wider) => {
    const changed = new Set(list);
    if (!changed.delete(key)) changed.add(key);
    return [changed, wider(changed)];
  };
  const does = [
    // While it is heard, anything may come, however old.
    () => world.live && burst(rand.chance(0.1) ? 500 : 20, rand.chance(0.3) ? 80_000 : 0),
    () => world.live && rand.chance(0.7) && ((away = world.now), world.break()),
    () => world.live || burst(rand.chance(0.3) ? 400 : 10, LATE - Math.min(LATE, world.now - away)),
    () => world.live || (burst(300, Math.max(0, world.now - away)), world.mend()),
    () => feed.show(),
    () => feed.more(),
    async () => feed.gaps.length > 0 && feed.fill(rand.one(feed.gaps), () => {}),
    () => {
      const post = world.event(me, NOTE, world.now);
      world.publish(post);
      feed.put(post);
    },
    () => {
      const some = rand.one([...world.stored.values()].filter(event => event.kind === NOTE));
      if (some && world.live) world.publish(world.event(some.pubkey, DELETION, world.now, { tags: [['e', some.id]] }));
    },
    () => {
      const [changed, wider] = change(follows, rand.one(['b', 'c', 'd', 'e']), changed => changed.size > follows.size);
      follows = changed;
      feed.sift();
      feed.again(wider);
    },
    () => {
      const [changed, wider] = change(mutes, rand.one(['c', 'd', 'e']), changed => changed.size < mutes.size);
      mutes = changed;
      feed.sift();
      feed.again(wider);
    },
    () => {
      feed.stop();
      if (rand.chance(0.5)) burst(50);
      feed.start();
    },
  ];
  for (let step = 10 + rand.below(50); step > 0; step--) {
    const done = rand.one(does)();
    if (rand.chance(0.7)) await done;
    const listed = feed.shown.map(event => event.id);
    assert.equal(new Set(listed).size, listed.length, 'one stands there twice');
    assert.deepEqual(listed, feed.shown.toSorted(newestFirst).map(event => event.id), 'it is in order');
  }
  // Until there is nothing left to press.
  if (!world.live) world.mend();
  world.rand = { ...rand, chance: () => false };
  await new Promise(resolve => setTimeout(resolve));
  for (let presses = 0; feed.waiting.length > 0 || feed.gaps.length > 0 || feed.older !== 'none'; presses++) {
    assert.ok(presses < 500, `it has no end: ${feed.waiting.length} wait, ${feed.gaps.length} gaps, ${feed.older}`);
    feed.show();
    const [gap] = feed.gaps;
    await (gap ? feed.fill(gap, () => {}) : feed.more());
  }
  const wanted = [...world.stored.values()].filter(event => [NOTE, ACTIVITY, REPOST].includes(event.kind) && wants(event));
  const isDeleted = event => event.kind === REPOST && !world.stored.has(event.of.id);
  const subjects = list => [...new Set(list.map(event => subjectOf(event).id))].sort();
  const shown = feed.shown.filter(event => !feed.gone.has(event.id) && !isDeleted(event));
  const [is, due] = [subjects(shown), subjects(wanted.filter(event => !isDeleted(event)))];
  const [missing, wrong] = [due.filter(id => !is.includes(id)), is.filter(id => !due.includes(id))];
  assert.deepEqual({ missing, wrong }, { missing: [], wrong: [] });
}

test('whatever happens, everything is shown in the end, once', async () => {
  const only = process.env.SEED;
  const seeds = only ? [Number(only)] : Array.from({ length: Number(process.env.RUNS ?? 300) }, (_, nth) => nth);
  for (const seed of seeds) {
    await live(seed).catch(error => {
      throw new Error(`SEED=${seed}: ${error.message}`, { cause: error });
    });
  }
});

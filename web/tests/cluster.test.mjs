// Two people whose sockets are at two nodes, behind a balancer: what one says the other sees, whatever becomes of a node
// or of the page. The nodes are somebody else's, who says where they are.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { join } from './accounts.mjs';
import { launch } from './browser.mjs';
import { Person, Wire } from './people.mjs';

const HOST = process.env.RELAY_HOST;
/** `operators`: where a node tells its metrics. `process`: its id. */
const NODES = JSON.parse(process.env.NODES ?? '[]');
const LONG = process.env.LONG === '1';
/** How long somebody reads while others write, in seconds, and how much they write. */
const READING = LONG ? 600 : 60;
const POSTS = 1_000;
const site = { page: `http://${HOST}`, address: `ws://${HOST}/` };

let browser, quill, nettle;
/** Everything that quill has said, in that order. */
const said = [];

/** How many sockets each node has. */
const sockets = () =>
  Promise.all(
    NODES.map(async ({ operators }) => {
      const metrics = await (await fetch(`http://${operators}/metrics`)).text();
      return Number(/^rookery_connections (\d+)/m.exec(metrics)[1]);
    }),
  );

/** Says something as whoever sits at this page, until it is known to be stored. */
async function post(visitor, content) {
  said.push(content);
  await visitor.page.evaluate(async content => {
    const body = JSON.stringify({ content, created_at: Math.floor(Date.now() / 1000) });
    const send = () => fetch('/v1/posts', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body }).catch(() => null);
    for (let answer = await send(); !answer?.ok; answer = await send()) {
      if (answer && answer.status < 500 && answer.status !== 429) throw new Error(`${answer.status}: ${await answer.text()}`);
      await new Promise(resolve => setTimeout(resolve, 100));
    }
  }, content);
}

const follow = (visitor, key) =>
  visitor.page.evaluate(async key => {
    const answer = await fetch(`/v1/friends/${key}`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' });
    if (!answer.ok) throw new Error(await answer.text());
  }, key);

const me = visitor => visitor.page.evaluate(async () => (await (await fetch('/v1/me')).json()).userId);

/** So many posts wait to be shown. */
const wait = (visitor, count) =>
  visitor.page.waitForFunction(
    text => document.getElementById('fresh')?.textContent.startsWith(text),
    count === 1 ? '1 new post' : `${count} new posts`,
    { polling: 5 },
  );

/** It is there, or it waits to be shown beside what is there. */
async function see(visitor, text) {
  const [fresh, shown] = [visitor.page.locator('#fresh'), visitor.page.getByText(text).first()];
  await fresh.or(shown).first().waitFor();
  if (await fresh.isVisible()) await fresh.click();
  await shown.waitFor();
}

const median = took => took.toSorted((a, b) => a - b)[took.length >> 1];

/** All that quill has said stands there, once. */
async function hasAll(visitor) {
  const texts = await visitor.page.locator('[role=feed] article .text').allInnerTexts();
  assert.deepEqual(texts.filter(text => text.startsWith('quill ')).toReversed().toSorted(), said.toSorted());
}

before(async () => {
  browser = await launch();
});

after(async () => {
  await quill?.context.close();
  await nettle?.context.close();
  await browser?.close();
});

test('what is said at one node comes to a page at another, as fast as to any client', async () => {
  quill = await join(browser, site, 'quill', { activity: 'followers' });
  const before = await sockets();
  nettle = await join(browser, site, 'nettle', { activity: 'followers' });
  const after = await sockets();
  assert.equal(before.reduce((sum, count) => sum + count), 1);
  assert.equal(after.filter(count => count === 1).length, 2, `sockets: ${after}`);

  const key = await me(quill);
  await nettle.page.getByRole('link', { name: 'People', exact: true }).click();
  await nettle.page.getByLabel('Find someone').fill('quill');
  await nettle.page.keyboard.press('Enter');
  await nettle.page.getByRole('button', { name: 'Follow quill' }).first().click();
  await nettle.page.getByRole('button', { name: 'Following quill' }).first().waitFor();
  await nettle.page.getByRole('link', { name: 'Home' }).click();
  await post(quill, 'quill is here');
  await see(nettle, 'quill is here');
  // What moved until here was asked for.
  await nettle.page.evaluate(() => (window.shifts.length = 0));

  const control = new WebSocket(site.address);
  await new Promise(resolve => (control.onopen = resolve));
  const heard = new Map();
  const listening = new Promise(resolve => {
    control.onmessage = message => {
      const [verb, , event] = JSON.parse(message.data);
      if (verb === 'EOSE') resolve();
      if (verb === 'EVENT') heard.get(event.content)?.(performance.now());
    };
  });
  control.send(JSON.stringify(['REQ', 'control', { authors: [key], kinds: [1], limit: 0 }]));
  await listening;
  const [page, plain] = [[], []];
  for (let nth = 1; nth <= 50; nth++) {
    const text = `quill post ${nth}`;
    const shown = wait(nettle, nth).then(() => performance.now());
    const told = new Promise(resolve => heard.set(text, resolve));
    const begun = performance.now();
    await post(quill, text);
    page.push((await shown) - begun);
    plain.push((await told) - begun);
  }
  control.close();
  console.log(`from the send: to a client at the median ${median(plain).toFixed(0)} ms, to the page ${median(page).toFixed(0)} ms`);
  if (LONG) assert.ok(median(page) < 500);
  await nettle.page.locator('#fresh').click();
  await hasAll(nettle);
  // What one does is told to who follows, without a reload.
  await follow(quill, await me(nettle));
  await nettle.page.locator('#fresh').click();
  await nettle.page.locator('article.activity').filter({ hasText: 'quill followed nettle' }).first().waitFor();
  assert.deepEqual(await nettle.shifts(), []);
});

test('an answer comes back to the other node', async () => {
  const first = nettle.page.locator('article').filter({ hasText: 'quill is here' });
  await first.getByRole('link', { name: /^Reply/ }).click();
  await nettle.page.locator('.composer textarea').fill('nettle answers');
  await nettle.page.locator('.composer').getByRole('button', { name: 'Post' }).click();
  await quill.page.getByRole('link', { name: /Notices/ }).click();
  await quill.page.getByText('nettle answers').waitFor();
  await nettle.page.getByRole('link', { name: 'Home' }).click();
});

test('a reload shows the same list', async () => {
  const listed = () => nettle.page.locator('[role=feed] article:not(.activity) .text').allInnerTexts();
  await nettle.page.getByText('quill is here').first().waitFor();
  const before = await listed();
  await nettle.page.reload();
  await nettle.page.waitForFunction(count => document.querySelectorAll('[role=feed] article:not(.activity) .text').length >= count, before.length);
  assert.deepEqual(await listed(), before);
});

test('a page that was frozen, or without a network, has all of it afterwards', async () => {
  const session = await nettle.context.newCDPSession(nettle.page);
  await session.send('Page.setWebLifecycleState', { state: 'frozen' });
  for (let nth = 1; nth <= 5; nth++) await post(quill, `quill while it was frozen ${nth}`);
  await session.send('Page.setWebLifecycleState', { state: 'active' });
  await wait(nettle, 5);
  await nettle.context.setOffline(true);
  await nettle.page.getByText('Offline', { exact: true }).waitFor();
  for (let nth = 1; nth <= 5; nth++) await post(quill, `quill while it was offline ${nth}`);
  await nettle.context.setOffline(false);
  await wait(nettle, 10);
  await nettle.page.locator('#fresh').click();
  await hasAll(nettle);
});

test('a node that is killed costs its pages nothing but a moment', async () => {
  await nettle.page.goto('about:blank');
  let without = await sockets();
  while (without.reduce((sum, count) => sum + count) > 1) without = await sockets();
  await nettle.open();
  const at = (await sockets()).findIndex((count, nth) => count > without[nth]);
  process.kill(NODES[at].process, 'SIGKILL');
  const begun = performance.now();
  NODES.splice(at, 1);
  for (let nth = 1; nth <= 10; nth++) await post(quill, `quill while a node was gone ${nth}`);
  await wait(nettle, 10);
  const took = performance.now() - begun;
  console.log(`ten posts after the death of the node are there after ${took.toFixed(0)} ms`);
  if (LONG) assert.ok(took < 5_000);
  await nettle.page.locator('#fresh').click();
  await hasAll(nettle);
});

test('who reads is not moved by a thousand posts', async () => {
  const crowd = new Person();
  const wire = await Wire.open(site.address);
  await follow(nettle, crowd.pubkey);
  await nettle.page.reload();
  await nettle.page.waitForSelector('.link:not(.trying):not(.off)', { state: 'attached' });
  await nettle.page.mouse.wheel(0, 300);
  await nettle.page.waitForFunction(() => scrollY > 100);
  const reading = nettle.page.locator('[role=feed] article').nth(3);
  const place = await reading.evaluate(item => item.getBoundingClientRect().top);
  const [begun, published] = [performance.now(), []];
  for (let nth = 0; nth < POSTS; nth++) {
    const due = begun + (nth * READING * 1_000) / POSTS - performance.now();
    if (due > 0) await new Promise(resolve => setTimeout(resolve, due));
    // However long each of them takes.
    published.push(wire.publishAtLast(crowd.sign(1, `a word of the crowd ${nth}`)));
  }
  await Promise.all(published);
  wire.close();
  await nettle.page.waitForFunction(() => /\d+ new posts/.test(document.getElementById('fresh')?.textContent ?? ''));
  assert.equal(await reading.evaluate(item => item.getBoundingClientRect().top), place);
  assert.deepEqual(await nettle.shifts(), []);
  await quill.leave();
  await nettle.leave();
});

// What somebody sees who has no account: the front page, people and posts, as they are said.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { bech32 } from '@scure/base';
import { hexToBytes } from '@noble/hashes/utils.js';
import { launch, Visitor } from './browser.mjs';
import { now, Person, Wire } from './people.mjs';
import { Relay } from './relay.mjs';

let relay, browser, wire;
const quill = new Person();
const nettle = new Person();
const code = (prefix, hex) => bech32.encode(prefix, bech32.toWords(hexToBytes(hex)), 200);
const posts = [];

before(async () => {
  [relay, browser] = await Promise.all([Relay.start(['info.name=Elmwood', 'page.public=all']), launch()]);
  wire = await Wire.open(relay.address);
  await wire.publish(quill.sign(0, JSON.stringify({ name: 'quill', about: 'Tides, maps, old instruments' })));
  await wire.publish(nettle.sign(0, JSON.stringify({ display_name: 'net\u202etle', about: 'Bread' })));
  const say = async (who, text, tags = [], age = 0) => posts.push(await wire.publish(who.sign(1, text, tags, now() - age)));
  await say(quill, 'How a tide table was made before there were machines for it: https://quill.example/tides/2.', [], 7200);
  await say(nettle, 'Second rise in the fridge overnight, not on the radiator.', [], 600);
  await say(quill, 'Overnight in the fridge, or only the second rise?', [['e', posts[1].id, '', 'root'], ['p', nettle.pubkey]], 500);
  await say(nettle, '<img src=x onerror="document.title=1"> <script>alert(1)</script> javascript:alert(1)', [], 400);
  await say(quill, 'North groyne https://img.example/wet.jpg', [['imeta', 'url https://img.example/wet.jpg', 'alt wet sand, low tide']], 300);
  await say(nettle, 'A spider', [['content-warning', 'spider, very close']], 200);
});

after(async () => {
  wire?.close();
  await browser?.close();
  await relay?.end();
});

test('it is read without the script', async () => {
  const visitor = await Visitor.come(browser, relay, { javaScriptEnabled: false });
  await visitor.page.goto(relay.page);
  const shown = await visitor.page.locator('[role=feed]').innerText();
  assert.match(shown, /quill\n/);
  assert.match(shown, /How a tide table was made/);
  assert.match(shown, /<script>alert\(1\)<\/script>/);
  assert.doesNotMatch(shown, /A spider/);
  await visitor.page.goto(`${relay.page}/${code('note', posts[5].id)}`);
  assert.match(await visitor.page.locator('.thread').innerText(), /Content warning: spider, very close/);
  assert.equal(await visitor.page.getByText('A spider').isVisible(), false);
  await visitor.context.close();
});

/** The document as far as a person sees it, without what depends on the place of the clock. */
const seen = page =>
  page.evaluate(() => {
    const main = document.querySelector('main').cloneNode(true);
    main.querySelectorAll('time, .slot, .more').forEach(node => node.remove());
    main.querySelector('#feed')?.removeAttribute('class');
    const attributes = /^(class|href|id|dir|role|aria-label|aria-labelledby|aria-describedby|aria-posinset|src|alt|rel|target)$/;
    const lines = [];
    const walk = (node, depth) => {
      if (node.nodeType === 3) return void (node.data && lines.push(' '.repeat(depth) + JSON.stringify(node.data)));
      const named = [...node.attributes].filter(one => attributes.test(one.name)).map(one => `${one.name}=${one.value.trim().replace(/ +/g, ' ')}`);
      lines.push(`${' '.repeat(depth)}${node.localName} ${named.filter(text => !text.endsWith('=')).sort().join(' ')}`);
      node.normalize();
      node.childNodes.forEach(child => walk(child, depth + 1));
    };
    walk(main, 0);
    return lines.join('\n');
  });

test('the script takes over what is there, and nothing moves', async () => {
  for (const path of ['/', `/${code('npub', quill.pubkey)}`, `/${code('note', posts[1].id)}`]) {
    const still = await Visitor.come(browser, relay, { javaScriptEnabled: false });
    await still.page.goto(relay.page + path);
    const before = await seen(still.page);
    await still.context.close();
    const visitor = await Visitor.come(browser, relay);
    await visitor.open(path);
    await visitor.page.waitForTimeout(300);
    assert.equal(await seen(visitor.page), before);
    assert.deepEqual(await visitor.shifts(), []);
    await visitor.leave();
  }
});

test('a document that comes in pieces is painted when it is whole', async t => {
  const whole = await (await fetch(relay.page, { headers: { accept: 'text/html' } })).text();
  // In the middle of a line: its place depends on how long it is.
  const cut = whole.indexOf('>Open</a>') + 1;
  assert.ok(cut > 0);
  const slow = createServer(async (asked, answer) => {
    const file = asked.url === '/' ? null : await fetch(relay.page + asked.url);
    answer.setHeader('content-type', file?.headers.get('content-type') ?? 'text/html; charset=utf-8');
    if (file) return answer.end(Buffer.from(await file.arrayBuffer()));
    answer.write(whole.slice(0, cut));
    setTimeout(() => answer.end(whole.slice(cut)), 1_000);
  });
  t.after(() => {
    slow.closeAllConnections();
    slow.close();
  });
  await new Promise(listening => slow.listen(0, '127.0.0.1', listening));
  const page = `http://127.0.0.1:${slow.address().port}`;
  const visitor = await Visitor.come(browser, { page });
  // It would find that nothing is live here.
  await visitor.context.route('**/page/app-*.js', route => route.abort());
  await visitor.page.goto(page);
  await visitor.page.waitForTimeout(300);
  assert.deepEqual(await visitor.shifts(), []);
  await visitor.leave();
});

test('what is said comes without a reload, and what is read does not move', async () => {
  const visitor = await Visitor.come(browser, relay);
  await visitor.open();
  const { page } = visitor;
  await page.mouse.wheel(0, 200);
  await page.waitForFunction(() => scrollY > 100);
  const reading = page.locator('[role=feed] article').nth(2);
  const place = await reading.evaluate(item => item.getBoundingClientRect().top);
  const took = [];
  for (let nth = 1; nth <= 50; nth++) {
    const count = nth === 1 ? '1 new post' : `${nth} new posts`;
    const shown = page.waitForFunction(text => document.getElementById('fresh')?.textContent.startsWith(text), count, { polling: 5 });
    const begun = performance.now();
    await wire.publish(nettle.sign(1, `loaf ${nth}`));
    await shown;
    took.push(performance.now() - begun);
  }
  took.sort((a, b) => a - b);
  console.log(`from the send to the page: median ${took[25].toFixed(0)} ms, longest ${took[49].toFixed(0)} ms`);
  assert.equal(await reading.evaluate(item => item.getBoundingClientRect().top), place);
  assert.deepEqual(await visitor.shifts(), []);
  await page.keyboard.press('.');
  await page.waitForFunction(() => document.activeElement?.matches('article.is-new'));
  assert.equal(await page.locator('article.is-new').count(), 50);
  assert.equal(await page.locator('.unread').count(), 1);
  assert.match(await page.locator('#say').textContent(), /50 new posts added above/);
  const listed = () => page.locator('[role=feed] article .text').allInnerTexts();
  const before = await listed();
  await page.reload();
  await page.waitForSelector('.link:not(.trying)');
  await page.waitForFunction(count => document.querySelectorAll('[role=feed] article').length >= count, before.length);
  assert.deepEqual((await listed()).slice(0, before.length), before);
  await visitor.leave();
});

test('a deleted post leaves its place as it was', async () => {
  const visitor = await Visitor.come(browser, relay);
  const post = await wire.publish(quill.sign(1, 'A slip of the pen'));
  await visitor.open();
  const { page } = visitor;
  await page.getByText('A slip of the pen').waitFor();
  const second = page.locator('[role=feed] article').nth(1);
  const place = await second.evaluate(item => item.getBoundingClientRect().top);
  // Somebody else can not take it away.
  await wire.publish(nettle.sign(5, '', [['e', post.id]]));
  await wire.publish(quill.sign(5, '', [['e', post.id]]));
  await page.getByText('deleted a post').waitFor();
  assert.equal(await page.getByText('A slip of the pen').count(), 0);
  assert.equal(await second.evaluate(item => item.getBoundingClientRect().top), place);
  assert.deepEqual(await visitor.shifts(), []);
  await visitor.leave();
});

test('an answer appears in its thread', async () => {
  const visitor = await Visitor.come(browser, relay);
  await visitor.open(`/${code('note', posts[1].id)}`);
  await wire.publish(quill.sign(1, 'The radiator is how you get a brick.', [['e', posts[1].id, '', 'root'], ['p', nettle.pubkey]]));
  await visitor.page.getByText('The radiator is how you get a brick.').waitFor();
  await visitor.leave();
});

test('every screen is for everybody', async () => {
  const paths = ['/', `/${code('npub', quill.pubkey)}`, `/${code('note', posts[1].id)}`, `/${code('note', posts[4].id)}`];
  for (const [colorScheme, width] of [['light', 1280], ['dark', 390], ['light', 320]]) {
    const visitor = await Visitor.come(browser, relay, { colorScheme, viewport: { width, height: 844 } });
    for (const path of paths) {
      await visitor.open(path);
      assert.deepEqual(await visitor.axe(), [], `${path} ${colorScheme} ${width}`);
      const wide = await visitor.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${path} at ${width} scrolls sideways by ${wide}`);
    }
    await visitor.leave();
  }
});

test('what changes before the page has been painted is drawn too', async () => {
  const visitor = await Visitor.come(browser, relay);
  await visitor.page.addInitScript(() => {
    // As on a machine that is slow to paint: whatever waits for that comes when the relay has answered.
    const { setTimeout } = window;
    window.requestAnimationFrame = paint => setTimeout(paint, 2_000);
    window.setTimeout = (act, wait, ...rest) => setTimeout(act, wait < 200 ? 2_000 : wait, ...rest);
  });
  await visitor.open(`/${code('note', posts[1].id)}`);
  await visitor.leave();
});

test('the theme is there before anything is painted', async () => {
  const visitor = await Visitor.come(browser, relay);
  await visitor.open();
  const { page } = visitor;
  await page.getByLabel('Theme and keys').click();
  await page.getByLabel('Dark').check({ force: true });
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
  const answer = await visitor.context.request.get(relay.page, { headers: { accept: 'text/html' } });
  assert.match(await answer.text(), /<html lang="en" data-theme="dark">/);
  await visitor.leave();
});

test('what is not here is 404', async () => {
  const visitor = await Visitor.come(browser, relay);
  const answer = await visitor.page.goto(`${relay.page}/${code('note', 'ab'.repeat(32))}`);
  assert.equal(answer.status(), 404);
  await visitor.page.getByText('This post is not here.').waitFor();
  await visitor.leave();
});

test('an address where nothing is leads home, without the script too', async () => {
  for (const options of [{ javaScriptEnabled: false }, { colorScheme: 'dark', viewport: { width: 320, height: 700 } }]) {
    const visitor = await Visitor.come(browser, relay, options);
    const { page } = visitor;
    const answer = await page.goto(`${relay.page}/such/a-thing`);
    assert.equal(answer.status(), 404);
    await page.getByRole('heading', { name: 'Not here' }).waitFor();
    await page.getByText('There is nothing at this address.').waitFor();
    if (options.viewport) {
      assert.deepEqual(await visitor.axe(), []);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    }
    await page.getByRole('link', { name: 'To the front page' }).click();
    await page.locator('[role=feed] article').first().waitFor();
    if (options.viewport) await visitor.leave();
    else await visitor.context.close();
  }
});

test('a node that dies is said to be away, and nothing is missed or doubled', async () => {
  const visitor = await Visitor.come(browser, relay);
  await visitor.open();
  const { page } = visitor;
  await relay.kill();
  await page.getByText('Reconnecting', { exact: true }).waitFor();
  assert.equal(await page.locator('.banner').isVisible(), true);
  relay = await relay.again();
  wire = await Wire.open(relay.address);
  for (let nth = 0; nth < 7; nth++) await wire.publish(quill.sign(1, `while it was away ${nth}`));
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByRole('button', { name: '7 new posts' }).click();
  const texts = await page.locator('[role=feed] article .text').allInnerTexts();
  assert.equal(texts.filter(text => text.startsWith('while it was away')).length, 7);
  assert.equal(new Set(texts).size, texts.length);
  assert.deepEqual(await visitor.shifts(), []);
  await visitor.leave();
});

test('many come while somebody reads: the page stays where it is, and small', async () => {
  const visitor = await Visitor.come(browser, relay);
  await visitor.open();
  const { page } = visitor;
  await page.mouse.wheel(0, 300);
  await page.waitForFunction(() => scrollY > 100);
  const reading = page.locator('[role=feed] article').nth(3);
  const place = await reading.evaluate(item => item.getBoundingClientRect().top);
  for (let nth = 0; nth < 400; nth += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, at) => wire.publish(nettle.sign(1, `crumb ${nth + at}`))));
  }
  const count = () => page.locator('#fresh').textContent();
  await page.waitForFunction(() => /\d+ new posts/.test(document.getElementById('fresh')?.textContent ?? ''));
  assert.equal(await reading.evaluate(item => item.getBoundingClientRect().top), place, await count());
  assert.deepEqual(await visitor.shifts(), []);
  await page.locator('#fresh').click();
  await page.locator('.gap').first().waitFor();
  // The gap says how much is behind it, and closes.
  while ((await page.locator('.gap button').count()) > 0) {
    const items = await page.locator('[role=feed] article').count();
    await page.locator('.gap button').first().click();
    await page.waitForFunction(count => document.querySelectorAll('[role=feed] article').length !== count, items);
  }
  const texts = await page.locator('[role=feed] article .text').allInnerTexts();
  const crumbs = texts.filter(text => text.startsWith('crumb'));
  assert.equal(new Set(crumbs).size, crumbs.length);
  assert.equal(crumbs.length, 400);
  await visitor.leave();
});

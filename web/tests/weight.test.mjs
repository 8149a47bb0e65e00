// What the page weighs: how soon it is there, how large its script is, and what is left in memory of thousands of posts.
// For a machine that does nothing else.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { join } from './accounts.mjs';
import { launch, Visitor } from './browser.mjs';
import { now, Person, Wire } from './people.mjs';
import { Relay } from './relay.mjs';

const LOADS = 5;
const FIRST_PAINT = 300;
const SCRIPT = 100 * 1024;
const POSTS = 5_000;
const AT_ONCE = 100;
/** So many come between two times that somebody has the new ones shown. */
const SHOWN_EVERY = 500;
const HEAP = 40 * 1024 * 1024;
/** Posts in the document, and what stands between them. */
const IN_DOCUMENT = 420;

let relay, browser, wire;
const crowd = new Person();

before(async () => {
  [relay, browser] = await Promise.all([Relay.start(['page.public=all']), launch()]);
  wire = await Wire.open(relay.address);
  for (let nth = 0; nth < 20; nth++) await wire.publish(crowd.sign(1, `What was said before, ${nth}`, [], now() - 60 + nth));
});

after(async () => {
  wire?.close();
  await browser?.close();
  await relay?.end();
});

test('its first words are there at once, and its script is small', async () => {
  const paints = [];
  for (let nth = 0; nth < LOADS; nth++) {
    // Somebody who was never here.
    const visitor = await Visitor.come(browser, relay);
    await visitor.open();
    const { paint, script } = await visitor.page.evaluate(async () => {
      const painted = () => performance.getEntriesByName('first-contentful-paint')[0]?.startTime;
      while (painted() === undefined) await new Promise(requestAnimationFrame);
      const files = performance.getEntriesByType('resource').filter(file => file.initiatorType === 'script');
      return { paint: painted(), script: files.reduce((sum, file) => sum + file.encodedBodySize, 0) };
    });
    paints.push(paint);
    // Files of the folder come as they are.
    if (nth === 0 && !process.env.BUILT) console.log(`script: ${script} bytes, compressed`);
    if (!process.env.BUILT) assert.ok(script > 0 && script <= SCRIPT, `${script} bytes of script`);
    await visitor.leave();
  }
  paints.sort((a, b) => a - b);
  console.log(`first contentful paint: ${paints.map(paint => paint.toFixed(0)).join(', ')} ms`);
  assert.ok(paints[LOADS >> 1] <= FIRST_PAINT, `first contentful paint after ${paints[LOADS >> 1]} ms`);
});

test('of five thousand posts that came live, those are left that can be seen', async () => {
  const visitor = await join(browser, relay, 'reader');
  const { page } = visitor;
  await page.evaluate(async key => {
    const answer = await fetch(`/v1/friends/${key}`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' });
    if (!answer.ok) throw new Error(await answer.text());
  }, crowd.pubkey);
  await visitor.open();
  await page.getByText('What was said before, 19').waitFor();
  const session = await visitor.context.newCDPSession(page);
  const heap = async () => {
    await session.send('HeapProfiler.collectGarbage');
    return (await session.send('Runtime.getHeapUsage')).usedSize;
  };
  const before = await heap();
  for (let nth = 0; nth < POSTS; nth += AT_ONCE) {
    await Promise.all(Array.from({ length: AT_ONCE }, (_, at) => wire.publish(crowd.sign(1, `A word of the crowd ${nth + at}`))));
    if ((nth + AT_ONCE) % SHOWN_EVERY !== 0) continue;
    await page.locator('#fresh').click();
    await page.getByText(/^A word of the crowd/).first().waitFor();
  }
  const articles = await page.getByRole('article').count();
  const used = await heap();
  const mebibytes = bytes => (bytes / 1024 / 1024).toFixed(1);
  console.log(`heap: ${mebibytes(before)} MiB, after ${POSTS} posts ${mebibytes(used)} MiB, with ${articles} in the document`);
  assert.ok(used <= HEAP, `${used} bytes`);
  assert.ok(articles <= IN_DOCUMENT, `${articles} in the document`);
  await visitor.leave();
});

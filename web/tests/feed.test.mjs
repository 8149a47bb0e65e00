// People at browsers of their own: what one does, the other sees without a reload.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { bech32 } from '@scure/base';
import { hexToBytes } from '@noble/hashes/utils.js';
import { join, publish, say } from './accounts.mjs';
import { launch } from './browser.mjs';
import { Person, Wire } from './people.mjs';
import { Relay } from './relay.mjs';

let relay, browser;

before(async () => {
  [relay, browser] = await Promise.all([Relay.start(['info.name=Elmwood', 'accounts.address_sign_ups=1000']), launch()]);
});

after(async () => {
  await browser?.close();
  await relay?.end();
});

test('two people find, follow, write and answer each other, and neither loads a page again', async () => {
  const [quill, nettle] = [await join(browser, relay, 'quill', { activity: 'followers' }), await join(browser, relay, 'nettle', { activity: 'followers' })];
  await say(quill, 'Does anyone here bake with the tide?');
  await nettle.page.getByRole('link', { name: 'People', exact: true }).click();
  await nettle.page.getByLabel('Find someone').fill('qui');
  await nettle.page.keyboard.press('Enter');
  await nettle.page.getByRole('button', { name: 'Follow quill' }).first().click();
  await nettle.page.getByRole('button', { name: 'Following quill' }).first().waitFor();
  await nettle.page.getByRole('link', { name: 'Home' }).click();
  const fresh = nettle.page.locator('#fresh');
  await nettle.page.locator('article, #fresh').first().waitFor();
  if (await fresh.isVisible()) await fresh.click();
  await nettle.page.getByText('Does anyone here bake with the tide?').waitFor();

  await say(quill, 'The harbour oven used to be lit two hours before high water.');
  await nettle.page.getByRole('button', { name: '1 new post' }).click();
  await nettle.page.getByText('The harbour oven used to be lit').waitFor();
  await nettle.page.keyboard.press('l');
  await nettle.page.locator('article').filter({ hasText: 'harbour oven' }).getByRole('button', { name: 'React, 1 reaction' }).waitFor();
  await nettle.page.locator('article').filter({ hasText: 'harbour oven' }).getByRole('link', { name: /^Reply/ }).click();
  await nettle.page.waitForFunction(() => document.activeElement?.matches('.composer textarea'));
  await say(nettle, 'My grandmother did.');

  await quill.page.locator('.nav .count').getByText('3').waitFor();
  await quill.page.getByRole('link', { name: /Notices/ }).click();
  await quill.page.getByText('My grandmother did.').waitFor();
  await quill.page.getByText('reacted to your post').waitFor();
  await quill.page.getByText('nettle follows you').waitFor();
  await quill.page.getByRole('button', { name: 'Follow nettle' }).waitFor();
  // A follow is told once, though the list that tells it is there for ever.
  await quill.page.locator('.nav .count').waitFor({ state: 'detached' });
  await quill.page.reload();
  await quill.page.getByText('My grandmother did.').waitFor();
  assert.equal(await quill.page.getByText('nettle follows you').count(), 0);

  // What was listed is listed after a reload.
  await nettle.page.getByRole('link', { name: 'Home' }).click();
  const listed = async () => (await nettle.page.locator('[role=feed] article .text').allInnerTexts()).sort();
  const before = await listed();
  await nettle.page.reload();
  await nettle.page.getByText('Does anyone here bake with the tide?').waitFor();
  await nettle.page.waitForFunction(count => document.querySelectorAll('[role=feed] article .text').length === count, before.length);
  assert.deepEqual(await listed(), before);
  // What the README shows: PICTURE=../docs/page.png BUILT=1 node --test tests/feed.test.mjs
  if (process.env.PICTURE) {
    await quill.page.getByRole('link', { name: 'Home' }).click();
    await say(quill, 'Low water at the north groyne is at 14:12 today.');
    await nettle.page.getByRole('button', { name: '1 new post' }).waitFor();
    await nettle.page.evaluate(() => scrollTo(0, 0));
    await nettle.page.screenshot({ path: process.env.PICTURE });
  }

  // Whom one does not follow any more is gone, and comes back.
  await nettle.page.getByRole('link', { name: 'quill' }).first().click();
  await nettle.page.getByRole('button', { name: 'Following quill' }).click();
  await nettle.page.getByText('You unfollowed quill.', { exact: true }).waitFor();
  await nettle.page.getByRole('button', { name: 'Undo' }).click();
  await nettle.page.getByRole('button', { name: 'Following quill' }).waitFor();
  await quill.leave();
  await nettle.leave();
});

test('a notice quotes what it is about: its beginning, as text', async () => {
  const [author, reader] = [await join(browser, relay, 'broadside'), await join(browser, relay, 'margin')];
  const long = await publish(author, { content: `<b>Low water</b>\nat the groyne https://tides.example/a.png ${'and so on '.repeat(40)}` });
  const warned = await publish(author, { content: 'eight legs', tags: [['content-warning', 'spider']] });
  const others = await publish(reader, { content: 'a post of mine' });
  const about = event => [['e', event.id], ['p', long.pubkey]];
  await publish(reader, { kind: 7, content: '+', tags: about(long) });
  await publish(reader, { kind: 6, content: JSON.stringify(warned), tags: about(warned) });
  await publish(reader, { kind: 7, content: '+', tags: about(others) });
  await publish(reader, { content: 'That is what the table says.', tags: [['e', long.id, '', 'root'], ['p', long.pubkey]] });
  const { page } = author;
  await author.open('/notices');
  const notice = text => page.getByRole('article').filter({ hasText: text });
  const quote = notice('reacted to your post').locator('a.quote');
  await quote.getByText('<b>Low water</b> at the groyne and so on').waitFor();
  const text = await quote.textContent();
  assert.ok(text.length <= 141 && text.endsWith('…'), text);
  assert.equal(await quote.locator('*').count(), 0);
  await notice('reposted you').getByText('Content warning: spider').waitFor();
  assert.equal(await page.getByText('eight legs').count(), 0);
  await notice('reacted to a post and named you').getByText('a post of mine').waitFor();
  await notice('replied to you').locator('.quote').getByText('That is what the table says.').waitFor();
  assert.deepEqual(await author.axe(), []);
  await quote.click();
  await page.getByRole('heading', { name: 'Thread' }).waitFor();
  await author.leave();
  await reader.leave();
});

test('deleting asks first, and the focus stays where it was', async () => {
  const visitor = await join(browser, relay, 'blotting-paper');
  const { page } = visitor;
  await visitor.open();
  await say(visitor, 'A slip of the pen');
  const item = text => page.getByRole('article').filter({ hasText: text });
  const wanted = async text => {
    await item(text).getByLabel('More for post').focus();
    await page.keyboard.press('Enter');
    await item(text).getByRole('button', { name: 'Delete …' }).press('Enter');
    await page.getByRole('dialog').waitFor();
  };
  await wanted('A slip of the pen');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Keep it');
  assert.deepEqual(await visitor.axe(), []);
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.match(await page.evaluate(() => document.activeElement.ariaLabel), /^More for post/);
  await item('A slip of the pen').waitFor();

  // Without an answer nothing is deleted, which is said where it was asked.
  await wanted('A slip of the pen');
  await page.route('**/v1/posts/*', route => route.abort());
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').getByText('Elmwood does not answer.').waitFor();
  await page.unroute('**/v1/posts/*');
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByText('deleted a post').waitFor();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.waitForFunction(() => document.activeElement.matches('article.activity'));
  assert.equal(await page.getByText('A slip of the pen').count(), 0);

  // In a thread too: what answers it stays.
  await say(visitor, 'The first of two');
  await item('The first of two').getByRole('link', { name: /^Reply/ }).click();
  await page.getByRole('heading', { name: 'Thread' }).waitFor();
  await page.locator('.composer textarea').fill('The second of two');
  await page.keyboard.press('Control+Enter');
  await page.locator('article:not(.pending)').getByText('The second of two').waitFor();
  for (const text of ['The second of two', 'The first of two']) {
    await wanted(text);
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await item(text).waitFor({ state: 'detached' });
    await page.waitForFunction(() => document.activeElement.matches('article.activity'));
  }
  assert.equal(await page.getByText('deleted a post').count(), 2);
  assert.deepEqual(await visitor.shifts(), []);
  await visitor.leave();
});

test('who is muted is not heard, and is heard again', async () => {
  const [crow, tern, listener] = [await join(browser, relay, 'loud-crow'), await join(browser, relay, 'tern'), await join(browser, relay, 'listener')];
  const { page } = listener;
  for (const { page: of } of [crow, tern]) {
    const key = await of.evaluate(async () => (await (await fetch('/v1/me')).json()).userId);
    await page.evaluate(key => fetch(`/v1/friends/${key}`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: '{}' }), key);
  }
  const asked = await publish(listener, { content: 'Who is awake?' });
  await publish(crow, { content: 'Caw, an hour before dawn.' });
  await page.reload();
  const profile = page.getByRole('link', { name: 'loud-crow' });
  await page.getByText('Caw, an hour before dawn.').waitFor();
  await profile.first().click();
  await page.getByLabel('More for loud-crow').click();
  await page.getByText('They are not told, but').waitFor();
  await page.getByRole('button', { name: 'Mute loud-crow', exact: true }).click();
  await page.getByText('You muted loud-crow', { exact: true }).waitFor();
  assert.deepEqual(await listener.axe(), []);

  // Neither what was said nor what is said, nor what concerns oneself.
  await page.getByRole('link', { name: 'Home' }).click();
  await publish(crow, { content: 'Caw again.' });
  await publish(crow, { content: 'Me.', tags: [['e', asked.id, '', 'root'], ['p', asked.pubkey]] });
  await publish(tern, { content: 'The tide turns at four.' });
  await page.getByRole('button', { name: '1 new post', exact: true }).click();
  await page.getByText('The tide turns at four.').waitFor();
  assert.equal(await page.getByText('Caw').count(), 0);
  assert.equal(await page.locator('.nav .count').count(), 0);
  await page.reload();
  await page.getByText('The tide turns at four.').waitFor();
  assert.equal(await page.getByText('Caw').count(), 0);
  await page.getByText('Who is awake?').waitFor();
  await page.goto(`${relay.page}/settings`);
  await page.locator('#mutes').getByText('loud-crow').waitFor();
  assert.deepEqual(await listener.axe(), []);
  await page.goto(relay.page);
  await page.getByRole('article').filter({ hasText: 'Who is awake?' }).getByRole('link', { name: /^Reply/ }).click();
  await page.getByText('1 reply by someone you muted.').waitFor();
  await page.getByRole('button', { name: 'Show once' }).click();
  await page.getByText('Me.', { exact: true }).waitFor();

  // Another page of the same person hears of it.
  const second = await listener.context.newPage();
  listener.watch(second);
  await second.goto(`${relay.page}/settings`);
  await second.getByRole('button', { name: 'Unmute loud-crow' }).click();
  await second.getByRole('button', { name: 'Mute loud-crow', exact: true }).waitFor();
  await second.close();
  await page.getByRole('link', { name: 'Home' }).click();
  await publish(crow, { content: 'Caw, and good morning.' });
  await page.locator('#fresh').click();
  await page.getByText('Caw, and good morning.').waitFor();
  for (const visitor of [crow, tern, listener]) await visitor.leave();
});

test('a draft is not lost, and what is written without a line goes out once', async () => {
  const visitor = await join(browser, relay, 'oakgall');
  const { page } = visitor;
  await page.locator('.composer textarea').fill('half a thought');
  await page.reload();
  assert.equal(await page.locator('.composer textarea').inputValue(), 'half a thought');
  await relay.kill();
  await page.getByText('Reconnecting', { exact: true }).waitFor();
  await page.locator('.composer textarea').fill('The spider has answered the door.');
  await page.locator('.composer').getByRole('button', { name: 'Post' }).click();
  await page.getByText('Waiting to be sent').last().waitFor();
  await page.waitForFunction(() => document.querySelector('.composer textarea').value === '');
  relay = await relay.again();
  await page.locator('article:not(.pending)').getByText('The spider has answered the door.').waitFor();
  await page.reload();
  await page.getByText('The spider has answered the door.').waitFor();
  assert.equal(await page.getByText('The spider has answered the door.').count(), 1);
  await visitor.leave();
});

test('who is not listed is found by their whole name', async () => {
  const [hidden, seeker] = [await join(browser, relay, 'under-the-eaves', { listed: false }), await join(browser, relay, 'seeker')];
  await seeker.page.getByRole('link', { name: 'People', exact: true }).click();
  const find = async name => {
    await seeker.page.getByLabel('Find someone').fill(name);
    await seeker.page.keyboard.press('Enter');
  };
  await find('under-the');
  await seeker.page.getByText('Nobody is found by this name.').waitFor();
  await find('Under-the-eaves');
  await seeker.page.getByRole('button', { name: 'Follow under-the-eaves' }).waitFor();
  await hidden.leave();
  await seeker.leave();
});

test('whom one follows who writes elsewhere is fetched, and the page says so', async () => {
  const elsewhere = await Relay.start();
  const here = await Relay.start([
    'follow.fetch=accounts',
    `follow.indexers=["${elsewhere.address}"]`,
    'aggregator.look_seconds=1',
    'aggregator.allow_private=true',
    'follow.allow_private=true',
  ]);
  const [stranger, wire] = [new Person(), await Wire.open(elsewhere.address)];
  await wire.publish(stranger.sign(10002, '', [['r', elsewhere.address]]));
  await wire.publish(stranger.sign(1, 'Written a long way from here.'));
  const seeker = await join(browser, here, 'seeker');
  await seeker.page.getByRole('link', { name: 'People', exact: true }).click();
  await seeker.page.getByLabel('Find someone').fill(bech32.encode('npub', bech32.toWords(hexToBytes(stranger.pubkey))));
  await seeker.page.keyboard.press('Enter');
  await seeker.page.getByRole('button', { name: /^Follow / }).first().click();
  await seeker.page.getByRole('button', { name: /^Following / }).first().waitFor();
  await seeker.page.getByRole('link', { name: 'People', exact: true }).click();
  await seeker.page.getByText('Fetching 1 person from 1 relay.').waitFor();
  await seeker.page.getByRole('link', { name: 'Home' }).click();
  await seeker.page.getByText('Written a long way from here.').or(seeker.page.getByRole('button', { name: '1 new post' })).first().waitFor();
  const fresh = seeker.page.locator('#fresh');
  if (await fresh.isVisible()) await fresh.click();
  await seeker.page.getByText('Written a long way from here.').waitFor();
  wire.close();
  await seeker.leave();
  await Promise.all([elsewhere.end(), here.end()]);
});

test('a post is written without the script', async () => {
  const visitor = await join(browser, relay, 'tideline');
  const cookies = await visitor.context.cookies();
  await visitor.leave();
  const context = await browser.newContext({ javaScriptEnabled: false });
  await context.addCookies(cookies);
  const page = await context.newPage();
  await page.goto(relay.page);
  await page.locator('textarea').fill('Ferry runs again from noon.');
  await page.getByRole('button', { name: 'Post' }).click();
  await page.getByText('Ferry runs again from noon.').waitFor();
  await context.close();
});

test('a notice that comes while one reads waits, and a line without an answer is said so', async () => {
  const [reader, writer] = [await join(browser, relay, 'lamp'), await join(browser, relay, 'wick')];
  await say(reader, 'Who keeps the light tonight?');
  const { userId } = await reader.page.evaluate(async () => (await fetch('/v1/me')).json());
  const { id } = await reader.page.evaluate(async () => (await (await fetch('/v1/feed?limit=1')).json()).events[0]);
  const answer = text => publish(writer, { kind: 1, content: text, tags: [['e', id, '', 'root'], ['p', userId]] });
  await answer('I do.');
  await reader.page.getByRole('link', { name: /Notices/ }).click();
  await reader.page.getByText('I do.').waitFor();
  await answer('So do I.');
  await reader.page.getByRole('button', { name: '1 new notice' }).waitFor();
  assert.equal(await reader.page.getByText('So do I.').count(), 0);
  await reader.page.keyboard.press('.');
  await reader.page.getByText('So do I.').waitFor();
  await reader.leave();
  await writer.leave();
});

test('what was written too long ago is dated anew, and a reaction goes out once', async () => {
  const visitor = await join(browser, relay, 'slow-boat');
  const { page } = visitor;
  await say(visitor, 'At sea.');
  // As if it had waited for an hour without a line.
  await page.evaluate(() => {
    const own = Object.keys(sessionStorage).find(name => name.startsWith('rookery-outbox-'));
    if (own) throw new Error('it is not sent');
  });
  const me = await page.evaluate(async () => (await (await fetch('/v1/me')).json()).userId);
  await page.evaluate(me => {
    const event = { pubkey: me, created_at: Math.floor(Date.now() / 1000) - 3_600, kind: 1, tags: [], content: 'Written an hour ago.' };
    const pending = [{ id: 'x', event, about: 'home', state: 'waiting', why: '', again: 0 }];
    sessionStorage.setItem(`rookery-outbox-${me}`, JSON.stringify(pending));
  }, me);
  await page.reload();
  await page.locator('article:not(.pending)').getByText('Written an hour ago.').waitFor();
  // The answer is slow, and whoever reacts is impatient.
  let sent = 0;
  await page.route('**/v1/posts', async route => {
    sent++;
    await new Promise(resolve => setTimeout(resolve, 700));
    await route.continue();
  });
  const react = page.locator('article').filter({ hasText: 'At sea.' }).getByRole('button', { name: /^React/ });
  await react.click();
  await react.click();
  await page.locator('article').filter({ hasText: 'At sea.' }).getByRole('button', { name: 'React, 1 reaction' }).waitFor();
  assert.equal(sent, 1);
  await visitor.leave();
});

test('a list that another program has made a lot shorter is not gone on from unasked', async () => {
  const visitor = await join(browser, relay, 'many-friends');
  const { page } = visitor;
  const friend = await join(browser, relay, 'new-friend');
  let isTold = false;
  await page.route('**/v1/friends/*', async route => {
    // The relay says so of a list that it finds shorter than it was: here it is told of one, once.
    if (isTold) return route.continue();
    isTold = true;
    await route.fulfill({ status: 409, contentType: 'application/problem+json', body: JSON.stringify({ type: 'urn:rookery:problem:shrunk', detail: 'x', free: ['none'] }) });
  });
  await page.getByRole('link', { name: 'People', exact: true }).click();
  await page.getByLabel('Find someone').fill('new-friend');
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Follow new-friend' }).first().click();
  await page.getByRole('dialog').getByText('Nothing has been written.').waitFor();
  assert.deepEqual(await visitor.axe(), []);
  await page.getByRole('dialog').getByRole('button', { name: /^(Keep my|Go on with)/ }).last().click();
  await page.getByRole('button', { name: 'Following new-friend' }).first().waitFor();
  await friend.leave();
  await visitor.leave();
});

// Signing up, in and out.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { join, PASSWORD } from './accounts.mjs';
import { launch, Visitor } from './browser.mjs';
import { Relay } from './relay.mjs';

let relay, browser;

before(async () => {
  [relay, browser] = await Promise.all([Relay.start(['info.name=Elmwood', 'accounts.address_sign_ups=1000']), launch()]);
});

after(async () => {
  await browser?.close();
  await relay?.end();
});

test('a wrong password is said in the form, the same for a name that nobody has', async () => {
  await (await join(browser, relay, 'kilnday')).context.close();
  const visitor = await Visitor.come(browser, relay);
  await visitor.open('/sign-in');
  const { page } = visitor;
  for (const name of ['kilnday', 'nobody-at-all']) {
    await page.locator('#in-u').fill(name);
    await page.locator('#in-p').fill('not the right one');
    await page.locator('#in-p').press('Enter');
    await page.getByText('Name and password don’t match. Check both; capital letters count.').waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), 'in-p');
  }
  await page.locator('#in-u').fill('kilnday');
  await page.locator('#in-p').fill(PASSWORD);
  await page.locator('#in-p').press('Enter');
  await page.getByRole('link', { name: 'Settings' }).waitFor();
  // Nothing of a token or a password is where a script reads it.
  const kept = await page.evaluate(() => JSON.stringify([localStorage, sessionStorage, document.cookie]));
  assert.doesNotMatch(kept, /eyJ|correct horse/);
  await visitor.leave();
});

test('forms work without the script', async () => {
  const visitor = await Visitor.come(browser, relay, { javaScriptEnabled: false });
  const { page } = visitor;
  await page.goto(`${relay.page}/sign-up`);
  await page.locator('#up-u').fill('tideline');
  await page.locator('#up-p').fill(PASSWORD);
  await page.getByRole('button', { name: 'Create account' }).click();
  await page.getByRole('heading', { name: 'Home' }).waitFor();
  await page.goto(`${relay.page}/sign-in`);
  await page.locator('#in-u').fill('tideline');
  await page.locator('#in-p').fill('not the right one');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('Name and password don’t match.').waitFor();
  await visitor.context.close();
});

test('every screen of one’s own is for everybody', async () => {
  for (const [name, options] of [
    ['wide', { colorScheme: 'light' }],
    ['narrow', { colorScheme: 'dark', viewport: { width: 390, height: 844 } }],
  ]) {
    const visitor = await join(browser, relay, name, options);
    for (const path of ['/', '/people', '/notices', '/settings', '/sign-up', '/sign-in']) {
      await visitor.open(path);
      assert.deepEqual(await visitor.axe(), [], `${path} ${name}`);
      assert.deepEqual(await visitor.shifts(), [], path);
      const wide = await visitor.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${path} scrolls sideways by ${wide}`);
    }
    await visitor.leave();
  }
});

test('an invitation and a password to be set anew have links', async () => {
  const visitor = await Visitor.come(browser, relay);
  await visitor.page.goto(`${relay.page}/join#an-invitation`);
  await visitor.page.getByRole('heading', { name: 'Join Elmwood' }).waitFor();
  await visitor.page.goto(`${relay.page}/reset#no-such-code`);
  await visitor.page.getByLabel('New password', { exact: true }).fill('correct horse battery');
  await visitor.page.getByRole('button', { name: 'Set password' }).click();
  await visitor.page.locator('#re-p-h').waitFor();
  assert.deepEqual(await visitor.axe(), []);
  await visitor.leave();
});

test('a wrong password of one’s own is said at its field, and the session goes on', async () => {
  const visitor = await join(browser, relay, 'sandpiper');
  await visitor.open('/settings');
  const { page } = visitor;
  for (const [field, others, button] of [
    ['pw-old', { 'pw-new': 'a wholly new one' }, 'Change password'],
    ['key-old', { 'key-new': 'a longer one for the key' }, 'Show the encrypted key'],
    ['leave-p', {}, 'Leave Elmwood'],
  ]) {
    await page.locator(`#${field}`).fill('not the right one');
    for (const [other, text] of Object.entries(others)) await page.locator(`#${other}`).fill(text);
    await page.getByRole('button', { name: button }).click();
    await page.locator(`#${field}-h`).getByText('This is not your password.').waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), field);
    assert.equal(await page.locator(`#${field}`).getAttribute('aria-invalid'), 'true');
  }
  assert.deepEqual(await visitor.axe(), []);
  await page.locator('#pw-old').fill(PASSWORD);
  await page.locator('#pw-new').fill('short');
  await page.getByRole('button', { name: 'Change password' }).click();
  await page.locator('#pw-new-h').getByText('A password has at least 10 characters.').waitFor();
  await page.locator('#pw-new').fill('a wholly new one');
  await page.getByRole('button', { name: 'Change password' }).click();
  await page.getByText('Your password is changed.').first().waitFor();
  await page.reload();
  await page.getByRole('heading', { name: 'Settings' }).waitFor();
  await visitor.leave();
});

test('who leaves takes the key along, and is gone', async () => {
  const visitor = await join(browser, relay, 'rolling-stone');
  await visitor.open('/settings');
  const { page } = visitor;
  await page.locator('#key-old').fill(PASSWORD);
  await page.locator('#key-new').fill('too short');
  await page.getByRole('button', { name: 'Show the encrypted key' }).click();
  await page.getByText('a password for a key has at least 16 characters').waitFor();
  await page.locator('#key-new').fill('a longer one for the key');
  await page.getByRole('button', { name: 'Show the encrypted key' }).click();
  assert.match(await page.locator('#key').inputValue(), /^ncryptsec1/);
  const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'Everything you have said' }).click()]);
  assert.equal(file.suggestedFilename(), 'rolling-stone.jsonl');
  await page.locator('#leave-p').fill('not the right one');
  await page.getByRole('button', { name: 'Leave Elmwood' }).click();
  await page.locator('#leave-p-h').getByText('This is not your password.').waitFor();
  await page.locator('#leave-p').fill(PASSWORD);
  await page.getByRole('button', { name: 'Leave Elmwood' }).click();
  await page.getByText('Your account is gone.').first().waitFor();
  await page.getByRole('link', { name: 'Sign in' }).first().waitFor();
  await visitor.leave();
});

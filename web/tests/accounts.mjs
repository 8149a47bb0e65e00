// People with accounts, each at a browser of their own.
import { Visitor } from './browser.mjs';

export const PASSWORD = 'correct horse battery';

/** Somebody new, who has signed up by the form. */
export async function join(browser, relay, name, { activity, listed = true, ...options } = {}) {
  const visitor = await Visitor.come(browser, relay, options);
  await visitor.open('/sign-up');
  const { page } = visitor;
  await page.getByLabel('Username').fill(name);
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  if (activity) await page.locator(`input[name=activity][value=${activity}]`).check();
  if (listed) await page.getByLabel('find me by name').check();
  await page.getByRole('button', { name: 'Create account' }).click();
  await page.getByRole('link', { name: 'Notices' }).waitFor();
  await page.locator('.link:not(.trying)').waitFor();
  return visitor;
}

/** What a button of the page would send, without it. */
export const publish = (visitor, event) =>
  visitor.page.evaluate(async event => {
    const answer = await fetch('/v1/posts', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(event) });
    if (!answer.ok) throw new Error(await answer.text());
    return (await answer.json()).event;
  }, event);

export async function say(visitor, text) {
  await visitor.page.locator('.composer textarea').fill(text);
  await visitor.page.locator('.composer').getByRole('button', { name: 'Post' }).click();
  await visitor.page.locator('article:not(.pending)').getByText(text).waitFor();
}


// A real Chromium, and what every page of it must keep: no error, no breach of its policy, no request to anybody else.
import { existsSync } from 'node:fs';
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const PROGRAM = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find(path => existsSync(path));
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export async function launch() {
  assert.ok(PROGRAM, 'chromium is not installed');
  return chromium.launch({ executablePath: PROGRAM, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
}

/** A person at a browser of their own. */
export class Visitor {
  static async come(browser, relay, options = {}) {
    const visitor = new Visitor();
    visitor.relay = relay;
    visitor.faults = [];
    visitor.context = await browser.newContext({
      viewport: { width: 1280, height: 800 },
      locale: 'en-GB',
      colorScheme: 'light',
      ...options,
    });
    // With BUILT=1 the files of the folder are tried, not those that are a part of the program: nothing is compiled then.
    if (process.env.BUILT) {
      for (const ending of ['js', 'css']) {
        const path = new URL(`../../src/net/page/built/app.${ending}`, import.meta.url).pathname;
        await visitor.context.route(`**/page/app-*.${ending}`, route => route.fulfill({ path }));
      }
    }
    // A busy machine is no fault of the page.
    visitor.context.setDefaultTimeout(120_000);
    visitor.page = await visitor.context.newPage();
    visitor.watch(visitor.page);
    return visitor;
  }

  watch(page) {
    page.on('pageerror', error => this.faults.push(`error: ${error}`));
    page.on('console', message => {
      const text = message.text();
      // That a connection broke, or that something was refused, is what some tests are about.
      if (message.type() === 'error' && !/Failed to load resource|WebSocket connection/.test(text)) {
        this.faults.push(`console: ${text}`);
      }
    });
    page.on('request', request => {
      if (!request.url().startsWith(this.relay.page)) this.faults.push(`request to ${request.url()}`);
    });
    page.addInitScript(() => {
      window.shifts = [];
      window.breaches = [];
      document.addEventListener('securitypolicyviolation', event => window.breaches.push(`${event.violatedDirective} ${event.blockedURI}`));
      new PerformanceObserver(list => {
        for (const entry of list.getEntries()) {
          const box = ({ x, y, width, height }) => [x, y, width, height].map(Math.round).join(' ');
          const what = entry.sources.map(source => `${box(source.previousRect)} > ${box(source.currentRect)} ${source.node?.outerHTML?.slice(0, 120)}`);
          window.shifts.push({ value: entry.value, byHand: entry.hadRecentInput, at: Math.round(entry.startTime), what });
        }
      }).observe({ type: 'layout-shift', buffered: true });
    });
  }

  async open(path = '/') {
    const answer = await this.page.goto(this.relay.page + path);
    const live = this.page.waitForSelector('.link:not(.trying):not(.off)', { state: 'attached' });
    await live.catch(async error => {
      const text = await this.page.locator('body').innerText();
      throw new Error(`${path}: ${answer?.status()}, ${this.faults.join(', ')}, shows: ${text.slice(0, 2_000)}`, { cause: error });
    });
  }

  /** What moved although nobody did anything. */
  shifts() {
    return this.page.evaluate(() => window.shifts.filter(shift => !shift.byHand));
  }

  /** Whether everybody can use what is on the screen, as far as a program can tell. */
  async axe() {
    // By the protocol of the browser's tools, which the policy of the page does not bind.
    const session = await this.context.newCDPSession(this.page);
    await session.send('Runtime.evaluate', { expression: AXE });
    const { result } = await session.send('Runtime.evaluate', {
      expression: `axe.run(document, { resultTypes: ['violations'] }).then(found => JSON.stringify(found.violations.map(one => ({ id: one.id, help: one.help, nodes: one.nodes.map(node => node.html.slice(0, 200) + ' ' + node.failureSummary) }))))`,
      awaitPromise: true,
      returnByValue: true,
    });
    await session.detach();
    return JSON.parse(result.value);
  }

  async leave() {
    const breaches = await this.page.evaluate(() => window.breaches).catch(() => []);
    await this.context.close();
    assert.deepEqual([...this.faults, ...breaches], []);
  }
}

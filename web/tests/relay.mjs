// A relay of the test's own, in a process of its own.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const PROGRAM = process.env.ROOKERY ?? new URL('../../target/debug/rookery', import.meta.url).pathname;

export class Relay {
  static async start(settings = [], folder = mkdtempSync(join(tmpdir(), 'rookery-page-')), listen = '127.0.0.1:0') {
    const relay = new Relay();
    relay.folder = folder;
    relay.settings = settings;
    const set = settings.flatMap(setting => ['--set', setting]);
    const environment = { ...process.env, XDG_CONFIG_HOME: folder, ROOKERY_PERSISTER_DEADLINE_MS: '20000' };
    relay.process = spawn(
      PROGRAM,
      ['relay', '--listen', listen, '--ops-listen', '127.0.0.1:0', '--data', join(folder, 'data'), ...set],
      { env: environment, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    relay.log = [];
    const lines = createInterface({ input: relay.process.stderr });
    relay.host = await new Promise((resolve, reject) => {
      lines.on('line', line => {
        relay.log.push(line);
        if (process.env.SHOW_LOG) console.error(line);
        const said = line.startsWith('{') ? JSON.parse(line) : {};
        if (said.message === 'listening') resolve(said.address);
      });
      relay.process.once('exit', () => reject(new Error(`the relay ended:\n${relay.log.join('\n')}`)));
    });
    return relay;
  }

  get page() {
    return `http://${this.host}`;
  }

  get address() {
    return `ws://${this.host}/`;
  }

  /** `kill -9`. */
  async kill() {
    const ended = new Promise(resolve => this.process.once('exit', resolve));
    this.process.kill('SIGKILL');
    await ended;
  }

  /** The same again, at the same place. */
  again() {
    return Relay.start(this.settings, this.folder, this.host);
  }

  async end() {
    if (this.process.exitCode === null && this.process.signalCode === null) await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

// The connection to the relay: one WebSocket, made again whenever it ends. Whoever subscribes keeps its subscription
// over all of them.
import { isEvent, type Event, type Filter } from './nostr.ts';
import { Told } from './state.ts';

export type LineState = 'live' | 'trying' | 'offline';

export interface Hearer {
  filters: () => Filter[];
  /** An event, stored or live. */
  event: (event: Event) => void;
  /** All that was stored has come; `more`: there is more than was asked for. */
  stored?: (more: boolean) => void;
  /** The relay has ended it, and says why. */
  closed?: (reason: string) => void;
}

/** What is stored, as far as it was told. */
export interface Answer {
  events: Event[];
  /** There is more than was asked for, or than an answer may have. */
  more: boolean;
}

/** What a relay said to an event. */
export interface Taken {
  ok: boolean;
  message: string;
}

/** Signs in at a socket; null: nobody is signed in. */
export type SignIn = (challenge: string) => Promise<Event | null>;

/** Shorter breaks are not worth a word. */
const QUIET = 2_000;
/** A socket that says nothing for so long is asked whether it is there, */
const SILENCE = 25_000;
/** and given up after so long. */
const ANSWER = 8_000;
const WAITS = [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000];

export class Line extends Told {
  state: LineState = 'trying';
  /** When it was live last, or is since. */
  since = Date.now();
  reconnects = 0;
  /** How often it was lost. */
  lost = 0;
  /** When the next attempt is made. */
  next = 0;

  #address: string;
  #socket: WebSocket | null = null;
  #subscriptions = new Map<string, Hearer>();
  #answers = new Map<string, (taken: Taken) => void>();
  #counts = new Map<string, (count: number | null) => void>();
  #attempt = 0;
  #number = 0;
  #heard = 0;
  #timers = { again: 0, quiet: 0, pulse: 0, answer: 0 };
  #signIn: SignIn = async () => null;
  #auth = '';
  #ready = false;
  #wasLive = false;

  constructor(address: string) {
    super();
    this.#address = address;
    addEventListener('online', () => this.now());
    addEventListener('offline', () => this.#end());
    // A page that slept does not know how long: its socket may be dead and not say so.
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.#probe());
    addEventListener('pageshow', event => event.persisted && this.#probe());
    document.addEventListener('resume', () => this.#probe());
  }

  start(signIn: SignIn): void {
    this.#signIn = signIn;
    this.#open();
  }

  /** Somebody has signed in, or out: a socket is one person's. */
  renew(): void {
    this.#wasLive = false;
    this.#end();
    this.now();
  }

  /** Tries at once. */
  now(): void {
    if (this.#socket?.readyState === WebSocket.OPEN) return;
    this.#attempt = 0;
    this.#open();
  }

  subscribe(hearer: Hearer): () => void {
    const id = `s${++this.#number}`;
    this.#subscriptions.set(id, hearer);
    if (this.#ready) this.#ask(id, hearer);
    return () => {
      if (this.#subscriptions.delete(id) && this.#ready) this.#send(['CLOSE', id]);
    };
  }

  /** What is stored of these; null: the connection broke, or the relay refused. */
  async read(filters: Filter[]): Promise<Event[] | null> {
    return (await this.page(filters))?.events ?? null;
  }

  /** The same, and whether there is more. */
  page(filters: Filter[], patience = 10_000): Promise<Answer | null> {
    return new Promise(resolve => {
      const events: Event[] = [];
      const done = (answer: Answer | null) => {
        clearTimeout(late);
        end();
        resolve(answer);
      };
      const late = setTimeout(() => done(null), patience);
      const end = this.subscribe({
        filters: () => filters,
        event: event => events.push(event),
        stored: more => done({ events, more }),
        closed: () => done(null),
      });
    });
  }

  /** How many there are; null: the relay does not say. */
  count(filter: Filter): Promise<number | null> {
    if (!this.#ready) return Promise.resolve(null);
    return new Promise(resolve => {
      const id = `c${++this.#number}`;
      const done = (count: number | null) => {
        clearTimeout(late);
        this.#counts.delete(id);
        resolve(count);
      };
      const late = setTimeout(() => done(null), 5_000);
      this.#counts.set(id, done);
      this.#send(['COUNT', id, filter]);
    });
  }

  /** Publishes an event; null: no answer came. */
  publish(event: Event): Promise<Taken | null> {
    if (!this.#ready) return Promise.resolve(null);
    return new Promise(resolve => {
      const late = setTimeout(() => done(null), 10_000);
      const done = (taken: Taken | null) => {
        clearTimeout(late);
        this.#answers.delete(event.id);
        resolve(taken);
      };
      this.#answers.set(event.id, done);
      this.#send(['EVENT', event]);
    });
  }

  #open(): void {
    clearTimeout(this.#timers.again);
    this.#drop();
    if (!navigator.onLine) return this.#show('offline');
    const socket = new WebSocket(this.#address);
    this.#socket = socket;
    this.#auth = '';
    const late = setTimeout(() => socket.close(), ANSWER);
    socket.onopen = () => {
      clearTimeout(late);
      this.#heard = Date.now();
      this.#pulse();
      // The relay's challenge comes first. Where it does not, nobody signs in.
      setTimeout(() => this.#socket === socket && !this.#ready && !this.#auth && this.#begin(), 1_000);
    };
    socket.onmessage = message => this.#hear(socket, String(message.data));
    socket.onclose = () => {
      clearTimeout(late);
      if (this.#socket === socket) this.#end();
    };
  }

  /** The socket is of no use any more. */
  #drop(): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#ready = false;
    clearTimeout(this.#timers.pulse);
    clearTimeout(this.#timers.answer);
    if (socket) {
      socket.onclose = socket.onmessage = null;
      socket.close();
    }
    for (const answer of [...this.#answers.values()]) answer({ ok: false, message: 'broken: ' });
    for (const answer of [...this.#counts.values()]) answer(null);
  }

  #end(): void {
    this.#drop();
    const wait = WAITS[Math.min(this.#attempt++, WAITS.length - 1)]! * (0.7 + Math.random() * 0.6);
    this.next = Date.now() + wait;
    clearTimeout(this.#timers.again);
    if (navigator.onLine) this.#timers.again = window.setTimeout(() => this.#open(), wait);
    if (this.state === 'live') {
      if (!this.#timers.quiet) {
        this.#timers.quiet = window.setTimeout(() => {
          this.#timers.quiet = 0;
          this.#show(navigator.onLine ? 'trying' : 'offline');
        }, QUIET);
      }
    } else {
      this.#show(navigator.onLine ? 'trying' : 'offline');
    }
  }

  #show(state: LineState): void {
    if (this.state === 'live' && state !== 'live') this.lost++;
    if (this.state !== state && (state === 'live' || this.state === 'live')) this.since = Date.now();
    this.state = state;
    this.tell();
  }

  /** Subscribes: the socket is whose it should be. */
  #begin(): void {
    this.#ready = true;
    this.#attempt = 0;
    clearTimeout(this.#timers.quiet);
    this.#timers.quiet = 0;
    if (this.#wasLive) this.reconnects++;
    this.#wasLive = true;
    this.#show('live');
    for (const [id, hearer] of this.#subscriptions) this.#ask(id, hearer);
  }

  #ask(id: string, hearer: Hearer): void {
    const filters = hearer.filters();
    if (filters.length > 0) this.#send(['REQ', id, ...filters]);
  }

  #send(message: unknown[]): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #hear(socket: WebSocket, text: string): void {
    if (this.#socket !== socket) return;
    this.#heard = Date.now();
    let message: unknown;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    if (!Array.isArray(message)) return;
    const [verb, id, third, fourth] = message as unknown[];
    const hearer = this.#subscriptions.get(String(id));
    if (verb === 'EVENT' && hearer && isEvent(third)) hearer.event(third);
    else if (verb === 'EOSE' && hearer) hearer.stored?.(Array.isArray(third) && third.includes('more'));
    else if (verb === 'CLOSED') {
      this.#counts.get(String(id))?.(null);
      hearer?.closed?.(String(third));
      // What the relay could not keep up is begun anew: nothing may be missing silently.
      if (hearer && this.#subscriptions.has(String(id)) && String(third).startsWith('error:')) {
        setTimeout(() => this.#ready && this.#subscriptions.has(String(id)) && this.#ask(String(id), hearer), 1_000);
      }
    } else if (verb === 'OK') {
      if (id === this.#auth) this.#begin();
      else this.#answers.get(String(id))?.({ ok: third === true, message: String(fourth ?? '') });
    } else if (verb === 'COUNT') {
      const { count } = (third ?? {}) as { count?: unknown };
      this.#counts.get(String(id))?.(typeof count === 'number' ? count : null);
    } else if (verb === 'AUTH' && !this.#ready) {
      this.#authenticate(socket, String(id)).catch(() => this.#socket === socket && this.#end());
    }
  }

  async #authenticate(socket: WebSocket, challenge: string): Promise<void> {
    this.#auth = 'asking';
    const event = await this.#signIn(challenge);
    if (this.#socket !== socket) return;
    if (!event) return this.#begin();
    this.#auth = event.id;
    this.#send(['AUTH', event]);
  }

  /** Looks now and then whether the other end is there. */
  #pulse(): void {
    clearTimeout(this.#timers.pulse);
    this.#timers.pulse = window.setTimeout(() => {
      if (Date.now() - this.#heard >= SILENCE) this.#probe();
      this.#pulse();
    }, SILENCE);
  }

  #probe(): void {
    if (this.#socket?.readyState !== WebSocket.OPEN) return this.now();
    const asked = Date.now();
    clearTimeout(this.#timers.answer);
    // Any answer will do.
    this.#send(['CLOSE', 'nothing']);
    this.#send(['COUNT', 'there', { ids: ['0'.repeat(64)] }]);
    this.#timers.answer = window.setTimeout(() => {
      if (this.#heard < asked) {
        this.#end();
        this.now();
      }
    }, ANSWER / 2);
  }
}

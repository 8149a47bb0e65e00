// What the page asks the relay by HTTP (`/v1`). The cookie says who asks; the script never sees it.

/** What went wrong, as the relay says it (RFC 9457). */
export class Problem extends Error {
  /** A word for programs, such as `wrong-password`; `away`: the relay does not answer. */
  readonly word: string;
  readonly status: number;
  readonly field: string;
  readonly free: string[];
  /** Until it is worth to try again. */
  readonly seconds: number;

  constructor(status: number, told: { type?: unknown; detail?: unknown; field?: unknown; free?: unknown; seconds?: unknown }) {
    super(typeof told.detail === 'string' ? told.detail : '');
    this.word = String(told.type ?? 'away').split(':').at(-1)!;
    this.status = status;
    this.field = typeof told.field === 'string' ? told.field : '';
    this.free = Array.isArray(told.free) ? told.free.map(String) : [];
    this.seconds = Number(told.seconds) || 0;
  }
}

type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

export async function ask<T>(method: Method, path: string, body?: unknown): Promise<T> {
  let answer: Response;
  try {
    const patience = AbortSignal.timeout(20_000);
    // What changes something has to call itself JSON: so no page of somebody else sends it unasked.
    const sent = method === 'GET' ? {} : { body: JSON.stringify(body ?? {}), headers: { 'Content-Type': 'application/json' } };
    answer = await fetch(`/v1${path}`, { method, credentials: 'same-origin', signal: patience, ...sent });
  } catch {
    throw new Problem(0, {});
  }
  const text = await answer.text();
  let told: unknown = null;
  try {
    told = text ? JSON.parse(text) : null;
  } catch {
    // A proxy's page, say.
  }
  if (answer.ok) return told as T;
  const wait = Number(answer.headers.get('Retry-After')) || 0;
  const problem = typeof told === 'object' && told ? told : { type: answer.status >= 500 ? 'away' : 'refused' };
  throw new Problem(answer.status, { seconds: wait, ...problem });
}

/** What to tell a person of a failure that no field is at fault for. */
export function explain(error: unknown, name: string): string {
  if (!(error instanceof Problem)) return 'Something went wrong in this page.';
  switch (error.word) {
    case 'away':
      return `${name} does not answer. Try again in a moment.`;
    case 'wrong-password':
      return 'Name and password don’t match. Check both; capital letters count.';
    case 'slow-down':
      return `Too many tries. Try again in ${clock(error.seconds || 30)}.`;
    case 'busy':
      return `${name} is busy. Try again in a moment.`;
    case 'signed-out':
      return 'You were signed out. What you were writing is still here.';
    case 'refused':
      return `${name} did not take this. It says: “${error.message}”.`;
    default:
      return sentence(error.message) || `${name} did not take this.`;
  }
}

/** The relay's words as one of the sentences of the page. */
const sentence = (text: string): string => text && text[0]!.toUpperCase() + text.slice(1) + (/[.!?…”)]$/.test(text) ? '' : '.');

/** 47 s as 0:47. */
export const clock = (seconds: number): string =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;

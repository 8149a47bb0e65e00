// Things that are asked for by their ids: those that are wanted within a moment are one question.

const MOMENT = 60;
/** Of one question. */
const MOST = 200;

export class Wanted {
  #read: (ids: string[]) => Promise<boolean>;
  #asked = new Set<string>();
  #due = new Set<string>();
  #timer = 0;

  /** `read`: asks for these; whether there was an answer. */
  constructor(read: (ids: string[]) => Promise<boolean>) {
    this.#read = read;
  }

  /** Asks for it, unless that was done. */
  want(id: string): void {
    if (this.#asked.has(id)) return;
    this.#asked.add(id);
    this.#due.add(id);
    this.#later();
  }

  /** It came unasked. */
  known(id: string): void {
    this.#asked.add(id);
  }

  #later(): void {
    if (this.#timer || this.#due.size === 0) return;
    this.#timer = window.setTimeout(async () => {
      this.#timer = 0;
      const ids = [...this.#due].slice(0, MOST);
      ids.forEach(id => this.#due.delete(id));
      // Without an answer they are asked for again when they are looked at next.
      if (!(await this.#read(ids))) ids.forEach(id => this.#asked.delete(id));
      this.#later();
    }, MOMENT);
  }
}

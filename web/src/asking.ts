// A question before what can not be undone, and where the focus goes afterwards.
import { Told } from './state.ts';

export interface Question {
  title: string;
  text: string;
  yes: string;
  no: string;
  /** What is done where the answer is yes. */
  act: () => Promise<void>;
  /** What else may be done. */
  other?: { label: string; act: () => Promise<void> };
}

class Asking extends Told {
  now: Question | null = null;
  #from: HTMLElement | null = null;
  #item = '';

  /** `from`: what was pressed. */
  ask(from: HTMLElement, question: Question): void {
    // A menu closes by the choice in it.
    this.#from = from.closest('details.menu')?.querySelector('summary') ?? from;
    this.#item = from.closest('article')?.id ?? '';
    this.now = question;
    this.tell();
  }

  /** The focus goes back to where it was, or to what stands there now. */
  end(): void {
    this.now = null;
    this.tell();
    const back = this.#from?.isConnected ? this.#from : document.getElementById(this.#item);
    back?.focus({ preventScroll: true });
  }
}

export const asking = new Asking();

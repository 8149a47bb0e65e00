// A sentence and one thing to do about it, for a moment.
import { say } from './say.ts';
import { Told } from './state.ts';

export interface ToastText {
  text: string;
  action?: { label: string; act: () => void };
}

class Toast extends Told {
  now: ToastText | null = null;
  #timer = 0;

  show(toast: ToastText): void {
    this.now = toast;
    say(toast.action ? `${toast.text} ${toast.action.label}?` : toast.text);
    this.start();
    this.tell();
  }

  start(): void {
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.end(), 6_000);
  }

  /** It stays while somebody is at it. */
  hold(): void {
    clearTimeout(this.#timer);
  }

  end(): void {
    this.now = null;
    this.tell();
  }
}

export const toast = new Toast();

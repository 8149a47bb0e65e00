// A value that tells when it has changed, and a component that hears of it.
import { useEffect, useReducer } from 'preact/hooks';

export class Told {
  /** How often it has changed. */
  changes = 0;
  #hearers = new Set<() => void>();
  #due = false;

  hear(hearer: () => void): () => void {
    this.#hearers.add(hearer);
    return () => this.#hearers.delete(hearer);
  }

  /** Tells once, however often it is called before. */
  protected tell(): void {
    this.changes++;
    if (this.#due) return;
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      for (const hearer of [...this.#hearers]) hearer();
    });
  }
}

/** Draws the component again when one of these has changed. */
export function useTold(...all: Told[]): void {
  const [, again] = useReducer((count: number) => count + 1, 0);
  const drawn = all.map(told => told.changes);
  useEffect(() => {
    const ends = all.map(told => told.hear(() => again(undefined)));
    // It is heard from now on only, which is after what was drawn has been painted.
    if (all.some((told, place) => told.changes !== drawn[place])) again(undefined);
    return () => ends.forEach(end => end());
  }, all);
}

// The time of now, every half minute, so that times age.
import { Told } from './state.ts';

class Ticks extends Told {
  now = Math.floor(Date.now() / 1000);

  constructor() {
    super();
    const tick = () => {
      this.now = Math.floor(Date.now() / 1000);
      this.tell();
    };
    setInterval(tick, 30_000);
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && tick());
  }
}

export const ticks = new Ticks();

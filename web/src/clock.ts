// The time of now by the relay's clock, whatever that of this device says.
import { first } from './first.ts';

const ahead = first.now - Math.floor(Date.now() / 1000);

/** In seconds since 1970. */
export const relayNow = (): number => Math.floor(Date.now() / 1000) + ahead;

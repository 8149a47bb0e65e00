// What all screens share.
import { Counts } from './counts.ts';
import { first } from './first.ts';
import { Line } from './line.ts';
import { People } from './people.ts';
import { self } from './self.ts';

const secure = location.protocol === 'https:';

/** The relay of this page: the one whose address the browser shows. */
export const line = new Line(`${secure ? 'wss' : 'ws'}://${location.host}/`);
export const people = new People();
export const counts = new Counts(line, () => self.me?.userId ?? null);
export const relay = first.relay;

const ahead = first.now - Math.floor(Date.now() / 1000);
/** The time of now by the relay's clock, in seconds since 1970. */
export const relayNow = (): number => Math.floor(Date.now() / 1000) + ahead;

if ('profiles' in first.screen) people.learn(first.screen.profiles);

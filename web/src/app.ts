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

if ('profiles' in first.screen) people.learn(first.screen.profiles);

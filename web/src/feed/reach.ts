// How far a feed reaches, and where something is missing in between: places only, whatever stands there.
import { isNewer, newestFirst, type Place } from '../nostr.ts';

/** How many there are, or more. */
export interface Count {
  number: number;
  isMore: boolean;
}

/** Between two places something is missing, or may be. */
export interface Gap {
  /** What stands above it is here, from this place on. */
  newer: Place;
  /** What stands below it is here, from this place on. */
  older: Place;
  /** How many; null: nobody knows. */
  count: Count | null;
  why: string;
  state: 'found' | 'loading' | 'failed';
}

export class Reach {
  gaps: Gap[] = [];
  /** Down to where everything is here; null: down to the first. Undefined: nothing has been read. */
  floor: Place | null | undefined;

  /** Whether it stands where the feed reaches. */
  covers(place: Place): boolean {
    return !this.floor || !isNewer(this.floor, place);
  }

  /** Everything is here down to there, and nothing else is known. */
  begin(floor: Place | null): void {
    this.gaps = [];
    this.floor = floor;
  }

  /** Everything is here down to there, and what was here before. */
  extend(cut: Place): void {
    for (const gap of this.gaps) if (isNewer(gap.newer, cut)) gap.newer = cut;
    this.gaps = this.gaps.filter(gap => isNewer(gap.newer, gap.older));
    if (this.floor && isNewer(this.floor, cut)) this.floor = cut;
  }

  /** From now on it reaches down to there only. */
  raise(floor: Place): void {
    // What a gap spans is not reached.
    const spans = this.gaps.filter(gap => isNewer(gap.newer, floor) && !isNewer(gap.older, floor));
    const to = spans.map(gap => gap.newer).concat(floor).sort(newestFirst)[0]!;
    this.gaps = this.gaps.filter(gap => isNewer(gap.older, to));
    this.floor = { created_at: to.created_at, id: to.id };
  }

  /** Between these two something may be missing. */
  miss(newer: Place, older: Place, why: string): Gap {
    // Gaps that meet are one.
    const meets = this.gaps.filter(gap => !isNewer(gap.older, newer) && !isNewer(older, gap.newer));
    for (const gap of meets) {
      if (isNewer(gap.newer, newer)) newer = gap.newer;
      if (isNewer(older, gap.older)) older = gap.older;
    }
    const gap: Gap = { newer, older, count: null, why, state: 'found' };
    this.gaps = [...this.gaps.filter(other => !meets.includes(other)), gap];
    return gap;
  }

  /** So many were found in it, which is all of it down to `cut`; null: it is all. */
  fill(gap: Gap, cut: Place | null, found: number): void {
    if (!cut || !isNewer(cut, gap.older)) {
      this.drop(gap);
    } else {
      gap.newer = cut;
      gap.state = 'found';
      if (gap.count && !gap.count.isMore) gap.count.number -= found;
      if (gap.count && gap.count.number <= 0) gap.count = null;
    }
  }

  /** Nothing is missing there. */
  drop(gap: Gap): void {
    this.gaps = this.gaps.filter(other => other !== gap);
  }

  /** The gap right above one of those that are shown. */
  above(shown: Place[], nth: number): Gap | undefined {
    const post = shown[nth]!;
    const above = shown[nth - 1];
    const isHere = (gap: Gap) => !isNewer(post, gap.older) && above !== undefined && isNewer(above, gap.older);
    return this.gaps.find(gap => isHere(gap) && !isNewer(gap.newer, shown[0]!));
  }
}

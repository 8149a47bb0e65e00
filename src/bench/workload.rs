//! Authors and signed events, the same bytes for the same seed on every machine.
//!
//! Shaped like what a relay sees: notes of 100–300 bytes, some reactions and reposts, a few busy
//! authors and many quiet ones, threads of a few dozen replies, time going on from event to event.

use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use sha2::{Digest, Sha256};

use crate::protocol::{Event, Filter, PublicKey, Tags, Timestamp, filter::sorted, sign::Keys};

/// Over how long `created_at` spreads: so long that few of 100,000 events share a second.
const SPAN_SECONDS: u64 = 30 * 24 * 3600;
/// Events are made in pieces, each on its own, so that threads can share the work. Tags refer to
/// earlier events of the same piece.
const PIECE: usize = 1_000;
/// Every so many events of a piece one starts a thread, whose replies follow.
const THREAD_EVERY: usize = 100;
/// Kind of contact lists (NIP-02).
const CONTACTS: u16 = 3;
/// Longest time by which events stand out of order.
const JITTER_SECONDS: u64 = 3_600;

const WORDS: [&str; 32] = [
    "relay", "morning", "coffee", "signal", "the", "and", "of", "a", "with", "nostr", "bird", "winter",
    "code", "rook", "window", "river", "light", "never", "again", "people", "quiet", "zap", "north", "train",
    "garden", "über", "café", "🌞", "news", "build", "tomorrow", "stone",
];

/// SplitMix64 (Steele, Lea, Flood 2014). Not from a library, because those that are kept well keep
/// the right to change the sequence.
pub struct Dice(u64);

impl Dice {
    /// The sequence of a purpose under a seed.
    pub fn new(seed: u64, purpose: &str, number: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(number.to_le_bytes());
        hash.update(purpose);
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be zero.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A number below `end`, low ones more often: the busiest thousandth of 5,000 authors writes a
    /// thirtieth of all.
    fn skewed(&mut self, end: usize) -> usize {
        let unit = self.next() as f64 / (u64::MAX as f64 + 1.0);
        ((unit * unit * end as f64) as usize).min(end - 1)
    }

    /// `count` different numbers below `end`, or all there are.
    pub fn distinct(&mut self, count: usize, end: usize) -> Vec<usize> {
        self.draw(count, end, Self::below)
    }

    fn draw(&mut self, count: usize, end: usize, roll: Roll) -> Vec<usize> {
        let mut left: Vec<usize> = (0..end).collect();
        (0..count.min(end))
            .map(|_| {
                let drawn = roll(self, left.len());
                left.remove(drawn)
            })
            .collect()
    }
}

/// A number below the one given, which must not be zero.
type Roll = fn(&mut Dice, usize) -> usize;

/// Who writes: the same authors whatever is published.
pub struct Authors {
    seed: u64,
    /// Whose turn it is to write, to be followed or to be named.
    roll: Roll,
    keys: Vec<Keys>,
    public: Vec<PublicKey>,
}

impl Authors {
    pub fn new(seed: u64, count: usize) -> Self {
        let keys: Vec<Keys> = (0..count).map(|number| author(seed, number as u64)).collect();
        let public = keys.iter().map(Keys::public_key).collect();
        Self { seed, roll: Dice::skewed, keys, public }
    }

    /// The same authors, all alike: none is busier or followed more than others.
    pub fn even(self) -> Self {
        Self { roll: Dice::below, ..self }
    }

    /// The first are the busiest.
    pub fn public_keys(&self) -> &[PublicKey] {
        &self.public
    }

    /// `count` signed events. Each `stream` is another set of events by the same authors.
    pub fn events(&self, stream: u64, count: usize, base: Timestamp) -> Vec<Event> {
        let pieces: Vec<Range<usize>> =
            (0..count).step_by(PIECE).map(|start| start..count.min(start + PIECE)).collect();
        let next = AtomicUsize::new(0);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            let mut made = Vec::new();
            while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                made.push((piece.start, self.piece(stream, piece.clone(), count, base)));
            }
            made
        };
        let mut made: Vec<(usize, Vec<Event>)> = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
        });
        made.sort_unstable_by_key(|(start, _)| *start);
        made.into_iter().flat_map(|(_, events)| events).collect()
    }

    fn piece(&self, stream: u64, piece: Range<usize>, count: usize, base: Timestamp) -> Vec<Event> {
        let mut dice = Dice::new(self.seed, "events", stream << 32 | piece.start as u64);
        let mut events: Vec<Event> = Vec::with_capacity(piece.len());
        for (place, number) in piece.enumerate() {
            let author = (self.roll)(&mut dice, self.keys.len());
            let elapsed = (number as u128 * u128::from(SPAN_SECONDS) / count as u128) as u64;
            let created_at = base + elapsed + dice.below(JITTER_SECONDS as usize) as u64;
            let (kind, tags) = self.kind_and_tags(&mut dice, &events, place);
            let content = if kind == 1 { note(&mut dice) } else { "+".to_owned() };
            events.push(self.keys[author].sign(created_at, kind, tags, &content));
        }
        events
    }

    /// `count` signed contact lists of so many people, one author after the other, each newer than the last; those
    /// of a later stream, too, unless there are more than authors.
    pub fn contact_lists(&self, stream: u64, count: usize, base: Timestamp, tags: usize) -> Vec<Event> {
        let mut dice = Dice::new(self.seed, "contacts", stream);
        let list = |number: usize| {
            let mut people = Tags::default();
            for person in dice.distinct(tags, self.public.len()) {
                people.push(["p", &self.public[person].to_hex()]);
            }
            let keys = &self.keys[number % self.keys.len()];
            keys.sign(base + stream + number as u64, CONTACTS, people, "")
        };
        (0..count).map(list).collect()
    }

    fn kind_and_tags(&self, dice: &mut Dice, earlier: &[Event], place: usize) -> (u16, Tags) {
        let mut tags = Tags::default();
        let about = |tags: &mut Tags, event: &Event| {
            tags.push(["e", &event.id().to_hex()]);
            tags.push(["p", &event.pubkey().to_hex()]);
        };
        let roll = dice.below(100);
        if earlier.is_empty() || place.is_multiple_of(THREAD_EVERY) || roll >= 70 {
            for _ in 0..dice.below(3) {
                tags.push(["p", &self.public[(self.roll)(dice, self.public.len())].to_hex()]);
            }
            return (1, tags);
        }
        if roll < 20 {
            about(&mut tags, &earlier[dice.below(earlier.len())]);
            return (if roll < 15 { 7 } else { 6 }, tags);
        }
        if roll < 35 {
            let root = dice.below(earlier.len().div_ceil(THREAD_EVERY)) * THREAD_EVERY;
            about(&mut tags, &earlier[root]);
            if dice.chance(30) {
                tags.push(["p", &self.public[(self.roll)(dice, self.public.len())].to_hex()]);
            }
        } else {
            tags.push(["t", WORDS[dice.below(WORDS.len())]]);
        }
        (1, tags)
    }

    /// The filters of `subscribers` that each follow `follows` authors, busy ones more often, as
    /// people do; 0 follows are everything.
    pub fn follow_filters(&self, subscribers: usize, follows: usize) -> Vec<Filter> {
        let mut dice = Dice::new(self.seed, "follows", 0);
        let mut filter = || {
            let mut filter = Filter { limit: Some(0), ..Filter::default() };
            if follows == 0 {
                filter.kinds = Some(Box::new([1, 6, 7]));
            } else {
                let followed = dice.draw(follows, self.public.len(), self.roll);
                filter.authors =
                    Some(sorted(followed.into_iter().map(|author| self.public[author]).collect()));
            }
            filter
        };
        (0..subscribers).map(|_| filter()).collect()
    }
}

fn author(seed: u64, number: u64) -> Keys {
    let mut attempt = 0_u64;
    loop {
        let mut hash = Sha256::new();
        hash.update(b"author");
        for part in [seed, number, attempt] {
            hash.update(part.to_le_bytes());
        }
        // All but 1 in 2^128 of the numbers are secret keys.
        if let Some(keys) = Keys::from_secret(hash.finalize().into()) {
            return keys;
        }
        attempt += 1;
    }
}

fn note(dice: &mut Dice) -> String {
    let length = 100 + dice.below(200);
    let mut text = String::with_capacity(length + 16);
    while text.len() < length {
        text.push_str(WORDS[dice.below(WORDS.len())]);
        text.push(if dice.chance(3) { '\n' } else { ' ' });
    }
    text
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::protocol::{ParsedEvent, verify::Verifier};

    #[test]
    fn is_the_same_for_the_same_seed_only() {
        let digest = |seed, stream| {
            let mut hash = Sha256::new();
            for event in Authors::new(seed, 20).events(stream, 1_010, 1_700_000_000) {
                hash.update(event.json());
            }
            hex::encode(hash.finalize())
        };
        assert_eq!(digest(1, 0), digest(1, 0));
        assert_ne!(digest(1, 0), digest(2, 0));
        assert_ne!(digest(1, 0), digest(1, 1));
        assert_eq!(digest(1, 0), "aa4b9c40b4d39013b746e8f774540924f19bbbabdb38ed1574543307f9a9a2aa");
    }

    #[test]
    fn events_are_valid_and_realistic() {
        let authors = Authors::new(7, 50);
        let events = authors.events(3, 1_500, 1_700_000_000);
        let mut verifier = Verifier::new(NonZeroUsize::new(100).unwrap());
        assert_eq!(events.len(), 1_500);
        for event in &events {
            let parsed: ParsedEvent = serde_json::from_str(event.json()).unwrap();
            assert_eq!(verifier.verify(parsed).unwrap(), *event);
            assert!(event.tags().len() <= 3);
            assert!(authors.public_keys().contains(&event.pubkey()));
        }
        let notes = events.iter().filter(|event| event.kind() == 1).count();
        assert!((1_100..1_350).contains(&notes), "{notes}");
        let root = events[0].id().to_hex();
        let replies = events.iter().filter(|event| event.tags().values("e").any(|id| id == root)).count();
        assert!((20..100).contains(&replies), "{replies}");
        let mut seconds: Vec<_> = events.iter().map(Event::created_at).collect();
        seconds.sort_unstable();
        seconds.dedup();
        assert!(seconds.len() > 1_450);
    }

    #[test]
    fn contact_lists_replace_each_other() {
        let authors = Authors::new(7, 20);
        let lists = authors.contact_lists(0, 30, 1_700_000_000, 12);
        for list in &lists {
            let mut people: Vec<_> = list.tags().values("p").collect();
            people.sort_unstable();
            people.dedup();
            assert_eq!((list.kind(), people.len()), (3, 12));
        }
        assert!(lists[20].pubkey() == lists[0].pubkey() && lists[20].created_at() > lists[0].created_at());
        let next = &authors.contact_lists(1, 1, 1_700_000_000, 12)[0];
        assert!(next.created_at() > lists[0].created_at());
    }

    #[test]
    fn followers_follow_so_many_and_busy_ones_more() {
        let authors = Authors::new(1, 100);
        let busiest = authors.public_keys()[0];
        let filters = authors.follow_filters(100, 30);
        assert!(filters.iter().all(|filter| filter.authors.as_ref().unwrap().len() == 30));
        let followers = filters.iter().filter(|filter| filter.authors.as_ref().unwrap().contains(&busiest));
        assert!(followers.count() > 60);
        let even = Authors::new(1, 100).even().follow_filters(100, 30);
        let followers = even.iter().filter(|filter| filter.authors.as_ref().unwrap().contains(&busiest));
        assert!((15..45).contains(&followers.count()));
        assert!(authors.follow_filters(1, 200)[0].authors.as_ref().unwrap().len() == 100);
    }
}

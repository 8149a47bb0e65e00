//! Events that the store did not take when they came with others: each is tried alone, while the others go on.
//!
//! A store that is away fails whatever it is given, and that says nothing of an event. So an attempt counts where
//! another event was stored after it had begun, before the next.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::taken::Taken;
use crate::{
    clock,
    protocol::{EventId, Timestamp},
};

/// Between attempts to store the same event.
pub const APART: Duration = Duration::from_secs(10);
/// After an attempt that failed, until another event is tried alone.
const PAUSE: Duration = Duration::from_millis(100);

/// An event that may be one which the store can not take.
pub struct Suspect {
    pub id: EventId,
    /// What has come of it: of several upstreams, perhaps.
    pub entries: Vec<Taken>,
    /// Attempts that count.
    pub attempts: u32,
    pub first: Failure,
    pub last: Failure,
    /// It is a dead letter without an attempt.
    is_condemned: bool,
    /// When the attempt began that failed last, if it is not known yet whether it counts.
    begun: Option<Instant>,
}

/// That something was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub at: Timestamp,
    pub error: String,
}

impl Failure {
    pub fn now(error: String) -> Self {
        Self { at: clock::now(), error }
    }
}

/// What is to be done with one.
pub enum Next {
    Try(Suspect),
    /// It was tried often enough.
    Bury(Suspect),
    /// Nothing for so long.
    Wait(Duration),
}

/// Those that wait to be tried. One at a time is: it is not among them meanwhile.
pub struct Suspects {
    /// Attempts that make an event a dead letter.
    attempts: u32,
    apart: Duration,
    waiting: HashMap<EventId, (Suspect, Instant)>,
    by_time: BTreeSet<(Instant, EventId)>,
    /// Whether one is being tried, or buried.
    is_busy: bool,
    not_before: Option<Instant>,
    stored: Option<Instant>,
}

impl Suspects {
    pub fn new(attempts: u32, apart: Duration) -> Self {
        let (waiting, by_time) = (HashMap::new(), BTreeSet::new());
        Self { attempts, apart, waiting, by_time, is_busy: false, not_before: None, stored: None }
    }

    /// An event was stored.
    pub fn note_stored(&mut self, now: Instant) {
        self.stored = Some(now);
    }

    /// The store takes events again: all may be tried at once.
    pub fn hurry(&mut self, now: Instant) {
        self.by_time = self.waiting.keys().map(|id| (now, *id)).collect();
        self.waiting.values_mut().for_each(|(_, due)| *due = now);
    }

    /// An event was not stored, together with others perhaps.
    pub fn add(&mut self, id: EventId, entries: Vec<Taken>, error: String, now: Instant) {
        let first = Failure::now(error);
        let last = first.clone();
        self.put(Suspect { id, entries, attempts: 0, first, last, is_condemned: false, begun: None }, now);
    }

    /// An event is to be a dead letter for what is said of it.
    pub fn condemn(&mut self, id: EventId, entries: Vec<Taken>, error: String, now: Instant) {
        let first = Failure::now(error);
        let last = first.clone();
        self.put(Suspect { id, entries, attempts: 0, first, last, is_condemned: true, begun: None }, now);
    }

    /// Another copy has come of one that waits here.
    ///
    /// # Errors
    /// The copy, of an event that does not.
    pub fn join(&mut self, id: EventId, taken: Taken) -> Result<(), Taken> {
        match self.waiting.get_mut(&id) {
            Some((suspect, _)) => {
                suspect.entries.push(taken);
                Ok(())
            }
            None => Err(taken),
        }
    }

    fn put(&mut self, mut suspect: Suspect, due: Instant) {
        // Another copy may have failed while this one was tried or buried.
        if let Some((other, at)) = self.waiting.remove(&suspect.id) {
            self.by_time.remove(&(at, suspect.id));
            suspect.entries.extend(other.entries);
        }
        self.by_time.insert((due, suspect.id));
        self.waiting.insert(suspect.id, (suspect, due));
    }

    /// What is to be done next; `None` while one is being tried, or where there is none.
    pub fn next(&mut self, now: Instant) -> Option<Next> {
        if self.is_busy {
            return None;
        }
        let &(due, id) = self.by_time.first()?;
        let due = self.not_before.map_or(due, |pause| due.max(pause));
        if due > now {
            return Some(Next::Wait(due - now));
        }
        self.by_time.pop_first();
        let (mut suspect, _) = self.waiting.remove(&id)?;
        if let (Some(begun), Some(stored)) = (suspect.begun.take(), self.stored)
            && stored > begun
        {
            suspect.attempts += 1;
        }
        self.is_busy = true;
        Some(match suspect.is_condemned || suspect.attempts >= self.attempts {
            true => Next::Bury(suspect),
            false => Next::Try(suspect),
        })
    }

    /// The one that was taken out is finished.
    pub fn finished(&mut self) {
        (self.is_busy, self.not_before) = (false, None);
    }

    /// The one that was tried, from `begun` on, was not stored.
    pub fn failed(&mut self, mut suspect: Suspect, error: String, begun: Instant, now: Instant) {
        (suspect.last, suspect.begun) = (Failure::now(error), Some(begun));
        self.again(suspect, now);
    }

    /// The one that was taken out could not be tried, or not be buried: it is tried again, which says nothing of it.
    pub fn put_back(&mut self, mut suspect: Suspect, now: Instant) {
        // Once more before it is buried.
        suspect.attempts = suspect.attempts.min(self.attempts.saturating_sub(1));
        self.again(suspect, now);
    }

    fn again(&mut self, suspect: Suspect, now: Instant) {
        (self.is_busy, self.not_before) = (false, Some(now + PAUSE));
        self.put(suspect, now + self.apart);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{queue::Entry, upstream::RelayUrl};

    const SECOND: Duration = Duration::from_secs(1);

    fn id(byte: u8) -> EventId {
        EventId([byte; 32])
    }

    /// Tries until there is something else to be done than trying: how often it did. `stores`: whether another event
    /// is stored between attempts.
    fn fails(suspects: &mut Suspects, now: &mut Instant, most: u32, stores: bool) -> u32 {
        for tried in 0..most {
            match suspects.next(*now) {
                Some(Next::Try(suspect)) => suspects.failed(suspect, format!("{tried}"), *now, *now),
                Some(Next::Bury(suspect)) => {
                    assert_eq!(
                        (&*suspect.first.error, &*suspect.last.error),
                        ("first", &*format!("{}", tried - 1))
                    );
                    suspects.put_back(suspect, *now);
                    return tried;
                }
                _ => panic!("at {tried}"),
            }
            *now += SECOND;
            if stores {
                suspects.note_stored(*now);
            }
            *now += 9 * SECOND;
        }
        most
    }

    #[test]
    fn attempts_count_while_others_are_stored() {
        let (mut suspects, mut now) = (Suspects::new(5, 10 * SECOND), Instant::now());
        suspects.note_stored(now);
        suspects.add(id(1), Vec::new(), "first".into(), now);
        assert_eq!(fails(&mut suspects, &mut now, 100, false), 100, "the store is away");
        assert_eq!(fails(&mut suspects, &mut now, 100, true), 5);
        // There was no place for it.
        now += 10 * SECOND;
        assert!(matches!(suspects.next(now), Some(Next::Try(_))));
    }

    /// One is buried, for which there is no place, while a copy of it fails.
    #[test]
    fn a_copy_that_fails_meanwhile_is_not_lost() {
        let upstream = RelayUrl::parse("ws://a").unwrap().id();
        let taken = || {
            let (id, text) = (id(1), "{}".into());
            let entry = Entry { upstream, number: 1, id, text, received: 0, trace: None, place: None };
            Taken { entry, since: Instant::now() }
        };
        let (mut suspects, now) = (Suspects::new(5, 10 * SECOND), Instant::now());
        suspects.add(id(1), vec![taken()], String::new(), now);
        let Some(Next::Try(first)) = suspects.next(now) else { panic!() };
        suspects.add(id(1), vec![taken()], String::new(), now + SECOND);
        suspects.put_back(first, now + 2 * SECOND);
        let Some(Next::Try(both)) = suspects.next(now + 60 * SECOND) else { panic!() };
        assert_eq!((both.entries.len(), suspects.waiting.len(), suspects.by_time.len()), (2, 0, 0));
    }

    #[test]
    fn one_at_a_time_is_tried_and_each_in_its_turn() {
        let (mut suspects, now) = (Suspects::new(5, 10 * SECOND), Instant::now());
        suspects.add(id(1), Vec::new(), String::new(), now);
        suspects.add(id(2), Vec::new(), String::new(), now);
        let Some(Next::Try(first)) = suspects.next(now) else { panic!() };
        assert!(suspects.next(now).is_none());
        let tried = first.id;
        suspects.failed(first, String::new(), now, now);
        assert!(matches!(suspects.next(now), Some(Next::Wait(PAUSE))));
        let Some(Next::Try(second)) = suspects.next(now + PAUSE) else { panic!() };
        assert_ne!(second.id, tried);
        suspects.finished();
        assert!(matches!(suspects.next(now + SECOND), Some(Next::Wait(_))));
        suspects.hurry(now + SECOND);
        assert!(matches!(suspects.next(now + SECOND), Some(Next::Try(_))));
        assert!(suspects.waiting.is_empty() && suspects.by_time.is_empty());
    }
}

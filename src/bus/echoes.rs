//! This node's own watermarks, which come back to it: when one has come, everything has that was published through
//! its primary before it was sent. A plain struct; time is the caller's.

use std::collections::VecDeque;

use crate::clock::Moment;

/// The watermarks of one link.
pub struct Echoes {
    /// When each watermark was sent that has not come back through all primaries yet.
    sent: VecDeque<Moment>,
    /// How many watermarks were sent before those in `sent`.
    through: usize,
    primaries: Vec<Primary>,
}

#[derive(Clone, Copy)]
struct Primary {
    /// How many watermarks have come back through it.
    count: usize,
    /// When the last one came back.
    at: Moment,
    /// When that one was sent.
    sent_at: Moment,
}

impl Echoes {
    /// The link is up, and brings everything from now on.
    pub fn new(primaries: usize, now: Moment) -> Self {
        let primary = Primary { count: 0, at: now, sent_at: now };
        Self { sent: VecDeque::new(), through: 0, primaries: vec![primary; primaries] }
    }

    /// A watermark is about to be sent through every primary.
    pub fn send(&mut self, now: Moment) {
        self.sent.push_back(now);
    }

    /// A watermark has come back.
    pub fn come(&mut self, primary: usize, now: Moment) {
        let Some(primary) = self.primaries.get_mut(primary) else { return };
        // They come in the order in which they were sent.
        if let Some(&sent_at) = self.sent.get(primary.count - self.through) {
            *primary = Primary { count: primary.count + 1, at: now, sent_at };
        }
        let through = self.primaries.iter().map(|primary| primary.count).min().unwrap_or_default();
        self.sent.drain(..through - self.through);
        self.through = through;
    }

    /// The moment before which everything that was published through this primary has come.
    pub fn prove(&self, primary: usize) -> Option<Moment> {
        Some(self.primaries.get(primary)?.sent_at)
    }

    /// When the last one came back through the primary from which none has come for the longest.
    pub fn last(&self) -> Option<Moment> {
        self.primaries.iter().map(|primary| primary.at).min()
    }

    /// Whether a watermark has come back through every primary.
    pub fn have_come(&self) -> bool {
        self.through > 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(1_000 + seconds))
    }

    #[test]
    fn what_comes_back_proves_what_was_before_it() {
        let mut echoes = Echoes::new(2, at(0));
        assert!(!echoes.have_come() && echoes.prove(1) == Some(at(0)) && echoes.prove(2).is_none());
        (1..=3).for_each(|second| echoes.send(at(second)));
        // They have waited for an hour, for this process was held up.
        echoes.come(0, at(3_600));
        echoes.come(0, at(3_600));
        assert_eq!((echoes.prove(0), echoes.prove(1)), (Some(at(2)), Some(at(0))));
        assert_eq!((echoes.have_come(), echoes.last()), (false, Some(at(0))));
        echoes.come(1, at(3_601));
        assert_eq!((echoes.prove(1), echoes.have_come()), (Some(at(1)), true));
        assert_eq!((echoes.last(), echoes.sent.len()), (Some(at(3_600)), 2));
        // One that an earlier link has left behind is none of these.
        (0..5).for_each(|_| echoes.come(0, at(3_602)));
        assert_eq!((echoes.prove(0), echoes.sent.len()), (Some(at(3)), 2));
    }
}

//! Whether an upstream is worth the time that looking at its signatures takes.

use std::collections::VecDeque;

/// Of so many events that came last …
const LAST: usize = 1_000;
/// … so many may be forged.
const MOST_FORGED: usize = LAST / 100;

/// … and of what it sent last, so much may be nothing that was asked for.
const MOST_USELESS: usize = LAST / 2;

/// Which of the last events of an upstream were forged, or of no use.
#[derive(Debug, Default)]
pub struct Trust {
    forged: Last,
    useless: Last,
}

/// Of the last ones, which were so.
#[derive(Debug, Default)]
struct Last {
    last: VecDeque<bool>,
    count: usize,
}

impl Last {
    fn note(&mut self, is_so: bool) {
        if self.last.len() == LAST
            && let Some(was_so) = self.last.pop_front()
        {
            self.count -= usize::from(was_so);
        }
        self.last.push_back(is_so);
        self.count += usize::from(is_so);
    }
}

impl Trust {
    /// It is known of an event.
    pub fn note(&mut self, is_forged: bool) {
        self.forged.note(is_forged);
    }

    /// Something has come; whether it is an event, and was asked for.
    pub fn note_use(&mut self, is_useful: bool) {
        self.useless.note(!is_useful);
    }

    /// More than one in a hundred were forged, or more than half of no use.
    pub fn is_lost(&self) -> bool {
        self.forged.count > MOST_FORGED || self.useless.count > MOST_USELESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_is_borne() {
        let mut trust = Trust::default();
        for n in 0..5_000 {
            trust.note(n % 100 == 0);
            assert!(!trust.is_lost());
        }
        // One takes the place of one from long ago.
        (0..2).for_each(|_| trust.note(true));
        assert!(trust.is_lost());
        (0..100).for_each(|_| trust.note(false));
        assert!(!trust.is_lost(), "what was long ago");
        (0..10_000).for_each(|n| trust.note_use(n % 2 == 0));
        assert!(!trust.is_lost());
        (0..2).for_each(|_| trust.note_use(false));
        assert!(trust.is_lost());
        let mut liar = Trust::default();
        assert_eq!(
            (0..)
                .take_while(|_| {
                    liar.note(true);
                    !liar.is_lost()
                })
                .count(),
            MOST_FORGED
        );
    }
}

//! Whether an upstream is worth the time that looking at its signatures takes.

use std::collections::VecDeque;

/// Of so many events that came last …
const LAST: usize = 1_000;
/// … so many may be forged.
const MOST_FORGED: usize = LAST / 100;

/// Which of the last events of an upstream were forged.
#[derive(Debug, Default)]
pub struct Trust {
    last: VecDeque<bool>,
    forged: usize,
}

impl Trust {
    /// It is known of an event.
    pub fn note(&mut self, is_forged: bool) {
        if self.last.len() == LAST
            && let Some(was_forged) = self.last.pop_front()
        {
            self.forged -= usize::from(was_forged);
        }
        self.last.push_back(is_forged);
        self.forged += usize::from(is_forged);
    }

    /// More than one in a hundred were.
    pub fn is_lost(&self) -> bool {
        self.forged > MOST_FORGED
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

//! What becomes of each event that this node has put into the queue, entered where it is counted.

use std::sync::Arc;

use super::{
    counts::Verdict,
    dead::{DeadLetters, is_replayed},
    flight::Number,
    manager::All,
    queue::{Listener, Word},
    upstream::UpstreamId,
};

/// Enters what is heard of events.
pub struct Ledger {
    all: Arc<All>,
    dead: Arc<DeadLetters>,
}

impl Ledger {
    pub fn new(all: Arc<All>, dead: Arc<DeadLetters>) -> Self {
        Self { all, dead }
    }

    fn decide(&self, number: Number, verdict: Option<Verdict>) {
        if is_replayed(number) {
            let dead = Arc::clone(&self.dead);
            tokio::spawn(async move { dead.decided(number, verdict).await });
        }
    }
}

impl Listener for Ledger {
    fn hear(&self, upstream: UpstreamId, number: Number, word: Word) {
        let observed = self.all.get(upstream);
        let counts = observed.as_ref().map(|observed| &observed.counts);
        match word {
            Word::Full(is_full) => drop(counts.map(|counts| counts.set_full(is_full))),
            Word::Finished(verdict) => {
                counts.inspect(|counts| counts.settle(verdict));
                self.decide(number, Some(verdict));
            }
        }
    }

    fn lose(&self, upstream: UpstreamId, number: Number) {
        if let Some(observed) = self.all.get(upstream) {
            observed.counts.give_up(1);
        }
        self.decide(number, None);
    }
}

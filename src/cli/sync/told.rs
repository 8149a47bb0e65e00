//! What a person is told of it.

use std::io::{self, Write};

use super::super::import::Ledger;
use crate::protocol::EventId;

/// Which side's lack is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    pub here: bool,
    pub there: bool,
}

/// What was found and moved.
#[derive(Debug, Default)]
pub struct Told {
    pub known: u64,
    pub missing_here: u64,
    pub missing_there: u64,
    pub fetched: u64,
    pub sent: u64,
    pub refused: u64,
    /// Named by the other relay, and not sent by it.
    pub phantoms: u64,
    pub bytes: u64,
    pub seconds: f64,
    reasons: Vec<String>,
}

impl Told {
    pub fn take(&mut self, ledger: &Ledger, moved: fn(&mut Self) -> &mut u64) {
        *moved(self) += ledger.accepted();
        self.refused += ledger.refused();
        self.reasons.extend(ledger.reasons());
    }

    /// The outcome for people.
    pub fn report(&self, shown: Shown, dry_run: bool) -> String {
        let mut parts = vec![format!("{} known here", self.known)];
        if shown.here {
            parts.push(format!("{} missing here", self.missing_here));
        }
        if shown.there {
            parts.push(format!("{} missing there", self.missing_there));
        }
        let mut text = format!("{}; compared by {} bytes", parts.join(", "), self.bytes);
        if !dry_run {
            text += &format!("\nfetched {}, sent {}, refused {}", self.fetched, self.sent, self.refused);
            let moved = (self.fetched + self.sent) as f64;
            text += &format!("; {:.1} s ({:.0}/s)", self.seconds, moved / self.seconds.max(0.001));
        }
        if self.phantoms > 0 {
            text += &format!("\n  {} were named by the other relay, and not sent by it", self.phantoms);
        }
        for reason in &self.reasons {
            text += &format!("\n  {reason}");
        }
        text
    }
}

/// Prints the ids that a side lacks.
pub fn print(side: &str, ids: &[EventId]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for id in ids {
        writeln!(out, "{side}\t{id}")?;
    }
    out.flush()
}

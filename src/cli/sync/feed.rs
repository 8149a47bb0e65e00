//! Events on their way from one side to the other, as lines of an import.

use std::io;

use tokio::sync::mpsc;

use super::super::{
    import::{Ledger, Sink},
    lines::{Line, Place},
    progress::Progress,
};
use crate::protocol::Event;

/// Events of a batch.
const BATCH: usize = 256;
/// Batches that wait for those before them to be taken.
const BATCHES: usize = 4;

/// Hands events on as lines.
pub struct Feed {
    lines: mpsc::Sender<io::Result<Vec<Line>>>,
    batch: Vec<Line>,
    place: Place,
}

pub fn feed() -> (Feed, mpsc::Receiver<io::Result<Vec<Line>>>) {
    let (lines, receiver) = mpsc::channel(BATCHES);
    (Feed { lines, batch: Vec::new(), place: Place::default() }, receiver)
}

impl Feed {
    /// Whether more is wanted.
    pub async fn push(&mut self, event: &Event) -> bool {
        let line = Line::made(event.json().to_owned(), self.place);
        self.place = line.after;
        self.batch.push(line);
        self.batch.len() < BATCH || self.lines.send(Ok(std::mem::take(&mut self.batch))).await.is_ok()
    }

    pub async fn end(mut self) {
        // Nobody is there to take them, which is told elsewhere.
        if !self.batch.is_empty() {
            let _ = self.lines.send(Ok(std::mem::take(&mut self.batch))).await;
        }
        let _ = self.lines.send(Ok(Vec::new())).await;
    }
}

/// Puts all lines where they belong.
pub async fn put(
    sink: &Sink,
    lines: mpsc::Receiver<io::Result<Vec<Line>>>,
    verb: &'static str,
    count: usize,
) -> anyhow::Result<Ledger> {
    let mut ledger = Ledger::open(sink.target(), None, None, None)?;
    let mut progress = Progress::new(verb, Some(count as u64));
    let mut tick = |ledger: &mut Ledger| {
        let refused = format!(", {} refused", ledger.refused());
        progress.update(ledger.answered(), ledger.answered(), &refused);
        Ok(())
    };
    let taken = sink.take(lines, &mut ledger, &mut tick).await;
    progress.finish();
    taken?;
    Ok(ledger)
}

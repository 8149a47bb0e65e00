//! The embedded store as a place to put events into, without a relay: it wants the folder for itself.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::sync::mpsc;

use super::{
    super::{
        folder::as_operator,
        lines::{Line, event_json},
    },
    is_witness,
    ledger::{Ledger, Ticket, Verdict},
};
use crate::{
    clock,
    config::{Config, Limits},
    ingest::{Admission, Admitted, RecentIds},
    persist::explain,
    protocol::{Event, Filter, ParsedEvent, Reason, fields},
    store::{
        Cursor, Identity, Outcome, Store,
        lmdb::{Access, Lmdb},
    },
};

/// Events written in one commit.
const BATCH: usize = 4_096;

/// Nobody waits for a batch; a disk takes what time it needs.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Puts lines into a data folder.
pub struct FolderSink {
    store: Arc<Lmdb>,
    admission: Admission,
    limits: Box<Limits>,
}

impl FolderSink {
    /// As the relay whose folder it is would open it.
    pub fn open(path: &Path, config: &Config) -> anyhow::Result<Self> {
        let store = Lmdb::open(path, &config.lmdb, Access::Exclusive)?;
        if store.map_bytes() < config.lmdb.map_bytes {
            let (wanted, taken) = (config.lmdb.map_bytes, store.map_bytes());
            eprintln!(
                "no room in the address space for lmdb.map_bytes = {wanted}: the folder may grow to {taken} bytes"
            );
        }
        let hot_authors = config.persister.hot_authors;
        let admission = Admission::new(config.relay_url()?, RecentIds::new(1), hot_authors);
        Ok(Self { store: Arc::new(store), admission, limits: Box::new(config.limits.clone()) })
    }

    /// The folder, to be read.
    pub fn store(&self) -> &Arc<Lmdb> {
        &self.store
    }

    /// Which folder it is, wherever it lies: one that was made anew is another.
    pub fn identity(&self) -> Identity {
        self.store.identity()
    }

    /// Whether anything that matches is stored.
    pub async fn has_any(&self, filter: Filter) -> anyhow::Result<bool> {
        let query = as_operator(filter, 1);
        let page = self.store.query(Arc::clone(&query), Cursor::start(&query)).await?;
        Ok(page.iter().next().is_some())
    }

    /// Takes all lines; each gets its verdict in the ledger.
    pub async fn take(
        &self,
        mut input: mpsc::Receiver<io::Result<Vec<Line>>>,
        ledger: &mut Ledger,
        tick: &mut dyn FnMut(&mut Ledger) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(lines) = input.recv().await {
            let lines = match lines {
                Ok(lines) => lines,
                Err(error) => {
                    // What was read before the error is written all the same.
                    self.write(&mut batch, ledger).await?;
                    return Err(error).context("cannot read on");
                }
            };
            let is_end = lines.is_empty();
            for line in lines {
                let ticket = ledger.enter(&line);
                match self.admit(&line) {
                    Ok(Some(event)) => batch.push((ticket, event)),
                    Ok(None) => ledger.settle(ticket, Verdict::Empty, "")?,
                    Err(reason) => {
                        let text = line.text.unwrap_or_default();
                        ledger.settle(ticket, Verdict::Refused(reason.to_string()), &text)?;
                    }
                }
            }
            if batch.len() >= BATCH || is_end {
                self.write(&mut batch, ledger).await?;
                tick(ledger)?;
            }
        }
        self.write(&mut batch, ledger).await
    }

    /// The event, if a relay would take it from its author; `None` for an empty line.
    fn admit(&self, line: &Line) -> Result<Option<Arc<Event>>, Reason> {
        let text = line.text.as_ref().map_err(|error| Reason::invalid(error.to_string()))?;
        let text = event_json(text);
        if text.is_empty() {
            return Ok(None);
        }
        let parsed: ParsedEvent<'_> =
            serde_json::from_str(text).map_err(|error| Reason::invalid(fields::told(&error)))?;
        let author = [parsed.pubkey];
        match self.admission.admit(parsed, &self.limits, &author, clock::now())? {
            Admitted::Store(event) => Ok(Some(event)),
            Admitted::Ephemeral(_) | Admitted::Known => {
                Err(Reason::blocked("ephemeral events are not stored"))
            }
        }
    }

    async fn write(&self, batch: &mut Vec<(Ticket, Arc<Event>)>, ledger: &mut Ledger) -> anyhow::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let events = batch.iter().map(|(_, event)| Arc::clone(event)).collect();
        let (now, until) = (clock::now(), Instant::now() + PATIENCE);
        let written = match self.store.write(events, now, until).await {
            Ok(written) => written,
            Err(error) => bail!("the folder takes no more: {}", error.detail()),
        };
        let mut shortage = None;
        for ((ticket, event), outcome) in batch.drain(..).zip(written.outcomes) {
            if let Outcome::NoSpace(found) = outcome {
                // No answer: whoever makes room and goes on tries it again.
                shortage = Some(found);
                continue;
            }
            let verdict = match explain(outcome) {
                Ok(None) => Verdict::Accepted,
                Ok(Some(_)) => Verdict::Duplicate,
                Err(reason) => Verdict::Refused(reason.to_string()),
            };
            if is_witness(event.kind(), event.tags())
                && matches!(verdict, Verdict::Accepted | Verdict::Duplicate)
            {
                ledger.witness(event.id());
            }
            ledger.settle(ticket, verdict, event.json())?;
        }
        while written.removed.many && self.store.maintain(now).await? {}
        match shortage {
            Some(shortage) => {
                bail!(
                    "the folder takes no more: {shortage}. Make room and run the same command again to go on"
                )
            }
            None => Ok(()),
        }
    }
}

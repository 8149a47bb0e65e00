//! The embedded store as a place to read events from and to put them into, without a relay. Reading
//! may go on beside a running one; writing wants the folder for itself.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use tokio::sync::mpsc;
use toml::Table;

use super::{
    environment,
    holder::Holder,
    import::{Ledger, Ticket, Verdict, is_witness},
    lines::{Line, event_json},
};
use crate::{
    clock,
    config::{self, Config},
    ingest::{Admission, Admitted, Policy, Recent},
    protocol::{Event, Filter, ParsedEvent, Reason},
    session::explain,
    store::{
        Cursor, Identity, Limit, Query, Store, Viewer,
        lmdb::{Access, Lmdb},
    },
};

#[derive(Debug, Args)]
pub struct DataFlag {
    /// Data folder to work on, instead of a relay
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// With --data: the configuration file of its relay
    #[arg(long, value_name = "FILE", env = "ROOKERY_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// With --data: any setting of its relay (repeat for several)
    #[arg(long = "set", value_name = "SETTING=VALUE", requires = "data")]
    settings: Vec<String>,
}

impl DataFlag {
    /// The configuration, as the relay of the folder would have it.
    pub fn load(&self) -> anyhow::Result<Config> {
        let mut flags = Table::new();
        for setting in &self.settings {
            config::set(&mut flags, setting)?;
        }
        Config::load(self.config.as_deref(), environment, flags)
    }
}

/// The path of a folder, however it is written next time.
pub fn folder_name(folder: &Path) -> String {
    folder.canonicalize().as_deref().unwrap_or(folder).display().to_string()
}

/// Events written in one commit.
const BATCH: usize = 4_096;

/// Nobody waits for a batch; a disk takes what time it needs.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Reads everything that matches a filter, as the operator, who sees all.
pub struct FolderPages {
    name: String,
    store: Arc<Lmdb>,
    query: Arc<Query>,
    cursor: Option<Cursor>,
}

impl FolderPages {
    pub fn open(path: &Path, config: Config, filter: Filter) -> anyhow::Result<Self> {
        // No client waits: a query may look at everything.
        let settings = config::Store {
            readers: 1,
            page_entries: usize::MAX,
            query_entries: usize::MAX,
            count_entries: usize::MAX,
            ..config.store
        };
        let store = Lmdb::open(path, &settings, Access::Shared)?;
        Ok(Self::of(folder_name(path), Arc::new(store), filter))
    }

    fn of(name: String, store: Arc<Lmdb>, filter: Filter) -> Self {
        let limit = filter.limit.unwrap_or(usize::MAX);
        let query = as_operator(filter, limit);
        let cursor = Some(Cursor::start(&query));
        Self { name, store, query, cursor }
    }

    /// The same folder, asked for something else.
    pub fn again(&self, filter: Filter) -> Self {
        Self::of(self.name.clone(), Arc::clone(&self.store), filter)
    }

    pub fn holder(&self) -> Holder {
        Holder { name: self.name.clone(), store: Some(self.store.identity()) }
    }

    pub async fn next_page(&mut self) -> anyhow::Result<Option<Vec<Event>>> {
        while let Some(cursor) = self.cursor.take() {
            let page = self.store.query(Arc::clone(&self.query), cursor).await?;
            let events =
                page.iter().map(|entry| Ok(serde_json::from_str::<ParsedEvent>(entry.json)?.trust()));
            let events =
                events.collect::<anyhow::Result<Vec<_>>>().context("the store holds no event there")?;
            self.cursor = page.next;
            if !events.is_empty() {
                return Ok(Some(events));
            }
        }
        Ok(None)
    }

    pub async fn estimate(&self) -> Option<u64> {
        self.store.count(Arc::clone(&self.query)).await.ok().map(|counted| counted.count)
    }
}

fn as_operator(filter: Filter, limit: usize) -> Arc<Query> {
    let (viewer, now) = (Viewer::Operator, clock::now());
    Arc::new(Query { filters: vec![(filter, Limit::exactly(limit))], viewer, now })
}

/// Puts lines into a data folder.
pub struct FolderSink {
    store: Lmdb,
    admission: Admission,
}

impl FolderSink {
    /// As the relay whose folder it is would open it.
    pub fn open(path: &Path, config: &Config) -> anyhow::Result<Self> {
        let store = Lmdb::open(path, &config.store, Access::Exclusive)?;
        if store.map_bytes() < config.store.map_bytes {
            let (wanted, taken) = (config.store.map_bytes, store.map_bytes());
            eprintln!(
                "no room in the address space for store.map_bytes = {wanted}: the folder may grow to {taken} bytes"
            );
        }
        let hot_authors = config.persister.hot_authors;
        let policy = Policy::new(&config.limits, config.relay_url()?);
        Ok(Self { store, admission: Admission::new(policy, Recent::new(1), hot_authors) })
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
        self,
        mut input: mpsc::Receiver<io::Result<Vec<Line>>>,
        ledger: &mut Ledger,
        tick: &mut dyn FnMut(&mut Ledger) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(lines) = input.recv().await {
            let lines = match lines {
                Ok(lines) => lines,
                Err(error) => {
                    // What was read before is good.
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

    /// As a relay would admit it from its author.
    fn admit(&self, line: &Line) -> Result<Option<Arc<Event>>, Reason> {
        let text = line.text.as_ref().map_err(|error| Reason::invalid(error.to_string()))?;
        let text = event_json(text);
        if text.is_empty() {
            return Ok(None);
        }
        let parsed: ParsedEvent<'_> =
            serde_json::from_str(text).map_err(|error| Reason::invalid(error.to_string()))?;
        let author = [parsed.pubkey];
        match self.admission.admit(parsed, &author, clock::now())? {
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
        for ((ticket, event), outcome) in batch.drain(..).zip(written.outcomes) {
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
        Ok(())
    }
}

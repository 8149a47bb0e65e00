//! `rookery sync`: brings the events of a data folder or a relay and those of another relay together, by finding
//! out first which of them only one side has (NIP-77).

mod feed;
mod told;

use std::{collections::VecDeque, sync::Arc};

use anyhow::{Context, bail, ensure};
use clap::Args;
use tokio::select;

use self::{
    feed::{feed, put},
    told::{Shown, Told, print},
};
use super::{
    filter_flags::FilterFlags,
    folder::{DataFlag, FolderPages, folder_name},
    import::{FolderSink, Sink},
    interrupt::interrupted,
    output::reader_gone,
    progress::Progress,
    relay_flag::{RelayFlag, endpoint, relay_url},
    run_async,
    secret::KeyFlags,
    source::EventSource,
};
use crate::{
    client::{ClientError, Connection, Endpoint, Found, PAGE},
    clock,
    protocol::{
        EventId, Filter, Timestamp,
        filter::sorted,
        negentropy::{Filling, Key, KeySet},
    },
    store::{keys, lmdb::Lmdb},
};

/// Events asked for before more are compared: their ids are the relay's word alone.
const MOST_NEEDED: usize = 100_000;
/// How often a window of time is halved for a relay that compares few events at once.
const MAX_HALVINGS: u32 = 40;
/// Events on their way to where they are put.
const WINDOW: usize = 256;
/// Comparisons that move something before a window is left as it is.
const MAX_TURNS: u32 = 10_000;
/// Failures in a row, without anything moved in between, after which the relay counts as gone.
const MAX_ATTEMPTS: u32 = 8;

#[derive(Debug, Args)]
#[command(after_help = "\
Here is the relay at --relay or, with --data, the folder of a relay that does not run (with --up or --dry-run it \
may). Events that one side refuses are counted and no failure; the exit code is 1 if the two could not be \
compared, or one of them was lost.

Example:  rookery sync wss://relay.example.com --down --data ./rookery-data
          rookery sync wss://relay.example.com --both --author npub1… --kind 1
          rookery sync wss://relay.example.com --both --dry-run --print-missing")]
pub struct SyncArgs {
    /// The other relay
    #[arg(value_name = "URL", value_parser = relay_url)]
    other: String,
    #[command(flatten)]
    direction: Direction,
    /// Compare only: move nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the ids that one side lacks: `here` or `there`, a tab, the id
    #[arg(long)]
    print_missing: bool,
    #[command(flatten)]
    data: DataFlag,
    #[command(flatten)]
    relay: RelayFlag,
    #[command(flatten)]
    key: KeyFlags,
    #[command(flatten)]
    filter: FilterFlags,
}

/// Which way events go.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
struct Direction {
    /// Fetch what is missing here
    #[arg(long)]
    down: bool,
    /// Send what is missing there
    #[arg(long)]
    up: bool,
    /// Fetch and send
    #[arg(long)]
    both: bool,
}

/// This side.
enum Here {
    Folder { name: String, store: Arc<Lmdb> },
    Relay(Box<Endpoint>),
}

struct Sync {
    here: Here,
    other: Endpoint,
    /// Where what is missing here goes, if anywhere.
    down: Option<Sink>,
    /// The same of what is missing there.
    up: Option<Sink>,
    /// To the other relay.
    connection: Option<Connection>,
    /// Whether it was ever reached: if not, its address is wrong, and trying again is no help.
    was_connected: bool,
    dry_run: bool,
    print_missing: bool,
    told: Told,
}

pub fn run(args: SyncArgs) -> anyhow::Result<()> {
    let SyncArgs { other, direction, dry_run, print_missing, data, relay, key, filter } = args;
    let keys = key.load()?;
    let wants_down = (direction.down || direction.both) && !dry_run;
    let wants_up = (direction.up || direction.both) && !dry_run;
    // Whoever takes an event checks it, here or there.
    let other = Endpoint { verify: false, ..endpoint(other, keys.clone()) };
    let (here, down) = match &data.data {
        Some(path) => {
            let (name, config) = (folder_name(path), data.load()?);
            if wants_down {
                let sink = FolderSink::open(path, &config)?;
                let store = Arc::clone(sink.store());
                let sink = Sink::Folder { sink: Box::new(sink), name: name.clone() };
                (Here::Folder { name, store }, Some(sink))
            } else {
                let pages = FolderPages::open(path, config, Filter::default())?;
                (Here::Folder { name, store: Arc::clone(pages.store()) }, None)
            }
        }
        None => {
            let endpoint = relay.endpoint(keys)?;
            ensure!(endpoint.url != other.url, "both sides are {}: name this one with --relay", other.url);
            let down = Sink::Relay { endpoint: Box::new(endpoint.clone()), window: WINDOW };
            (Here::Relay(endpoint.into()), wants_down.then_some(down))
        }
    };
    let up = wants_up.then(|| Sink::Relay { endpoint: Box::new(other.clone()), window: WINDOW });
    let mut sync = Sync {
        here,
        other,
        down,
        up,
        connection: None,
        was_connected: false,
        dry_run,
        print_missing,
        told: Told::default(),
    };
    let shown = Shown { here: direction.down || direction.both, there: direction.up || direction.both };
    let outcome = run_async(async {
        select! {
            outcome = sync.run(filter.filter(), shown) => outcome,
            pressed = interrupted() => {
                pressed?;
                bail!("interrupted; run the same command again to go on")
            }
            () = reader_gone() => Ok(()),
        }
    });
    if sync.told.bytes > 0 {
        eprintln!("{}", sync.told.report(shown, dry_run));
    }
    outcome
}

/// A part of what is compared, and how often it was halved.
struct Part {
    filter: Filter,
    halvings: u32,
}

impl Sync {
    async fn run(&mut self, filter: Filter, shown: Shown) -> anyhow::Result<()> {
        let progress = Progress::new("moved", None);
        let mut parts = VecDeque::from([Part { filter, halvings: 0 }]);
        let mut crowded = None;
        while let Some(part) = parts.pop_front() {
            match self.bring_together(&part.filter, shown).await {
                Err(error) if part.halvings < MAX_HALVINGS && is_too_many(&error) => {
                    let Some([newer, older]) = halves(&part.filter) else {
                        // The rest can still be brought together.
                        let second = part.filter.since.unwrap_or_default();
                        eprintln!("the second {second} is left as it is: {error}");
                        crowded.get_or_insert(error);
                        continue;
                    };
                    let halvings = part.halvings + 1;
                    parts.push_front(Part { filter: older, halvings });
                    parts.push_front(Part { filter: newer, halvings });
                }
                outcome => outcome?,
            }
        }
        self.told.seconds = progress.elapsed().as_secs_f64();
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
        crowded.map_or(Ok(()), Err)
    }

    /// Compares and moves until nothing that can be moved differs.
    async fn bring_together(&mut self, filter: &Filter, shown: Shown) -> anyhow::Result<()> {
        let mut backoff = self.other.backoff();
        let mut is_known = false;
        for _ in 0..MAX_TURNS {
            let before = self.told.fetched + self.told.sent;
            let ours = self.keys_here(filter).await?;
            let is_over = match self.compare_and_move(filter, &ours, shown).await {
                Ok(is_over) => {
                    if !std::mem::replace(&mut is_known, true) {
                        self.told.known += ours.len() as u64;
                    }
                    is_over
                }
                Err(error) => {
                    self.connection = None;
                    let Some(lost) = error.downcast_ref::<ClientError>().filter(|lost| lost.is_passing())
                    else {
                        return Err(error);
                    };
                    if self.told.fetched + self.told.sent > before {
                        backoff.succeed();
                    }
                    if !self.was_connected || backoff.attempts() >= MAX_ATTEMPTS {
                        return Err(error);
                    }
                    let wait = backoff.fail();
                    self.other.observer.retry(lost, wait);
                    tokio::time::sleep(wait).await;
                    false
                }
            };
            if is_over {
                return Ok(());
            }
        }
        bail!("the two sides never come to the same")
    }

    /// `true`: there is nothing more to be done.
    async fn compare_and_move(
        &mut self,
        filter: &Filter,
        ours: &KeySet,
        shown: Shown,
    ) -> anyhow::Result<bool> {
        let most = if self.dry_run { usize::MAX } else { MOST_NEEDED };
        let connection = self.connection().await?;
        let found = connection.reconcile(filter, ours, most).await?;
        self.told.bytes += found.bytes;
        let need = if shown.here { found.need } else { Vec::new() };
        let have = if shown.there { found.have } else { Vec::new() };
        self.told.missing_here += need.len() as u64;
        self.told.missing_there += have.len() as u64;
        if self.print_missing {
            print("here", &need).and_then(|()| print("there", &have)).context("cannot write")?;
        }
        if self.dry_run {
            return Ok(true);
        }
        let moved = self.told.fetched + self.told.sent;
        if !need.is_empty() {
            self.fetch(&need).await?;
        }
        if !have.is_empty() {
            self.send(&have).await?;
        }
        let moved = self.told.fetched + self.told.sent - moved;
        // What nobody takes would be found again and again.
        Ok(found.is_whole || moved == 0)
    }

    async fn connection(&mut self) -> Result<&mut Connection, ClientError> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            empty => {
                let connection = self.other.connect_identified().await?;
                self.was_connected = true;
                Ok(empty.insert(connection))
            }
        }
    }

    /// The keys of what this side has.
    async fn keys_here(&self, filter: &Filter) -> anyhow::Result<KeySet> {
        match &self.here {
            Here::Folder { store, .. } => {
                keys(&**store, filter.clone()).await?.context("the folder was not read to its end")
            }
            Here::Relay(endpoint) => {
                let endpoint = Endpoint { verify: false, ..Endpoint::clone(endpoint) };
                let mut source = EventSource::relay(endpoint, filter.clone(), PAGE);
                let mut keys = Filling::default();
                while let Some(page) = source.next_page().await? {
                    for event in page {
                        keys.push(Key { created_at: event.created_at(), id: event.id() });
                    }
                }
                source.close().await;
                Ok(keys.finish())
            }
        }
    }

    /// What is missing here, from there.
    async fn fetch(&mut self, ids: &[EventId]) -> anyhow::Result<()> {
        let Some(sink) = self.down.take() else { return Ok(()) };
        let (feed, lines) = feed();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.other.connect_identified().await?,
        };
        let fetching = async {
            let mut feed = feed;
            let take = async |found| match found {
                Found::Event(event) => feed.push(&event).await,
                Found::Nothing(_) => true,
            };
            let fetched = connection.fetch(ids, take).await;
            feed.end().await;
            Ok::<_, anyhow::Error>(fetched?)
        };
        let (fetched, ledger) = tokio::join!(fetching, put(&sink, lines, "fetched", ids.len()));
        self.down = Some(sink);
        let ledger = ledger?;
        self.told.take(&ledger, |told| &mut told.fetched);
        let fetched = fetched?;
        self.told.phantoms += fetched.missing;
        self.connection = Some(connection);
        Ok(())
    }

    /// What is missing there, from here.
    async fn send(&mut self, ids: &[EventId]) -> anyhow::Result<()> {
        let Some(sink) = self.up.take() else { return Ok(()) };
        let (feed, lines) = feed();
        let reading = async {
            let mut feed = feed;
            for ids in ids.chunks(PAGE) {
                let filter = Filter { ids: Some(sorted(ids.to_vec())), ..Filter::default() };
                let mut source = match &self.here {
                    Here::Folder { name, store } => {
                        EventSource::Folder(FolderPages::of(name.clone(), Arc::clone(store), filter))
                    }
                    Here::Relay(endpoint) => EventSource::relay(Endpoint::clone(endpoint), filter, ids.len()),
                };
                while let Some(page) = source.next_page().await? {
                    for event in page {
                        if !feed.push(&event).await {
                            return Ok(());
                        }
                    }
                }
                source.close().await;
            }
            feed.end().await;
            Ok::<_, anyhow::Error>(())
        };
        let (read, ledger) = tokio::join!(reading, put(&sink, lines, "sent", ids.len()));
        self.up = Some(sink);
        self.told.take(&ledger?, |told| &mut told.sent);
        read
    }
}

fn is_too_many(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::TooMany(_)))
}

/// The newer and the older half of a window, if it has two.
fn halves(filter: &Filter) -> Option<[Filter; 2]> {
    let since = filter.since.unwrap_or(0);
    // What is dated ahead stays in the newer half.
    let now = clock::now();
    let until: Timestamp = filter.until.unwrap_or(now.max(since));
    let middle = since + until.checked_sub(since)? / 2;
    if middle == until && filter.until.is_some() {
        return None;
    }
    let newer = Filter { since: Some(middle + 1), ..filter.clone() };
    let older = Filter { until: Some(middle), ..filter.clone() };
    Some([newer, older])
}

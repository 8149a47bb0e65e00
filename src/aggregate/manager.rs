//! Sees to it that what operators want to be read is read, and nothing else.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Arbiter;
use futures_util::future::join_all;
use parking_lot::RwLock;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::timeout,
};
use tracing::{info, warn};

use super::{
    counts::Counts,
    members::Members,
    reader::{Reader, ReaderParts},
    registry::Registry,
    shown::Shown,
    status::{State, Status},
    upstream::{NoKey, RelayUrl, Upstream, UpstreamId},
};
use crate::{
    client::{Bounds, Endpoint, Observer, Reach},
    clock,
    protocol::Timestamp,
    seal::Keyring,
};

/// How long a reader may take to end: it notes how far it is.
const END: Duration = Duration::from_secs(5);

/// An upstream, and how it stands with it at this node.
pub struct Observed {
    pub upstream: RwLock<Upstream>,
    /// As logs, metrics and traces call it.
    pub name: Arc<str>,
    /// Whether the configuration of this node names it.
    pub is_configured: bool,
    pub counts: Arc<Counts>,
    pub status: Arc<Status>,
    /// Compare it again, now.
    pub compare: Arc<Notify>,
}

/// All upstreams that this node knows of.
#[derive(Default)]
pub struct All(RwLock<Known>);

#[derive(Default)]
struct Known {
    by_id: HashMap<UpstreamId, Arc<Observed>>,
    /// Those that the configuration names first.
    in_order: Vec<Arc<Observed>>,
}

impl All {
    pub fn get(&self, id: UpstreamId) -> Option<Arc<Observed>> {
        self.0.read().by_id.get(&id).cloned()
    }

    pub fn list(&self) -> Vec<Arc<Observed>> {
        self.0.read().in_order.clone()
    }

    /// Those that are for this node to read, as metrics want them.
    pub fn shown(&self) -> Vec<Shown> {
        let shown = |observed: &Arc<Observed>| Shown {
            name: Arc::clone(&observed.name),
            counts: Arc::clone(&observed.counts),
            status: Arc::clone(&observed.status),
        };
        self.0.read().in_order.iter().filter(|observed| observed.status.is_ours()).map(shown).collect()
    }

    /// These, as operators have named them.
    #[cfg(test)]
    pub fn of(upstreams: Vec<Upstream>) -> Self {
        let all = Self::default();
        all.replace(upstreams.into_iter().map(|upstream| (upstream, false)).collect());
        all
    }

    /// These are all of them, each with whether the configuration names it: those that were there before are the same.
    fn replace(&self, upstreams: Vec<(Upstream, bool)>) -> Vec<Arc<Observed>> {
        let mut known = self.0.write();
        let mut before = std::mem::take(&mut known.by_id);
        known.in_order.clear();
        for (upstream, is_configured) in upstreams {
            let id = upstream.id();
            let there = before.remove(&id).filter(|observed| observed.is_configured == is_configured);
            let observed = there.unwrap_or_else(|| Arc::new(Observed::new(upstream.clone(), is_configured)));
            *observed.upstream.write() = upstream;
            known.in_order.push(Arc::clone(&observed));
            known.by_id.insert(id, observed);
        }
        known.in_order.clone()
    }
}

impl Observed {
    fn new(upstream: Upstream, is_configured: bool) -> Self {
        let (name, upstream) = (upstream.url.shown().into(), RwLock::new(upstream));
        let (counts, status) = (Arc::default(), Arc::default());
        Self { upstream, name, is_configured, counts, status, compare: Arc::default() }
    }
}

/// A reader that runs.
struct Running {
    upstream: Upstream,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Running {
    async fn stop(self) {
        // A reader that is gone need not be told.
        let _ = self.stop.send(true);
        let _ = timeout(END, self.ended).await;
    }
}

/// Longest message that reconciles (NIP-77), with room to spare.
const RECONCILING_BYTES: usize = 4 << 20;
/// Of events that are gathered before they wait for room in the queue.
const PAGE_BYTES: usize = 16 << 20;

/// How upstreams are reached.
pub struct Dialer {
    pub reach: Reach,
    /// Where relays may be that nobody has named but people who are followed.
    pub reach_of_followed: Reach,
    /// Where the lists of those are looked for, and who has none is read: operators have named them.
    pub indexers: Vec<RelayUrl>,
    pub max_event_bytes: usize,
    pub keyring: Arc<Keyring>,
}

impl Dialer {
    /// # Errors
    /// The upstream's key can not be opened.
    pub fn endpoint(&self, upstream: &Upstream, observer: Arc<dyn Observer>) -> Result<Endpoint, NoKey> {
        let keys = upstream.auth.as_ref().map(|key| key.open(upstream.id(), &self.keyring)).transpose()?;
        let reach = self.reach(&upstream.url, !upstream.is_for_followed_alone()).clone();
        // Room for what stands around an event.
        let message_bytes = RECONCILING_BYTES.max(2 * self.max_event_bytes);
        let page_bytes = PAGE_BYTES.max(message_bytes);
        let bounds = Bounds { message_bytes, page_bytes, ..Bounds::default() };
        // Whoever stores an event checks it.
        Ok(Endpoint { keys, verify: false, bounds, reach, observer, ..Endpoint::new(upstream.url.as_str()) })
    }

    /// Where a relay may be, which operators have named as one that is read, or people who are followed alone.
    pub fn reach(&self, url: &RelayUrl, is_named: bool) -> &Reach {
        if is_named || self.indexers.contains(url) { &self.reach } else { &self.reach_of_followed }
    }
}

/// What of the upstreams this process reads.
pub enum Share {
    All,
    Nothing,
    /// What falls to it among those that are there.
    Among(Arc<Members>),
}

impl Share {
    fn has(&self, id: UpstreamId) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => false,
            Self::Among(members) => members.view().is_mine(id.number()),
        }
    }
}

/// Starts and stops readers.
pub struct Manager {
    registry: Registry,
    share: Share,
    /// Those that the configuration names.
    configured: Vec<Upstream>,
    all: Arc<All>,
    changed: Arc<Notify>,
    readers: ReaderParts,
    dialer: Arc<Dialer>,
    blamed: HashMap<UpstreamId, Timestamp>,
    running: HashMap<UpstreamId, Running>,
}

impl Manager {
    pub fn new(
        registry: Registry,
        share: Share,
        configured: Vec<Upstream>,
        all: Arc<All>,
        changed: Arc<Notify>,
        readers: ReaderParts,
        dialer: Arc<Dialer>,
    ) -> Self {
        Self {
            registry,
            share,
            configured,
            all,
            changed,
            readers,
            dialer,
            blamed: HashMap::new(),
            running: HashMap::new(),
        }
    }

    /// Reads these not before that moment: their events have ended the process.
    pub fn leave_out(self, blamed: HashMap<UpstreamId, Timestamp>) -> Self {
        Self { blamed, ..self }
    }

    /// Runs on that arbiter until it stops, and looks so often for what was changed at another node.
    pub fn start(mut self, look: Duration, arbiter: &Arbiter) {
        if let Share::Among(members) = &self.share {
            let (mut views, changed) = (members.watch(), Arc::clone(&self.changed));
            arbiter.spawn(async move {
                while views.changed().await.is_ok() {
                    changed.notify_one();
                }
            });
        }
        arbiter.spawn(async move {
            let mut is_told = false;
            // What the configuration names needs no store.
            self.apply(Vec::new()).await;
            loop {
                self.all.list().iter().for_each(|observed| observed.counts.look(Instant::now()));
                match self.registry.all().await {
                    Ok(upstreams) => {
                        is_told = false;
                        self.apply(upstreams).await;
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut is_told, true) {
                            warn!("cannot read which relays to read: {}", error.detail());
                        }
                    }
                }
                // Waits for either.
                let _ = timeout(look, self.changed.notified()).await;
            }
        });
    }

    async fn apply(&mut self, mut recorded: Vec<Upstream>) {
        recorded.sort_by_key(|upstream| upstream.added);
        let is_configured = |id| self.configured.iter().any(|upstream| upstream.id() == id);
        let recorded = recorded.into_iter().filter(|upstream| !is_configured(upstream.id()));
        let wanted: Vec<_> = self
            .configured
            .iter()
            .map(|upstream| (upstream.clone(), true))
            .chain(recorded.map(|upstream| (upstream, false)))
            .collect();
        let all = self.all.replace(wanted);
        let wanted: HashMap<UpstreamId, &Arc<Observed>> = all
            .iter()
            .filter(|observed| !observed.upstream.read().paused)
            .map(|observed| (observed.upstream.read().id(), observed))
            .filter(|(id, _)| self.share.has(*id))
            .collect();
        let is_the_same = |id: &UpstreamId, running: &mut Running| {
            wanted.get(id).is_some_and(|observed| observed.upstream.read().is_read_like(&running.upstream))
        };
        let others = self.running.extract_if(|id, running| !is_the_same(id, running));
        // Two readers of one upstream would be in each other's way.
        join_all(others.map(|(_, running)| running.stop())).await;
        for observed in &all {
            let upstream = observed.upstream.read().clone();
            if let Some(running) = self.running.get_mut(&upstream.id()) {
                // One that begins compares anyway.
                if running.upstream.compare_asked != upstream.compare_asked {
                    running.upstream.compare_asked = upstream.compare_asked;
                    observed.compare.notify_one();
                }
            } else if upstream.paused {
                observed.status.set(State::Paused);
            } else if !self.share.has(upstream.id()) {
                observed.status.set(State::Elsewhere);
            } else if self.blamed.get(&upstream.id()).is_some_and(|until| clock::now() < *until) {
                let why =
                    "its events have ended this process twice within ten minutes, which is a fault to report";
                if observed.status.fail(why.to_owned()) {
                    warn!(upstream = %upstream.url, "not read for an hour: {why}");
                }
                observed.status.set(State::Waiting);
            } else {
                match self.read(upstream, observed) {
                    Ok(running) => {
                        info!(upstream = %running.upstream.url, "is read from now on");
                        self.running.insert(running.upstream.id(), running);
                    }
                    // Looked at again with all others.
                    Err(error) => {
                        observed.status.set(State::Waiting);
                        observed.status.fail(error.to_string());
                    }
                }
            }
        }
    }

    fn read(&self, upstream: Upstream, observed: &Observed) -> Result<Running, NoKey> {
        let (counts, status) = (Arc::clone(&observed.counts), Arc::clone(&observed.status));
        let endpoint = self.dialer.endpoint(&upstream, Arc::clone(&counts) as Arc<dyn Observer>)?;
        let mut parts = self.readers.clone();
        parts.overlap = upstream.overlap_seconds.unwrap_or(parts.overlap);
        let (stop, is_told) = watch::channel(false);
        let (has_ended, ended) = oneshot::channel();
        let compare = Arc::clone(&observed.compare);
        let reader = Reader::new(parts, upstream.clone(), endpoint, counts, status, compare, is_told);
        actix::spawn(async move {
            reader.run().await;
            drop::<oneshot::Sender<()>>(has_ended);
        });
        Ok(Running { upstream, stop, ended })
    }
}

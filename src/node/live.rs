//! What may change while the node runs: reads it again when told to, and when the file has changed. All of it is
//! checked, and then it is in force, or everything stays as it was. What was found is one line of the log.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    signal::unix::Signal,
    sync::Mutex,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use toml::Table;
use tracing::{info, warn};

use super::file::Watched;
use crate::config::{
    Change, Config, Difference, Live, Loaded, Settings, Source, Sources, Trust, differences, paths,
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where settings come from, how they were at the start, and what has them read again.
pub struct Reload {
    sources: Sources,
    loaded: Loaded,
    file: Option<Watched>,
    hangup: Option<Signal>,
}

impl Reload {
    /// Reads the settings for the first time.
    ///
    /// # Errors
    /// Says which setting, and where it came from.
    pub fn new(sources: Sources) -> anyhow::Result<Self> {
        // Before it is read: what changes it meanwhile is seen.
        let file = sources.file().map(Watched::new);
        let loaded = sources.load(&Table::new(), Trust::Any)?;
        Ok(Self { sources, loaded, file, hangup: None })
    }

    /// Has them read again at each of these signals, too.
    pub fn at(self, hangup: Signal) -> Self {
        Self { hangup: Some(hangup), ..self }
    }

    pub fn config(&self) -> &Config {
        &self.loaded.config
    }
}

/// Keeps the settings in force up to date.
pub(super) struct Keeper {
    sources: Arc<Sources>,
    file: Option<Arc<Mutex<Watched>>>,
    hangup: Option<Signal>,
    /// As it was last read.
    loaded: Loaded,
    /// What is in force: what is live as it was last read, the rest as it was at the start.
    running: Config,
    live: Arc<Live>,
    max_sockets: usize,
}

impl Keeper {
    pub fn new(config: &Config, reload: Option<Reload>, max_sockets: usize) -> anyhow::Result<Self> {
        let reload = match reload {
            Some(reload) => reload,
            None => Reload::new(Sources::fixed(config)?)?,
        };
        let Reload { sources, loaded, file, hangup } = reload;
        Ok(Self {
            sources: Arc::new(sources),
            file: file.map(|file| Arc::new(Mutex::new(file))),
            hangup,
            loaded,
            running: config.clone(),
            live: Live::new(in_force(config, max_sockets)),
            max_sockets,
        })
    }

    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Until the node shuts down.
    pub async fn run(mut self) {
        let mut hangup = self.hangup.take();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = next(&mut hangup) => self.read_again("SIGHUP").await,
                _ = looks.tick() => {
                    if has_changed(self.file.as_ref()).await {
                        self.read_again("the configuration file has changed").await;
                    }
                }
            }
        }
    }

    /// Reads everything again. Names are looked up on the way, so not on this thread.
    async fn read_again(&mut self, why: &str) {
        let Some(file) = self.sources.file().map(Path::to_owned) else {
            return info!(
                "{why}: no configuration file is named (--config), so there is nothing to read again"
            );
        };
        let sources = Arc::clone(&self.sources);
        let read = spawn_blocking(move || sources.load(&Table::new(), Trust::Own)).await;
        let taken = match read {
            Ok(read) => read.and_then(|loaded| self.take(loaded)),
            Err(error) => Err(error.into()),
        };
        let file = file.display();
        match taken {
            Ok(told) => info!("{why}: {file} is read again: {told}"),
            Err(error) => warn!("{why}: nothing changes: {error:#}"),
        }
    }

    /// Puts what is live in force, and says what that changes.
    fn take(&mut self, loaded: Loaded) -> anyhow::Result<String> {
        let running = self.running.with_live(&loaded.config)?;
        let told = tell(&self.loaded, &loaded, &self.running);
        self.live.replace(in_force(&running, self.max_sockets));
        (self.running, self.loaded) = (running, loaded);
        Ok(told)
    }
}

/// What sessions go by.
fn in_force(config: &Config, max_sockets: usize) -> Settings {
    let mut settings = Settings::from(config);
    settings.limits.max_connections = settings.limits.max_connections.min(max_sockets);
    settings
}

/// What is in force now and was not before, what will be at the next start, and what the file says in vain.
fn tell(before: &Loaded, after: &Loaded, running: &Config) -> String {
    let differences = differences(running, &after.config);
    let of = |change| differences.iter().filter(move |difference| difference.change == change);
    let join = |all: Vec<String>| all.join(", ");
    let mut told = Vec::new();
    let changed = join(of(Change::Live).map(Difference::told).collect());
    if !changed.is_empty() {
        told.push(changed);
    }
    let later = join(of(Change::AtStart).map(Difference::told).collect());
    if !later.is_empty() {
        told.push(format!("takes effect at the next start: {later}"));
    }
    let in_vain = join(in_vain(before, after));
    if !in_vain.is_empty() {
        told.push(format!("without effect: {in_vain}"));
    }
    match told.is_empty() {
        true => "nothing changes".to_owned(),
        false => told.join("; "),
    }
}

/// What the file says otherwise than before, though something stronger decides, and what that is.
fn in_vain(before: &Loaded, after: &Loaded) -> Vec<String> {
    let held = |(section, name, path): (&str, &str, String)| {
        let said = |loaded: &Loaded| loaded.said(Source::File, section, name).cloned();
        let source = after.source(section, name);
        let is_in_vain = said(before) != said(after) && source > Source::File;
        is_in_vain.then(|| format!("{path} (set by {})", source.told(section, name)))
    };
    paths().filter_map(held).collect()
}

/// The next signal, if any can come.
async fn next(signal: &mut Option<Signal>) {
    let came = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if came.is_none() {
        std::future::pending().await
    }
}

async fn has_changed(watched: Option<&Arc<Mutex<Watched>>>) -> bool {
    let Some(watched) = watched.map(Arc::clone) else { return false };
    // A file may lie on a disk that does not answer.
    let mut watched = watched.lock_owned().await;
    spawn_blocking(move || watched.has_changed()).await.unwrap_or(false)
}

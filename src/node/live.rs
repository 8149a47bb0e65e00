//! What may change while the node runs: reads it again when told to, and when the file has changed. All of it is
//! checked, and then it is in force, or everything stays as it was. What was found is one line of the log.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::Signal,
    sync::{Mutex, Notify, mpsc},
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};
use toml::Table;
use tracing::{info, warn};

use super::{
    file::WatchedFile,
    shared::{KEY, SettingsRace, SharedSettings},
};
use crate::{
    config::{
        Config, Difference, Live, Loaded, OldName, Settings, Source, Sources, TakesEffect, Trust, Usable,
        change, differences, paths, usable,
    },
    net::{Ask, ChangeRefused, What},
    route::bus::{Bus, Changed},
    store::records::{RecordKind, Version},
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Between two times that what nodes share is read because somebody said so.
const PAUSE: Duration = Duration::from_millis(100);

/// Where settings come from, how they were at the start, and what has them read again.
pub struct Reload {
    sources: Sources,
    loaded: Loaded,
    file: Option<WatchedFile>,
    hangup: Option<Signal>,
}

impl Reload {
    /// Reads the settings for the first time.
    ///
    /// # Errors
    /// Says which setting, and where it came from.
    pub fn new(sources: Sources) -> anyhow::Result<Self> {
        // Before it is read: what changes it meanwhile is seen.
        let file = sources.file().map(WatchedFile::new);
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

    /// The old names of settings that sources use.
    pub fn old_names(&self) -> &[OldName] {
        &self.loaded.old_names
    }
}

/// What is told where nothing is.
const NOTHING: &str = "nothing changes";

/// Questions that may wait.
const ASKS: usize = 16;

/// Keeps the settings in force up to date.
pub(super) struct SettingsKeeper {
    sources: Arc<Sources>,
    file: Option<Arc<Mutex<WatchedFile>>>,
    hangup: Option<Signal>,
    /// The settings as they were last read.
    loaded: Loaded,
    /// What is in force: what is live as it was last read, the rest as it was at the start.
    running: Config,
    live: Arc<Live>,
    max_sockets: usize,
    asks: mpsc::Receiver<Ask>,
    /// The version of what nodes share that was last put in force, or could not be.
    seen: Option<Version>,
    /// How often what nodes share is read, if nobody says before that it has changed.
    every: Duration,
}

/// What other nodes share with this one, how they are told of a change, and how they tell.
pub(super) struct Neighbours {
    pub shared: SharedSettings,
    pub bus: Option<Arc<dyn Bus>>,
    pub changed: Arc<Notify>,
}

impl SettingsKeeper {
    /// The keeper, and where questions to it go.
    pub fn new(
        config: &Config,
        reload: Option<Reload>,
        max_sockets: usize,
    ) -> anyhow::Result<(Self, mpsc::Sender<Ask>)> {
        let reload = match reload {
            Some(reload) => reload,
            None => Reload::new(Sources::fixed(config)?)?,
        };
        let Reload { sources, loaded, file, hangup } = reload;
        let (ask, asks) = mpsc::channel(ASKS);
        let keeper = Self {
            sources: Arc::new(sources),
            file: file.map(|file| Arc::new(Mutex::new(file))),
            hangup,
            loaded,
            running: config.clone(),
            live: Live::new(in_force(config, max_sockets)),
            max_sockets,
            asks,
            seen: None,
            every: Duration::from_secs(config.general.settings_seconds),
        };
        Ok((keeper, ask))
    }

    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Takes what nodes share, before anybody is served.
    ///
    /// # Errors
    /// It can not be read: what it refuses would be let in.
    pub async fn begin(&mut self, neighbours: &mut Neighbours) -> anyhow::Result<()> {
        let shared = &mut neighbours.shared;
        shared.read().await.context("cannot read the settings that were changed while nodes ran")?;
        self.take_shared(shared).context("the settings that were changed while nodes ran")
    }

    /// Until the node shuts down.
    pub async fn run(mut self, mut neighbours: Neighbours) {
        let mut hangup = self.hangup.take();
        let mut reads = interval(self.every);
        reads.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_read = true;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = next(&mut hangup) => {
                    self.look(WatchedFile::know).await;
                    self.read_again("SIGHUP", &neighbours.shared).await;
                }
                _ = looks.tick() => {
                    if self.look(WatchedFile::has_changed).await == Some(true) {
                        self.read_again("the configuration file has changed", &neighbours.shared).await;
                    }
                }
                () = neighbours.changed.notified() => {
                    self.read_shared(&mut neighbours.shared, &mut is_read).await;
                    // Anybody on the bus may say so, as often as they like.
                    sleep(PAUSE).await;
                }
                _ = reads.tick() => self.read_shared(&mut neighbours.shared, &mut is_read).await,
                Some(Ask { what, answer }) = self.asks.recv() => {
                    let answered = match what {
                        What::Show => Ok(self.loaded.to_toml()),
                        What::Change { setting, text } => {
                            let changed = self.change(&setting, text.as_deref(), &mut neighbours).await;
                            // What others wrote meanwhile, too.
                            self.keep_up(&neighbours.shared);
                            changed
                        }
                    };
                    // Whoever asked may have gone.
                    let _ = answer.send(answered);
                }
            }
        }
    }

    /// Looks at the file, if there is one; it may lie on a disk that does not answer.
    async fn look<T: Send + 'static>(&self, look: fn(&mut WatchedFile) -> T) -> Option<T> {
        let mut file = Arc::clone(self.file.as_ref()?).lock_owned().await;
        spawn_blocking(move || look(&mut file)).await.ok()
    }

    /// Reads everything again. Names are looked up on the way, so not on this thread.
    async fn read_again(&mut self, why: &str, shared: &SharedSettings) {
        let Some(file) = self.sources.file().map(Path::to_owned) else {
            return info!(
                "{why}: no configuration file is named (--config), so there is nothing to read again"
            );
        };
        let sources = Arc::clone(&self.sources);
        let records = usable(shared.settings()).settings;
        let read = spawn_blocking(move || sources.load(&records, Trust::Own)).await;
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

    /// Reads what nodes share. That it can not be read is said once, until it can.
    async fn read_shared(&mut self, shared: &mut SharedSettings, is_read: &mut bool) {
        let read = shared.read().await;
        if let Err(error) = &read
            && *is_read
        {
            warn!("the settings that nodes share can not be read, and stay as they are: {error:#}");
        }
        *is_read = read.is_ok();
        self.keep_up(shared);
    }

    /// Puts in force what was read of what nodes share, if it was not yet.
    fn keep_up(&mut self, shared: &SharedSettings) {
        if shared.version() != self.seen
            && let Err(error) = self.take_shared(shared)
        {
            warn!("settings that nodes share can not be in force here, and stay as they are: {error:#}");
        }
    }

    /// Puts in force what nodes share, as far as this program can.
    fn take_shared(&mut self, shared: &SharedSettings) -> anyhow::Result<()> {
        self.seen = shared.version();
        let Usable { settings, unfit, old_names } = usable(shared.settings());
        old_names.iter().for_each(|old_name| warn!("{old_name}"));
        if !unfit.is_empty() {
            warn!("settings of another version are left out: {}", unfit.join(", "));
        }
        let told = self.take(self.loaded.with_records(&settings)?)?;
        if told != NOTHING {
            info!("settings that nodes share: {told}");
        }
        Ok(())
    }

    /// Changes a setting for all nodes of the store, and says what that does here.
    async fn change(
        &mut self,
        setting: &str,
        text: Option<&str>,
        neighbours: &mut Neighbours,
    ) -> Result<String, ChangeRefused> {
        /// Other nodes that may be faster.
        const RACES: usize = 8;
        let unfit = |error: anyhow::Error| ChangeRefused::Unfit(format!("{error:#}"));
        let failed = |error: anyhow::Error| ChangeRefused::Failed(format!("{error:#}"));
        let shared = &mut neighbours.shared;
        shared.read().await.map_err(failed)?;
        for _ in 0..RACES {
            let mut settings = shared.settings().clone();
            // What nodes of another version have set stays, though this one can not use it.
            let mut used = usable(&settings).settings;
            let old_name = change(&mut settings, setting, text).map_err(unfit)?;
            change(&mut used, setting, text).map_err(unfit)?;
            let loaded = self.loaded.with_records(&used).map_err(unfit)?;
            self.running.with_live(&loaded.config).map_err(unfit)?;
            let SettingsRace::Won(version) = shared.write(settings).await.map_err(failed)? else {
                continue;
            };
            self.seen = Some(version);
            if let Some(bus) = &neighbours.bus {
                let version = version.number;
                bus.changed(Changed { kind: RecordKind::Setting, key: KEY.to_owned(), version });
            }
            let told = self.take(loaded).map_err(unfit)?;
            info!("an operator changed {setting} for all nodes of this store: {told}");
            let Some(old_name) = old_name else { return Ok(told) };
            warn!("{old_name}");
            return Ok(format!("{told}\n{old_name}"));
        }
        Err(ChangeRefused::Failed("other nodes change settings all the time".to_owned()))
    }

    /// Puts what is live in force, and says what that changes.
    fn take(&mut self, loaded: Loaded) -> anyhow::Result<String> {
        let running = self.running.with_live(&loaded.config)?;
        let told = tell(&self.loaded, &loaded, &self.running);
        let is_new = |old_name: &&OldName| !self.loaded.old_names.contains(old_name);
        loaded.old_names.iter().filter(is_new).for_each(|old_name| warn!("{old_name}"));
        self.live.replace(in_force(&running, self.max_sockets));
        (self.running, self.loaded) = (running, loaded);
        Ok(told)
    }
}

/// What sessions and the listener go by: no more connections than the system has descriptors for.
fn in_force(config: &Config, max_sockets: usize) -> Settings {
    let mut settings = Settings::from(config);
    settings.limits.max_connections = settings.limits.max_connections.min(max_sockets);
    settings
}

/// What is in force now and was not before, what will be at the next start, and what the file says in vain.
fn tell(before: &Loaded, after: &Loaded, running: &Config) -> String {
    let (all, new) = (differences(running, &after.config), differences(&before.config, &after.config));
    let is_new = |path: &String| new.iter().any(|difference| difference.path() == *path);
    let of = |change| all.iter().filter(move |difference| difference.change == change).map(Difference::told);
    let join = |all: Vec<String>| all.join(", ");
    let mut told = Vec::new();
    let changed = join(of(TakesEffect::Live).collect());
    if !changed.is_empty() {
        told.push(changed);
    }
    let later = join(of(TakesEffect::AtStart).filter(is_new).collect());
    if !later.is_empty() {
        told.push(format!("takes effect at the next start: {later}"));
    }
    let in_vain = join(in_vain(before, after));
    if !in_vain.is_empty() {
        told.push(format!("without effect: {in_vain}"));
    }
    match told.is_empty() {
        true => NOTHING.to_owned(),
        false => told.join("; "),
    }
}

/// What a source says otherwise than before, though something stronger decides, and what that is.
fn in_vain(before: &Loaded, after: &Loaded) -> Vec<String> {
    let held = |(section, name, path): (&str, &str, String)| {
        let source = after.source(section, name);
        let said = |loaded: &Loaded, by| loaded.said(by, section, name).cloned();
        let is_in_vain = [Source::File, Source::Record]
            .iter()
            .any(|by| source > *by && said(after, *by).is_some() && said(before, *by) != said(after, *by));
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

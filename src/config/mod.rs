//! The configuration: every bound and every setting, with its default and its explanation.
//!
//! The sections, a file each, are the only place where a setting is declared. The example file, the reference in
//! `docs/configuration.md` and the environment variables are made from them. What reads them (`load`), refuses
//! them (`check`) and shows them (`render`) knows none by its own.

mod accounts;
mod aggregator;
mod bus;
mod check;
mod feeds;
mod file;
mod follow;
mod general;
mod info;
mod limits;
mod live;
mod lmdb;
mod load;
mod log_filter;
mod network;
mod page;
mod persister;
mod rate;
mod renamed;
mod render;
mod scylla;
mod session;
mod setting;
mod source;
mod store;
mod sync;
mod table;
mod traces;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::{
    accounts::{Accounts, SignUp},
    aggregator::{Aggregator, AggregatorRole, PartitionBy, QueueKind},
    bus::{Bus, BusReady},
    feeds::Feeds,
    file::Trust,
    follow::{Fetch, Follow},
    general::General,
    info::Info,
    limits::Limits,
    live::{Difference, Live, Settings, Usable, change, differences, usable},
    lmdb::Lmdb,
    load::{Loaded, Sources, set, variables},
    log_filter::log_filter,
    network::{Network, address, network},
    page::{Page, Public},
    persister::Persister,
    rate::Rate,
    renamed::{GivenTwice, OldName},
    render::{example, reference},
    scylla::Scylla,
    session::Session,
    setting::{Range, Setting, TakesEffect},
    source::Source,
    store::Store,
    sync::Sync,
    traces::Traces,
};

macro_rules! sections {
    ($($field:ident: $type:ident),* $(,)?) => {
        /// Everything that can be set. The general settings stand at the top of the file, the others
        /// in a table each.
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Config {
            #[serde(flatten)]
            pub general: General,
            $(pub $field: $type),*
        }

        /// Name of the table (empty for the top), what it is about, its settings.
        const SECTIONS: &[(&str, &[&str], &[Setting])] = &[
            ("", General::ABOUT, General::SETTINGS),
            $((stringify!($field), $type::ABOUT, $type::SETTINGS)),*
        ];
    };
}

sections! {
    info: Info,
    limits: Limits,
    rate: Rate,
    session: Session,
    sync: Sync,
    persister: Persister,
    store: Store,
    lmdb: Lmdb,
    scylla: Scylla,
    bus: Bus,
    traces: Traces,
    feeds: Feeds,
    aggregator: Aggregator,
    follow: Follow,
    accounts: Accounts,
    page: Page,
}

/// The settings that are numbers: section, name, and what they may be.
pub fn ranges() -> impl Iterator<Item = (&'static str, &'static str, Range)> {
    SECTIONS.iter().flat_map(|(section, _, settings)| {
        settings.iter().filter_map(|setting| Some((*section, setting.name, setting.range?)))
    })
}

/// All settings: section, name, and what operators call them.
pub fn paths() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    SECTIONS.iter().flat_map(|(section, _, settings)| {
        settings.iter().map(|setting| (*section, setting.name, table::path(section, setting.name)))
    })
}

impl Config {
    /// The URL of the relay, where it is known.
    ///
    /// # Errors
    /// It is none.
    pub fn relay_url(&self) -> anyhow::Result<Option<Url>> {
        match self.general.url.as_str() {
            "" => Ok(None),
            url => Ok(Some(Url::parse(url).with_context(|| format!("url {url:?} is not valid"))?)),
        }
    }
}

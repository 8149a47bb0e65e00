//! The embedded store as a place to read events from, without a relay, also beside a running one.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use toml::Table;

use super::{environment, holder::Holder, load};
use crate::{
    clock,
    config::{self, Config, Sources},
    protocol::{Event, Filter, ParsedEvent},
    store::{
        Content, Cursor, Limit, Query, Store, Viewer,
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
        Ok(load(&Sources::new(self.config.clone(), environment, flags))?.config)
    }
}

/// The path of a folder, however it is written next time.
pub fn folder_name(folder: &Path) -> String {
    folder.canonicalize().as_deref().unwrap_or(folder).display().to_string()
}

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
        let settings = config::Lmdb {
            readers: 1,
            page_entries: usize::MAX,
            query_entries: usize::MAX,
            count_entries: usize::MAX,
            ..config.lmdb
        };
        let store = Lmdb::open(path, &settings, Access::Shared)?;
        Ok(Self::of(folder_name(path), Arc::new(store), filter))
    }

    pub fn store(&self) -> &Arc<Lmdb> {
        &self.store
    }

    pub fn of(name: String, store: Arc<Lmdb>, filter: Filter) -> Self {
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

pub fn as_operator(filter: Filter, limit: usize) -> Arc<Query> {
    let (viewer, now) = (Viewer::Operator, clock::now());
    Arc::new(Query { filters: vec![(filter, Limit::exactly(limit))], viewer, now, content: Content::Events })
}

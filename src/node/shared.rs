//! The settings that were changed while nodes ran: one record, which the nodes of a store share.
//!
//! One, because a change must fit the others: it is checked together with them, and the record's version sees to it
//! that they are still the same when it is written.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use toml::Table;

use crate::store::{
    Store, StoreError,
    records::{Race, RecordKind, Version},
};

/// The key of the record. Its value is a table as in a configuration file.
pub const KEY: &str = "live";

/// The record as it was last read.
pub struct SharedSettings {
    store: Arc<dyn Store>,
    version: Option<Version>,
    settings: Table,
}

/// How a write ended.
pub enum SettingsRace {
    Won(Version),
    /// Another node was faster: what it wrote has been read.
    Overtaken,
}

impl SharedSettings {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, version: None, settings: Table::new() }
    }

    /// Which version was read.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    pub fn settings(&self) -> &Table {
        &self.settings
    }

    /// Reads the record.
    ///
    /// # Errors
    /// The store does not answer, or the record is no table.
    pub async fn read(&mut self) -> anyhow::Result<()> {
        let record = self.store.records().get(RecordKind::Setting, KEY).await.map_err(failed)?;
        let version = record.as_ref().map(|record| record.version);
        if version == self.version {
            return Ok(());
        }
        let text = record.map(|record| String::from_utf8(record.value)).transpose().context("the record")?;
        self.settings = text.unwrap_or_default().parse().context("the record is not valid TOML")?;
        self.version = version;
        Ok(())
    }

    /// Writes other settings over those that were read.
    ///
    /// # Errors
    /// They do not fit into a record, or it is not known whether they are written.
    pub async fn write(&mut self, settings: Table) -> anyhow::Result<SettingsRace> {
        let value = settings.to_string().into_bytes();
        let raced = self.store.records().put(RecordKind::Setting, KEY, self.version, value, None).await?;
        match raced {
            Race::Won(version) => {
                (self.version, self.settings) = (Some(version), settings);
                Ok(SettingsRace::Won(version))
            }
            Race::Overtaken(_) => {
                self.read().await?;
                Ok(SettingsRace::Overtaken)
            }
            Race::Unknown(error) => Err(failed(error)
                .context("it is not known whether the change was stored; `rookery config running` tells")),
        }
    }
}

fn failed(error: StoreError) -> anyhow::Error {
    anyhow!(error.detail())
}

//! What a node knows that nobody else may.

use std::sync::Arc;

use anyhow::Context;

use super::services::data_folder;
use crate::{
    config::Config,
    net::Token,
    seal::{Keyring, MasterKey},
};

/// Where the key is that seals what is secret in the store. The nodes of a cluster are given theirs.
pub(super) fn keyring(config: &Config) -> Keyring {
    let named = &config.general.master_key_file;
    let file = match named.as_os_str().is_empty() {
        true => MasterKey::default_file(|name| std::env::var(name).ok()),
        false => Some(named.clone()),
    };
    let others = config.general.old_master_key_files.clone();
    Keyring::new(file, others, data_folder(config).is_some())
}

/// What programs of operators have to show.
///
/// # Errors
/// It is named and can not be read, or can not be made.
pub(super) fn token(config: &Config) -> anyhow::Result<Option<Arc<Token>>> {
    let named = &config.general.ops_token_file;
    let token = match data_folder(config) {
        _ if !named.as_os_str().is_empty() => Token::open(named, false),
        Some(folder) => Token::open(&Token::default_file(folder), true),
        None => return Ok(None),
    };
    Ok(Some(Arc::new(token.context("ops_token_file")?)))
}

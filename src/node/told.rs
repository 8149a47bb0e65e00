//! What whoever starts a node is told.

use std::{io::IsTerminal, net::SocketAddr};

use tracing::info;

use super::services::{store_in_words, transport_in_words};
use crate::config::Config;

/// Whether others than this machine may connect.
pub fn is_public(config: &Config) -> bool {
    !config.general.listen.ip().is_loopback() || !config.general.trusted_proxy.is_empty()
}

/// Tells what somebody who has just started a node must know: in words on a terminal, in the log otherwise. `clients`:
/// where it serves them, if it does.
pub fn tell_start(config: &Config, clients: Option<SocketAddr>, operators: SocketAddr) {
    let version = env!("CARGO_PKG_VERSION");
    let (store, bus) = (store_in_words(config), transport_in_words(config));
    let url = if config.general.url.is_empty() { "none" } else { &config.general.url };
    let Some(address) = clients else {
        if std::io::stderr().is_terminal() {
            eprintln!(
                "Rookery {version} serves operators at http://{operators}, and no clients. Store: {store}; bus: {bus}. \
                 Ctrl-C ends it; in another terminal, try `rookery upstream list`"
            );
        } else {
            info!(%operators, version, store, bus, "listening");
        }
        return;
    };
    if std::io::stderr().is_terminal() {
        eprintln!(
            "Rookery {version} listens at ws://{address} (operators: http://{operators}). Store: {store}; bus: {bus}; \
             URL: {url}. Ctrl-C ends it; in another terminal, try `rookery watch --relay ws://{address}`"
        );
    } else {
        info!(%address, %operators, version, store, bus, url, "listening");
    }
}

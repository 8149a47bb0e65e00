//! The command line: a file a command. Parses, calls the library, prints.

mod accounts;
mod aggregator;
mod bookmark;
mod config;
mod export;
mod filter_flags;
mod folder;
mod followed;
mod holder;
mod import;
mod interrupt;
mod key;
mod lines;
mod mine;
mod names;
mod operators;
mod output;
mod progress;
mod query;
mod relay;
mod relay_flag;
mod say;
mod schema;
mod secret;
mod send;
mod source;
mod sync;
mod terminal;
mod time;
mod upstream;
mod watch;

pub use say::say;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use toml::Table;

use crate::{
    bench,
    config::{self as settings, Config, Loaded, Sources, Trust},
    told, trace,
};

/// A Nostr relay in one binary, and the tools around it.
#[derive(Debug, Parser)]
#[command(name = "rookery", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
#[command(
    after_help = "Exit codes: 0 it was done, 1 it failed (the last line says why), 2 the arguments are wrong."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    relay: RelayFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a relay; what `rookery` alone does
    Relay(RelayFlags),
    /// Read other relays, or store what was read, without serving clients
    Aggregator(aggregator::AggregatorArgs),
    /// Measure any relay under a load that is the same each time
    Bench(bench::BenchArgs),
    /// Print the effective configuration, without passwords
    Config(config::ConfigArgs),
    /// Make and show keys
    Key(key::KeyArgs),
    /// Sign an event and publish it
    Send(send::SendArgs),
    /// Show events as they happen
    Watch(watch::WatchArgs),
    /// Show stored events
    Query(query::QueryArgs),
    /// Put the events of a file into a relay
    Import(import::ImportArgs),
    /// Write the events of a relay to a file
    Export(export::ExportArgs),
    /// Bring the events of two relays together
    Sync(sync::SyncArgs),
    /// Have a running relay read other relays
    Upstream(upstream::UpstreamArgs),
    /// Whose keys a running relay keeps
    Accounts(accounts::AccountsArgs),
    /// Make the tables of the cluster store
    Schema(schema::SchemaArgs),
}

/// Flags of the settings in [`settings::General`]; the environment is read there too.
#[derive(Debug, Args)]
struct RelayFlags {
    /// Address and port for clients [default: 127.0.0.1:7777]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// URL under which clients reach this relay, such as wss://relay.example.com
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    node: NodeFlags,
    /// Proxy that is believed whom it speaks for: an address or a network (several: with commas)
    #[arg(long, value_name = "ADDRESS|CIDR", value_delimiter = ',')]
    trusted_proxy: Vec<String>,
    /// Connections of trusted proxies begin with a PROXY header (version 1 or 2)
    #[arg(long)]
    proxy_protocol: bool,
    /// Threads that serve clients [default: one a core]
    #[arg(long, value_name = "COUNT")]
    workers: Option<i64>,
}

/// Those of every process that has a part in a relay.
#[derive(Debug, Args)]
struct NodeFlags {
    #[command(flatten)]
    common: CommonFlags,
    /// Address and port for operators: health and metrics [default: 127.0.0.1:9777]
    #[arg(long, value_name = "ADDRESS")]
    ops_listen: Option<String>,
    /// Folder of the embedded store [default: ./rookery-data]
    #[arg(long, value_name = "FOLDER")]
    data: Option<String>,
    /// Name of this node in logs and metrics [default: the host's name]
    #[arg(long, value_name = "NAME")]
    node_id: Option<String>,
    /// Redis through which nodes share live events, such as redis://127.0.0.1:6379 (several: with commas)
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    redis: Vec<String>,
    /// Relay whose events are read and stored here too, such as wss://relay.example.com (several: with commas)
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    upstream: Vec<String>,
    /// Seconds that a shutdown takes at most [default: 5]
    #[arg(long, value_name = "SECONDS")]
    drain_seconds: Option<i64>,
    /// Collector that takes traces by OTLP, such as http://127.0.0.1:4317 [default: none]
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
}

/// Flags of the settings that every command with a configuration has.
#[derive(Debug, Args)]
struct CommonFlags {
    /// Configuration file (TOML); `rookery config --example` prints one
    #[arg(long, value_name = "FILE", env = "ROOKERY_CONFIG")]
    config: Option<PathBuf>,
    /// Servers of the cluster store, used instead of the embedded one (ScyllaDB or Cassandra)
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    scylla: Vec<String>,
    /// Keyspace of the cluster store [default: rookery]
    #[arg(long, value_name = "NAME")]
    keyspace: Option<String>,
    /// What is logged, such as info or rookery=debug
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Any setting of the configuration file, such as limits.max_filters=50; a list with commas (repeat for several)
    #[arg(long = "set", value_name = "SETTING=VALUE")]
    settings: Vec<String>,
}

/// Puts flags among the settings, by their names.
macro_rules! take {
    ($flags:ident, $from:ident, $($field:ident)*) => {
        $(if let Some(value) = $from.$field {
            $flags.insert(stringify!($field).to_owned(), value.into());
        })*
    };
}

impl RelayFlags {
    /// Where settings come from.
    fn sources(self) -> anyhow::Result<Sources> {
        let file = self.node.common.config.clone();
        let mut flags = self.node.table()?;
        take!(flags, self, listen url workers);
        if !self.trusted_proxy.is_empty() {
            flags.insert("trusted_proxy".to_owned(), self.trusted_proxy.into());
        }
        if self.proxy_protocol {
            flags.insert("proxy_protocol".to_owned(), true.into());
        }
        Ok(Sources::new(file, environment, flags))
    }
}

impl NodeFlags {
    fn table(self) -> anyhow::Result<Table> {
        let mut flags = self.common.table()?;
        take!(flags, self, ops_listen data node_id drain_seconds);
        if let Some(otlp) = self.otlp {
            settings::set(&mut flags, &format!("traces.otlp={otlp}"))?;
        }
        if !self.upstream.is_empty() {
            settings::set(&mut flags, &format!("aggregator.upstreams={}", self.upstream.join(",")))?;
        }
        if !self.redis.is_empty() {
            flags.insert("redis".to_owned(), self.redis.into());
        }
        Ok(flags)
    }
}

impl CommonFlags {
    /// The effective configuration.
    fn load(&self) -> anyhow::Result<Config> {
        Ok(load(&Sources::new(self.config.clone(), environment, self.table()?))?.config)
    }

    fn table(&self) -> anyhow::Result<Table> {
        let mut flags = Table::new();
        for setting in &self.settings {
            settings::set(&mut flags, setting)?;
        }
        if let Some(log) = &self.log {
            flags.insert("log".to_owned(), log.clone().into());
        }
        if !self.scylla.is_empty() {
            settings::set(&mut flags, &format!("scylla.nodes={}", self.scylla.join(",")))?;
        }
        if let Some(keyspace) = &self.keyspace {
            settings::set(&mut flags, &format!("scylla.keyspace={keyspace}"))?;
        }
        Ok(flags)
    }
}

/// Puts the configuration together for a command that somebody sees, and tells them what they should know of it.
fn load(sources: &Sources) -> anyhow::Result<Loaded> {
    let loaded = sources.load(&Table::new(), Trust::Any)?;
    loaded.old_names.iter().for_each(|old_name| say(&format!("warning: {old_name}")));
    Ok(loaded)
}

/// A variable of ours, or one of OpenTelemetry that stands for it.
fn environment(name: &str) -> Option<String> {
    let read = |name: &str| std::env::var(name).ok();
    read(name).or_else(|| trace::standard(name, read))
}

/// The error, what caused it, and what the user may do about it.
pub fn told(error: &anyhow::Error) -> String {
    told::told(error) + error.chain().find_map(|cause| cause.downcast_ref()).map_or("", relay_flag::advice)
}

/// Runs the command that the arguments name.
///
/// # Errors
/// Whatever ends the command; printed by `main`, with exit code 1.
pub fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Bench(args)) => bench::run(args),
        Some(Command::Config(args)) => config::run(args),
        Some(Command::Relay(flags)) => relay::run(flags),
        Some(Command::Aggregator(args)) => aggregator::run(args),
        Some(Command::Key(args)) => key::run(args),
        Some(Command::Send(args)) => send::run(args),
        Some(Command::Watch(args)) => watch::run(args),
        Some(Command::Query(args)) => query::run(args),
        Some(Command::Import(args)) => import::run(args),
        Some(Command::Export(args)) => export::run(args),
        Some(Command::Sync(args)) => sync::run(args),
        Some(Command::Upstream(args)) => upstream::run(args),
        Some(Command::Accounts(args)) => accounts::run(args),
        Some(Command::Schema(args)) => schema::run(args),
        None => relay::run(cli.relay),
    }
}

/// Runs the future of a client command, which one thread serves well.
fn run_async<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

//! `rookery schema`: the tables of the cluster store.

use anyhow::ensure;
use clap::{Args, Subcommand};

use super::CommonFlags;
use crate::{
    store::scylla::{self, DEFAULT_REPLICATION},
    telemetry,
};

#[derive(Debug, Args)]
pub struct SchemaArgs {
    #[command(subcommand)]
    command: SchemaCommand,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Make the keyspace and the tables as far as they are missing; several nodes may do so at once
    Apply(ApplyArgs),
    /// Bring the tables of an earlier version to that of this program, as the first node of it does that starts
    Migrate(MigrateArgs),
}

#[derive(Debug, Args)]
struct ApplyArgs {
    /// Replication of the keyspace if it has to be made, in the syntax of CQL
    #[arg(long, value_name = "CQL", default_value = DEFAULT_REPLICATION)]
    replication: String,
    #[command(flatten)]
    flags: CommonFlags,
}

#[derive(Debug, Args)]
struct MigrateArgs {
    /// No node of an earlier version runs any more, nor is to: they are refused from now on
    #[arg(long)]
    last: bool,
    #[command(flatten)]
    flags: CommonFlags,
}

pub fn run(SchemaArgs { command }: SchemaArgs) -> anyhow::Result<()> {
    let flags = match &command {
        SchemaCommand::Apply(ApplyArgs { flags, .. }) | SchemaCommand::Migrate(MigrateArgs { flags, .. }) => {
            flags
        }
    };
    let config = flags.load()?;
    let _log = telemetry::init_logs(&config.general.log, config.general.log_lines, None)?;
    ensure!(!config.scylla.nodes.is_empty(), "name a server of the cluster store with --scylla HOST:PORT");
    super::run_async(async {
        match command {
            SchemaCommand::Apply(ApplyArgs { replication, .. }) => {
                scylla::apply_schema(&config.scylla, &replication).await?;
            }
            SchemaCommand::Migrate(MigrateArgs { last, .. }) => {
                scylla::migrate_schema(&config.scylla, last).await?;
            }
        }
        Ok(())
    })
}

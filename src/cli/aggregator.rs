//! `rookery aggregator`: a node that serves no clients.

use clap::{Args, ValueEnum};

use super::{NodeFlags, environment, relay};
use crate::{
    config::{self, Sources},
    node::Listeners,
};

#[derive(Debug, Args)]
pub struct AggregatorArgs {
    /// What this process does: read other relays, store what was read, or both [default: as configured]
    #[arg(long, value_enum)]
    role: Option<Role>,
    #[command(flatten)]
    node: NodeFlags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    Read,
    Consume,
    Both,
}

pub fn run(args: AggregatorArgs) -> anyhow::Result<()> {
    let file = args.node.common.config.clone();
    let mut flags = args.node.table()?;
    if let Some(role) = args.role.and_then(|role| role.to_possible_value()) {
        config::set(&mut flags, &format!("aggregator.role={}", role.get_name()))?;
    }
    relay::run_node(Sources::new(file, environment, flags), Listeners::bind_for_operators)
}

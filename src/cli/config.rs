//! `rookery config`: what is in force, and what could be set.

use clap::Args;

use super::RelayFlags;
use crate::{config, telemetry};

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    flags: RelayFlags,
    /// Print every setting with its explanation and default, as a file to start from
    #[arg(long, conflicts_with = "reference")]
    example: bool,
    /// Print docs/configuration.md
    #[arg(long, conflicts_with = "metrics")]
    reference: bool,
    /// Print docs/metrics.md
    #[arg(long, conflicts_with = "example")]
    metrics: bool,
}

pub fn run(args: ConfigArgs) -> anyhow::Result<()> {
    if args.example {
        print!("{}", config::example());
    } else if args.reference {
        print!("{}", config::reference());
    } else if args.metrics {
        print!("{}", telemetry::metrics_reference());
    } else {
        print!("{}", args.flags.load()?.without_secrets().to_toml());
    }
    Ok(())
}

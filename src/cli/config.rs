//! `rookery config`: what is in force, and what could be set.

use std::path::PathBuf;

use clap::Args;
use toml::Table;

use super::{RelayFlags, told};
use crate::{
    config::{self, Trust},
    telemetry,
};

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
    /// Check a file as a relay would at its start, together with the other flags and variables
    #[arg(long, value_name = "FILE", conflicts_with_all = ["example", "reference", "metrics", "config"])]
    check: Option<PathBuf>,
}

pub fn run(args: ConfigArgs) -> anyhow::Result<()> {
    if let Some(file) = args.check {
        return check(file, args.flags);
    }
    if args.example {
        print!("{}", config::example());
    } else if args.reference {
        print!("{}", config::reference());
    } else if args.metrics {
        print!("{}", telemetry::metrics_reference());
    } else {
        print!("{}", args.flags.sources()?.load(&Table::new(), Trust::Any)?.to_toml());
    }
    Ok(())
}

/// Says whether a relay could start with that file, and whether one that runs would take it.
fn check(file: PathBuf, mut flags: RelayFlags) -> anyhow::Result<()> {
    let shown = file.display().to_string();
    flags.common.config = Some(file);
    let sources = flags.sources()?;
    sources.load(&Table::new(), Trust::Any)?;
    println!("{shown} is valid");
    if let Err(error) = sources.load(&Table::new(), Trust::Own) {
        println!("a running relay would not read it: {}", told(&error));
    }
    Ok(())
}

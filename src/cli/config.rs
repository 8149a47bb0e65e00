//! `rookery config`: what is in force, and what could be set.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use toml::Table;

use super::{RelayFlags, load, operators::Operators, relay::unknown_variables, say, told};
use crate::{
    config::{self, Trust},
    telemetry,
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConfigArgs {
    #[command(subcommand)]
    question: Option<Question>,
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

/// What is asked of a node that runs.
#[derive(Debug, Subcommand)]
enum Question {
    /// Change a setting while nodes run, in all that share the store
    Set {
        /// Such as limits.max_tags=100
        #[arg(value_name = "SETTING=VALUE")]
        change: String,
        #[command(flatten)]
        node: Operators,
    },
    /// Take such a change back: each node goes by its own variables, file and default again
    Unset {
        /// Such as limits.max_tags
        setting: String,
        #[command(flatten)]
        node: Operators,
    },
    /// Print what is in force in a node, and where each value comes from
    Running {
        #[command(flatten)]
        node: Operators,
    },
}

impl Question {
    fn run(self) -> anyhow::Result<()> {
        let said = match self {
            Self::Set { change, node } => {
                let (setting, text) =
                    change.split_once('=').with_context(|| format!("{change:?} is not SETTING=VALUE"))?;
                ask(&node, "PUT", setting, text)?
            }
            Self::Unset { setting, node } => ask(&node, "DELETE", &setting, "")?,
            Self::Running { node } => ask(&node, "GET", "", "")?,
        };
        println!("{}", said.trim_end());
        Ok(())
    }
}

fn ask(node: &Operators, method: &str, setting: &str, text: &str) -> anyhow::Result<String> {
    ensure!(
        setting.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')),
        "unknown setting {setting:?}; `rookery config` prints them all"
    );
    let slash = if setting.is_empty() { "" } else { "/" };
    node.ask(method, &format!("/v1/settings{slash}{setting}"), "text/plain", text)
}

pub fn run(args: ConfigArgs) -> anyhow::Result<()> {
    if let Some(question) = args.question {
        return question.run();
    }
    if let Some(unknown) = unknown_variables() {
        say(&format!("warning: {unknown}"));
    }
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
        print!("{}", load(&args.flags.sources()?)?.to_toml());
    }
    Ok(())
}

/// Says whether a relay could start with that file, and whether one that runs would take it.
fn check(file: PathBuf, mut flags: RelayFlags) -> anyhow::Result<()> {
    let shown = file.display().to_string();
    flags.node.common.config = Some(file);
    let sources = flags.sources()?;
    load(&sources)?;
    println!("{shown} is valid");
    if let Err(error) = sources.load(&Table::new(), Trust::Own) {
        println!("a running relay would not read it: {}", told(&error));
    }
    Ok(())
}

//! `rookery upstream`: which other relays a running node reads, and how it stands with them.

mod dead_letters;
mod told;

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand};

use self::{
    dead_letters::DeadLetters,
    told::{hour_line, line, print, show},
};
use super::{
    filter_flags::FilterFlags,
    followed::{self, Following},
    operators::{JSON, Operators},
    secret,
};
use crate::{
    aggregate::{Addition, Change, Hour, RelayUrl, UpstreamId, UpstreamLimits, View},
    client::shown,
    protocol::{Filter, nip19},
};

#[derive(Debug, Args)]
pub struct UpstreamArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Read a relay: what it has, and what comes
    Add {
        /// Such as wss://relay.example.com
        url: String,
        #[command(flatten)]
        filter: FilterFlags,
        #[command(flatten)]
        settings: SettingFlags,
        /// Add it, and read it later
        #[arg(long)]
        paused: bool,
        #[command(flatten)]
        node: Operators,
    },
    /// Change what of a relay is read, and how
    Set {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        filter: FilterFlags,
        /// Read all of it
        #[arg(long)]
        everything: bool,
        /// Authenticate as nobody
        #[arg(long, conflicts_with = "auth_key_file")]
        nobody: bool,
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Print all relays that are read, a line each
    List {
        /// Print them again every two seconds
        #[arg(long, conflicts_with = "json")]
        watch: bool,
        /// Print what the node answers
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: Operators,
    },
    /// Print all that is known of one
    Show {
        #[command(flatten)]
        which: Which,
        /// Print what the node answers
        #[arg(long)]
        json: bool,
    },
    /// Print what came of one by hour, over the last month
    Hours {
        #[command(flatten)]
        which: Which,
        /// Print what the node answers
        #[arg(long)]
        json: bool,
    },
    /// Read one no more for now
    Pause(Which),
    /// Read one again, from where it was
    Resume(Which),
    /// Compare one with what is stored, now
    Reconcile(Which),
    /// Read one no more; what is stored of it stays
    Remove(Which),
    #[command(flatten)]
    Following(Following),
    /// Events that the store has not taken, though it took others
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Print what waits for the store
    Queue {
        #[command(flatten)]
        node: Operators,
    },
}

/// One of them.
#[derive(Debug, Args)]
struct Which {
    /// Its URL, or its number as `list` shows it
    #[arg(value_name = "URL|NUMBER")]
    upstream: String,
    #[command(flatten)]
    node: Operators,
}

/// How a relay is read.
#[derive(Debug, Args)]
#[command(next_help_heading = "How it is read")]
struct SettingFlags {
    /// Seconds by which what was missed is read again before it [default: aggregator.overlap_seconds]
    #[arg(long, value_name = "SECONDS")]
    overlap_seconds: Option<u64>,
    /// Events a second that are taken at most [default: as many as come]
    #[arg(long, value_name = "COUNT")]
    events_per_second: Option<u64>,
    /// Bytes a second
    #[arg(long, value_name = "BYTES")]
    bytes_per_second: Option<u64>,
    /// Events a day (UTC)
    #[arg(long, value_name = "COUNT")]
    events_per_day: Option<u64>,
    /// Bytes a day (UTC)
    #[arg(long, value_name = "BYTES")]
    bytes_per_day: Option<u64>,
    /// File with the secret key of whoever this relay is there (NIP-42), as `rookery key new --out` writes it
    #[arg(long, value_name = "FILE")]
    auth_key_file: Option<PathBuf>,
}

impl SettingFlags {
    /// `limits`: those that are in force.
    fn change(&self, limits: UpstreamLimits) -> anyhow::Result<Change> {
        let changed = UpstreamLimits {
            events_per_second: self.events_per_second.unwrap_or(limits.events_per_second),
            bytes_per_second: self.bytes_per_second.unwrap_or(limits.bytes_per_second),
            events_per_day: self.events_per_day.unwrap_or(limits.events_per_day),
            bytes_per_day: self.bytes_per_day.unwrap_or(limits.bytes_per_day),
        };
        let keys = self.auth_key_file.as_deref().map(secret::read_file).transpose()?;
        Ok(Change {
            overlap_seconds: self.overlap_seconds.map(Some),
            limits: (changed != limits).then_some(changed),
            auth: keys.map(|keys| Some(nip19::nsec(&keys.secret()))),
            ..Change::default()
        })
    }
}

impl Which {
    fn ask(&self, method: &str, and: &str, body: &str) -> anyhow::Result<String> {
        self.node.ask(method, &format!("/v1/upstreams/{}{and}", id(&self.upstream)?), JSON, body)
    }

    /// Asks, and tells how it stands with it then.
    fn tell(&self, method: &str, and: &str, body: &str) -> anyhow::Result<()> {
        let view: View = serde_json::from_str(&self.ask(method, and, body)?)?;
        println!("{}", line(&view));
        Ok(())
    }
}

/// The number of an upstream that is named by it, or by its URL.
fn id(upstream: &str) -> anyhow::Result<String> {
    let is_number = |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number(upstream) {
        return Ok(upstream.to_ascii_lowercase());
    }
    let url = RelayUrl::parse(upstream).context("it is neither a relay's URL nor a number")?;
    let id: UpstreamId = url.id();
    Ok(id.to_string())
}

pub fn run(args: UpstreamArgs) -> anyhow::Result<()> {
    match args.what {
        What::Add { url, filter, settings, paused, node } => {
            let mut change = settings.change(UpstreamLimits::default())?;
            change.filters = filters(&filter);
            change.paused = paused.then_some(true);
            let body = serde_json::to_string(&Addition { url, change })?;
            let view: View = serde_json::from_str(&node.ask("POST", "/v1/upstreams", JSON, &body)?)?;
            println!("{}", line(&view));
        }
        What::Set { which, filter, everything, nobody, settings } => {
            let there: View = serde_json::from_str(&which.ask("GET", "", "")?)?;
            let mut change = settings.change(there.limits)?;
            if nobody {
                change.auth = Some(None);
            }
            change.filters = if everything { Some(Vec::new()) } else { filters(&filter) };
            which.tell("PATCH", "", &serde_json::to_string(&change)?)?;
        }
        What::List { watch, json, node } => loop {
            let answer = node.ask("GET", "/v1/upstreams", JSON, "")?;
            if json {
                println!("{answer}");
                break;
            }
            let views: Vec<View> = serde_json::from_str(&answer)?;
            print(&views, watch)?;
            if !watch {
                break;
            }
            std::thread::sleep(Duration::from_secs(2));
        },
        What::Show { which, json } => {
            let answer = which.ask("GET", "", "")?;
            if json {
                println!("{answer}");
            } else {
                show(&serde_json::from_str(&answer)?);
            }
        }
        What::Hours { which, json } => {
            let answer = which.ask("GET", "/hours", "")?;
            if json {
                println!("{answer}");
            } else {
                let hours: Vec<Hour> = serde_json::from_str(&answer)?;
                hours.iter().for_each(|hour| println!("{}", hour_line(hour)));
            }
        }
        What::Pause(which) => which.tell("POST", "/pause", "")?,
        What::Resume(which) => which.tell("POST", "/resume", "")?,
        What::Reconcile(which) => which.tell("POST", "/reconcile", "")?,
        What::Remove(which) => {
            which.ask("DELETE", "", "")?;
            println!("{} is read no more", shown(&which.upstream));
        }
        What::Following(what) => followed::run(what)?,
        What::DeadLetters(what) => dead_letters::run(what)?,
        What::Queue { node } => println!("{}", node.ask("GET", "/v1/queue", JSON, "")?),
    }
    Ok(())
}

/// What the flags say; nothing where none is given.
fn filters(flags: &FilterFlags) -> Option<Vec<Filter>> {
    let filter = flags.filter();
    (filter != Filter::default()).then(|| vec![filter])
}

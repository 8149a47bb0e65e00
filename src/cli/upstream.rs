//! `rookery upstream`: which other relays a running node reads, and how it stands with them.

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{
    filter_flags::FilterFlags,
    followed::{self, Following},
    operators::{JSON, Operators},
    secret, time,
};
use crate::{
    aggregate::{
        Addition, Change, DeadLetterPage, DeadLetterView, Hour, RelayUrl, State, UpstreamId, UpstreamLimits,
        View, dead::Address,
    },
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

#[derive(Debug, Subcommand)]
enum DeadLetters {
    /// Print them, a line each
    List {
        /// Those of one upstream: its URL or its number
        #[arg(long, value_name = "URL|NUMBER")]
        upstream: Option<String>,
        #[command(flatten)]
        node: Operators,
    },
    /// Print one
    Show(Letter),
    /// Try to store one again
    Replay(Letter),
    /// Let go of one; its event is not asked for again
    Drop(Letter),
}

/// A dead letter.
#[derive(Debug, Args)]
struct Letter {
    /// As `list` names it
    #[arg(value_name = "NUMBER/ID")]
    letter: String,
    #[command(flatten)]
    node: Operators,
}

impl Letter {
    fn ask(&self, method: &str, and: &str) -> anyhow::Result<String> {
        let at = Address::parse(&self.letter).context("it is not as `list` names them: NUMBER/ID")?;
        self.node.ask(method, &format!("/v1/dead-letters/{at}{and}"), JSON, "")
    }
}

fn dead_letters(what: DeadLetters) -> anyhow::Result<()> {
    match what {
        DeadLetters::List { upstream, node } => {
            let of = upstream.as_deref().map(id).transpose()?.map(|id| format!("upstream={id}&"));
            let mut after = None::<String>;
            loop {
                let from = after.map(|after| format!("after={after}")).unwrap_or_default();
                let path = format!("/v1/dead-letters?{}{from}", of.as_deref().unwrap_or_default());
                let page: DeadLetterPage = serde_json::from_str(&node.ask("GET", &path, JSON, "")?)?;
                for view in &page.letters {
                    println!("{}", letter_line(view));
                }
                after = page.next;
                if after.is_none() {
                    return Ok(());
                }
            }
        }
        DeadLetters::Show(letter) => println!("{}", letter.ask("GET", "")?),
        DeadLetters::Replay(letter) => {
            letter.ask("POST", "/replay")?;
            println!("it is on its way into the store; it stays here if that fails again");
        }
        DeadLetters::Drop(letter) => {
            letter.ask("DELETE", "")?;
            println!("it is gone");
        }
    }
    Ok(())
}

fn letter_line(view: &DeadLetterView) -> String {
    let DeadLetterView { upstream, event, url, letter } = view;
    format!(
        "{upstream}/{event} {}, {} bytes, {} attempts, last {}: {}",
        url.as_deref().map_or_else(|| "no upstream any more".into(), shown),
        letter.bytes,
        letter.attempts,
        time::format(letter.last_at),
        shown(&letter.last_error)
    )
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
        What::DeadLetters(what) => dead_letters(what)?,
        What::Queue { node } => println!("{}", node.ask("GET", "/v1/queue", JSON, "")?),
    }
    Ok(())
}

/// What the flags say; nothing where none is given.
fn filters(flags: &FilterFlags) -> Option<Vec<Filter>> {
    let filter = flags.filter();
    (filter != Filter::default()).then(|| vec![filter])
}

fn print(views: &[View], again: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if again {
        // From the upper left corner, and nothing of before.
        write!(out, "\x1b[H\x1b[2J")?;
    }
    if views.is_empty() {
        writeln!(out, "no relay is read; `rookery upstream add wss://…` has one be read")?;
    }
    for view in views {
        writeln!(out, "{}", line(view))?;
    }
    Ok(out.flush()?)
}

/// One of them in a line.
fn line(view: &View) -> String {
    let read = match view.read_through {
        0 => "nothing read to its end yet".to_owned(),
        through => format!("read up to {}", time::format(through)),
    };
    format!(
        "{} {} {}, {read}, {} received, {} stored, {} known, {} refused, {} waiting, {:.1}/s",
        view.id,
        shown(&view.url),
        word(view.state),
        view.received,
        view.stored,
        view.known,
        view.refused.values().sum::<u64>(),
        view.waiting,
        view.rate
    )
}

fn hour_line(hour: &Hour) -> String {
    let Hour { hour: begun, received, bytes, stored, known, refused, dead } = hour;
    let refused = refused.values().sum::<u64>();
    format!(
        "{} {received} received, {bytes} bytes, {stored} stored, {known} known, {refused} refused, {dead} dead letters",
        time::format(*begun)
    )
}

fn word(state: State) -> &'static str {
    match state {
        State::Connecting => "connecting",
        State::CatchingUp => "catching up",
        State::Live => "live",
        State::Behind => "behind",
        State::Spent => "spent for today",
        State::Waiting => "waiting",
        State::Distrusted => "sends what is forged",
        State::DeadLettersFull => "too many dead letters",
        State::Elsewhere => "elsewhere",
        State::Ourselves => "this relay itself",
        State::Paused => "paused",
    }
}

fn show(view: &View) {
    let say = |name: &str, value: &str| println!("{name:<16}{value}");
    let at = |seconds: u64| time::format(seconds);
    say("number", &view.id);
    say("url", &shown(&view.url));
    say("state", &format!("{} since {}", word(view.state), at(view.since)));
    if let Some(lease) = &view.lease {
        say("read by", &format!("{}, after {} others", lease.node, lease.epoch));
    }
    if view.configured {
        say("named by", "the configuration of the node (aggregator.upstreams)");
    } else {
        say("added", &at(view.added));
    }
    let filters: Vec<String> = view.filters.iter().map(ToString::to_string).collect();
    let what = match view.for_people_alone {
        true => "what people write who are followed",
        false if filters.is_empty() => "everything",
        false => "what matches",
    };
    say("what is read", what);
    filters.iter().for_each(|filter| say("", filter));
    if view.people > 0 {
        say("people", &format!("{}, who are followed", view.people));
    }
    if let Some(npub) = &view.auth {
        say("reads as", npub);
    }
    if let Some(overlap) = view.overlap_seconds {
        say("overlap", &format!("{overlap} s"));
    }
    let limits = &view.limits;
    for (limit, unit) in [
        (limits.events_per_second, "events a second"),
        (limits.bytes_per_second, "bytes a second"),
        (limits.events_per_day, "events a day"),
        (limits.bytes_per_day, "bytes a day"),
    ] {
        if limit > 0 {
            say("at most", &format!("{limit} {unit}"));
        }
    }
    match (view.read_through, view.behind_seconds) {
        (0, _) | (_, None) => say("read up to", "nothing was read to its end yet"),
        (through, Some(behind)) => say("read up to", &format!("{}, {behind} s ago", at(through))),
    }
    say("sessions", &view.sessions.to_string());
    say("received", &format!("{} events, {} bytes, {:.1}/s", view.received, view.bytes, view.rate));
    if let (Some(mean), Some(median)) = (view.mean_bytes, view.median_bytes) {
        say("sizes", &format!("{mean:.0} bytes on average, {median:.0} in the middle (at most 5 % off)"));
    }
    say("stored", &view.stored.to_string());
    let duplicates = view.duplicates.map_or(String::new(), |part| format!(" ({:.0} %)", 100.0 * part));
    say("known before", &format!("{}{duplicates}", view.known));
    view.refused.iter().for_each(|(reason, count)| say("refused", &format!("{count} {reason}")));
    say("dead letters", &view.dead.to_string());
    say("waiting", &view.waiting.to_string());
    if let Some(last) = &view.last_catch_up {
        let what = format!("{} events in {} s, begun {}", last.events, last.seconds, at(last.begun));
        say("last catch-up", &what);
    }
    if let Some(error) = &view.last_error {
        say("last error", &format!("{}: {}", at(error.at), shown(&error.text)));
    }
}

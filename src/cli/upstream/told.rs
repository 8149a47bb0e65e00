//! How it stands with upstreams, in words.

use std::io::Write;

use super::super::time;
use crate::{
    aggregate::{Hour, State, View},
    client::shown,
};

pub(super) fn print(views: &[View], again: bool) -> anyhow::Result<()> {
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
pub(super) fn line(view: &View) -> String {
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

pub(super) fn hour_line(hour: &Hour) -> String {
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

pub(super) fn show(view: &View) {
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

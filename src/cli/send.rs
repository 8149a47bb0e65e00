//! `rookery send`: signs an event, publishes it, and tells what the relay answered.

use std::io::{self, Read, Write};

use anyhow::{Context, bail};
use clap::Args;
use toml::Table;
use tracing::{Instrument, debug_span};

use super::{
    environment,
    filter_flags::{self, plain_value},
    load,
    mine::Draft,
    relay_flag::RelayFlag,
    run_async,
    secret::KeyFlags,
    time,
};
use crate::{
    client::{ClientError, Endpoint, Receipt, shown},
    clock,
    config::Sources,
    protocol::{Event, Tags, Timestamp, reply},
    telemetry,
    trace::{self, Pipeline},
};

/// Longest text read from standard input; relays take less.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// From this difficulty on mining takes long enough to say so.
const SLOW_BITS: u32 = 22;

#[derive(Debug, Args)]
#[command(after_help = "\
Prints `accepted ID` and ends with 0 only if the relay took the event. A comma in a tag's value \
begins its next element; write \\, for a comma itself. Keys and ids may be npub1… and note1….

Example:  rookery send 'hello #nostr' --tag t=nostr --key-file my.key
          echo hello | rookery send - --pow 16")]
pub struct SendArgs {
    /// Content of the event; - reads it from standard input
    #[arg(allow_hyphen_values = true)]
    text: String,
    /// Kind of the event
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = filter_flags::kind)]
    kind: u16,
    /// Tag, such as t=nostr or e=ID,wss://relay (repeat for several)
    #[arg(long, value_name = "NAME=VALUE[,MORE…]", value_parser = tag)]
    tag: Vec<Vec<String>>,
    /// When it was written: a date (UTC), seconds since 1970, or an age such as 15m [default: now]
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    created_at: Option<Timestamp>,
    /// Mine this many leading zero bits (NIP-13)
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(1..=64))]
    pow: Option<u32>,
    /// Trace the event on its way, and print the id of its trace; the relay must trust this address
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    relay: RelayFlag,
    #[command(flatten)]
    key: KeyFlags,
}

pub fn run(args: SendArgs) -> anyhow::Result<()> {
    let keys = args.key.require()?;
    let content = if args.text == "-" { read_stdin()? } else { args.text };
    let created_at = args.created_at.unwrap_or_else(clock::now);
    let mut tags = Tags::from_iter(args.tag);
    if let Some(bits) = args.pow {
        if bits >= SLOW_BITS {
            eprintln!("mining {bits} bits, about {} million hashes …", (1_u128 << bits) / 1_000_000);
        }
        let author = keys.public_key();
        tags = Draft { author, created_at, kind: args.kind, tags, content: &content }.mine(bits);
    }
    let event = keys.sign(created_at, args.kind, tags, &content);
    let endpoint = args.relay.endpoint(Some(keys))?;
    let receipt = match args.trace {
        true => traced(&endpoint, &event)?,
        false => run_async(async { Ok(publish(&endpoint, &event).await?) })?,
    };
    let reason = shown(&receipt.reason);
    if !receipt.accepted {
        let hint = hint(reply::prefix(&reason));
        bail!("the relay refused {}: {reason}{hint}", event.id());
    }
    let remark = if reason.is_empty() { reason } else { format!(" ({reason})") };
    writeln!(io::stdout(), "accepted {}{remark}", event.id()).context("cannot print the answer")
}

/// Publishes within a span, whose trace goes on in the relay. The span is exported to where the variables of
/// OpenTelemetry say, if they do.
fn traced(endpoint: &Endpoint, event: &Event) -> anyhow::Result<Receipt> {
    let config = load(&Sources::new(None, environment, Table::new()))?.config.traces;
    let spans = Pipeline::start(&config, &format!("send-{}", std::process::id()))?;
    telemetry::init_spans(spans.as_ref().map_or_else(trace::unexported, Pipeline::layer));
    let span = debug_span!(
        target: trace::TARGET,
        "send",
        otel.kind = "client",
        "messaging.system" = "nostr",
        "messaging.operation.name" = "EVENT",
        "messaging.message.id" = %event.id(),
    );
    let published = run_async(
        async {
            if let Some(context) = trace::current() {
                writeln!(io::stdout(), "trace {}", context.trace).context("cannot print the trace")?;
            }
            Ok(publish(endpoint, event).await?)
        }
        .instrument(span),
    );
    if let Some(spans) = spans {
        spans.shut_down(None);
    }
    published
}

async fn publish(endpoint: &Endpoint, event: &Event) -> Result<Receipt, ClientError> {
    let mut connection = endpoint.connect().await?;
    let receipt = connection.publish(event).await?;
    connection.close().await;
    Ok(receipt)
}

/// What to do about a refusal.
fn hint(prefix: &str) -> &'static str {
    match prefix {
        "pow" => " — mine the bits it asks for with --pow BITS",
        "rate-limited" => " — wait a little and send it again",
        "restricted" => " — this key is not allowed to write here; ask the operator",
        "error" => " — the fault is the relay's; send it again later",
        _ => "",
    }
}

fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    let read = io::stdin().take(MAX_TEXT_BYTES + 1).read_to_string(&mut text);
    read.context("cannot read the text from standard input")?;
    if text.len() as u64 > MAX_TEXT_BYTES {
        bail!("the text is longer than {MAX_TEXT_BYTES} bytes");
    }
    // The newline that `echo` adds is not part of the text.
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

fn tag(text: &str) -> Result<Vec<String>, String> {
    let (name, values) = text.split_once('=').ok_or("write NAME=VALUE, such as t=nostr")?;
    if name.is_empty() {
        return Err("the tag needs a name before the =".into());
    }
    let mut tag = vec![name.to_owned()];
    let mut value = String::new();
    let mut chars = values.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&',') => value.extend(chars.next()),
            ',' => tag.push(std::mem::take(&mut value)),
            c => value.push(c),
        }
    }
    tag.push(value);
    tag[1] = plain_value(name, &tag[1])?;
    Ok(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tags() {
        assert_eq!(tag("t=nostr").unwrap(), ["t", "nostr"]);
        assert_eq!(tag("title=a=b\\, c,d,").unwrap(), ["title", "a=b, c", "d", ""]);
        assert_eq!(tag("-=").unwrap(), ["-", ""]);
        let id = "ab".repeat(32);
        assert_eq!(tag(&format!("e={id},wss://x,root")).unwrap(), ["e", &id, "wss://x", "root"]);
        for (text, expected) in [("t", "t=nostr"), ("=x", "name"), ("p=me", "npub1"), ("e=x", "note1")] {
            let error = tag(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

//! How entries and words are written in a stream, and what the streams are called.

use std::{
    fmt,
    num::ParseIntError,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use redis::{Cmd, FromRedisValue, Value};

use super::super::{Entry, UpstreamId, Verdict, Word};
use crate::{
    aggregate::{counts::Refusal, flight::Number},
    config::PartitionBy,
    protocol::EventId,
    trace::{Context, Queued},
};

/// The stream of a partition.
pub const EVENTS: &str = "upstreams";
/// What the stream of a partition has been since it was made: whoever makes it anew writes another.
pub const GENERATION: &str = "upstreams-generation";
/// How often the process has ended that looked at an entry, by its id.
pub const DEATHS: &str = "upstreams-deaths";
/// Those who take from a stream.
pub const GROUP: &str = "consumers";

/// Those words are for: a process, until its queue breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life(pub u64);

impl Life {
    pub fn new() -> Self {
        Self(rand::random())
    }

    /// The stream of its words.
    pub fn words(self) -> String {
        format!("upstreams-words-{self}")
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Life {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// Where an element of a stream stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// When it was added, by the clock of Redis.
    pub millis: u64,
    pub nth: u64,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.nth)
    }
}

impl FromStr for StreamId {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (millis, nth) = text.split_once('-').context("no id of a stream")?;
        Ok(Self { millis: millis.parse()?, nth: nth.parse()? })
    }
}

/// Where an entry stands that was taken from a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub partition: u16,
    pub id: StreamId,
    /// For whom the words about it are.
    pub life: Life,
    /// Processes that looked at it have ended so often that it is not looked at any more.
    pub is_deadly: bool,
}

/// What an element of a stream has, by name.
type Fields = Vec<(String, Vec<u8>)>;

/// An element of a stream.
pub struct Element {
    pub id: StreamId,
    fields: Fields,
}

impl Element {
    /// Reads those of an answer: a list of ids and fields. One that was removed meanwhile has no fields.
    pub fn read_all(answer: &Value) -> anyhow::Result<Vec<Self>> {
        let elements: Vec<(String, Option<Fields>)> = match answer {
            Value::Nil => Vec::new(),
            answer => FromRedisValue::from_redis_value_ref(answer)?,
        };
        let read = |(id, fields): (String, Option<_>)| {
            Ok(Self { id: id.parse()?, fields: fields.unwrap_or_default() })
        };
        elements.into_iter().map(read).collect()
    }

    /// Reads those of one stream that was asked for by its name.
    pub fn read_one_stream(answer: &Value) -> anyhow::Result<Vec<Self>> {
        let mut streams: Vec<(Value, Value)> = match answer {
            Value::Nil => Vec::new(),
            Value::Map(streams) => streams.clone(),
            answer => FromRedisValue::from_redis_value_ref(answer)?,
        };
        streams.pop().map_or(Ok(Vec::new()), |(_, elements)| Self::read_all(&elements))
    }

    fn field(&self, name: &str) -> anyhow::Result<&str> {
        let value = self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
        let value = value.with_context(|| format!("an element of a stream without {name}"))?;
        Ok(str::from_utf8(value)?)
    }

    /// The entry that it is.
    pub fn entry(&self, partition: u16) -> anyhow::Result<Entry> {
        let trace = self.field("trace").ok().and_then(Context::parse).map(|context| {
            let since = self.field("since").ok().and_then(|micros| micros.parse().ok());
            let since = since.map(|micros| UNIX_EPOCH + Duration::from_micros(micros));
            Box::new(Queued { context, since })
        });
        let place = Place { partition, id: self.id, life: self.field("for")?.parse()?, is_deadly: false };
        Ok(Entry {
            upstream: self.field("upstream")?.parse()?,
            number: self.field("number")?.parse()?,
            id: EventId::from_hex(self.field("id")?).context("no id of an event")?,
            text: self.field("event")?.into(),
            received: self.field("received")?.parse()?,
            trace,
            place: Some(Box::new(place)),
        })
    }

    /// The word that it is, and of which entry.
    pub fn word(&self) -> anyhow::Result<Said> {
        let word = match self.field("word")? {
            "full" => Word::Full(true),
            "room" => Word::Full(false),
            name => Word::Finished(Verdict::named(name).with_context(|| format!("no word is {name}"))?),
        };
        Ok(Said { number: self.field("number")?.parse()?, entry: self.field("entry")?.parse()?, word })
    }
}

/// A word about an entry, as its reader hears it.
pub struct Said {
    pub number: Number,
    pub entry: StreamId,
    pub word: Word,
}

/// Adds an entry to a stream.
pub fn add_entry(command: &mut Cmd, key: &str, entry: &Entry, life: Life) {
    command.arg("XADD").arg(key).arg("*").arg("upstream").arg(entry.upstream.to_string());
    command.arg("number").arg(entry.number).arg("id").arg(entry.id.to_hex()).arg("for").arg(life.to_string());
    command.arg("received").arg(entry.received).arg("event").arg(&*entry.text);
    if let Some(Queued { context, since }) = entry.trace.as_deref() {
        command.arg("trace").arg(context.traceparent());
        if let Some(since) = since.and_then(|since: SystemTime| since.duration_since(UNIX_EPOCH).ok()) {
            command.arg("since").arg(since.as_micros() as u64);
        }
    }
}

/// A word as it is written, in the field `word`, beside `number` and `entry`.
pub fn name_of(word: Word) -> &'static str {
    match word {
        Word::Finished(verdict) => verdict.word(),
        Word::Full(true) => "full",
        Word::Full(false) => "room",
    }
}

/// The partition of an entry.
pub fn partition(by: PartitionBy, partitions: u16, id: &EventId, upstream: UpstreamId) -> u16 {
    let number = match by {
        PartitionBy::Id => u64::from_be_bytes(*id.0.first_chunk().unwrap_or(&[0; 8])),
        PartitionBy::Upstream => upstream.number(),
    };
    (number % u64::from(partitions.max(1))) as u16
}

impl Verdict {
    /// What it is in a stream.
    fn word(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            other => other.name(),
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "stored" => Some(Self::Stored),
            "routed" => Some(Self::Routed),
            "known" => Some(Self::Known),
            "dead" => Some(Self::Dead),
            name => {
                let refusal = Refusal::ALL.iter().find(|(_, other)| *other == name);
                refusal.map(|(refusal, _)| Self::Refused(*refusal))
            }
        }
    }
}

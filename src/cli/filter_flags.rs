//! The flags that say which events are meant, shared by every command that reads.

use std::collections::BTreeMap;

use clap::Args;

use super::time;
use crate::protocol::{
    EventId, Filter, PublicKey, TagFilter, Timestamp, filter::sorted, nip19, tags::single_letter,
};

/// Conditions of different flags must all hold; of a repeated flag, one must.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which events (repeat --id, --author, --kind and --tag for several)")]
pub struct FilterFlags {
    /// Event id: hex, note1… or nevent1…
    #[arg(long, value_name = "ID", value_parser = event_id)]
    id: Vec<EventId>,
    /// Author: hex, npub1… or nprofile1…
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    author: Vec<PublicKey>,
    /// Kind, such as 1 for notes or 0 for profiles
    #[arg(long, value_name = "NUMBER", value_parser = kind)]
    kind: Vec<u16>,
    /// One-letter tag and its value, such as t=nostr or p=npub1…
    #[arg(long, value_name = "LETTER=VALUE", value_parser = tag)]
    tag: Vec<(u8, String)>,
    /// Not older than this: a date (UTC), seconds since 1970, or an age such as 15m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Not newer than this, written likewise. Times that are shown are UTC too
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
}

/// A time as it was written, and what that meant then.
#[derive(Debug, Clone)]
struct Moment {
    text: String,
    at: Timestamp,
}

impl FilterFlags {
    /// The filter of NIP-01 that says the same, without a limit.
    pub fn filter(&self) -> Filter {
        let mut tags: BTreeMap<u8, Vec<&str>> = BTreeMap::new();
        for (letter, value) in &self.tag {
            tags.entry(*letter).or_default().push(value);
        }
        Filter {
            ids: list(&self.id),
            authors: list(&self.author),
            kinds: list(&self.kind),
            tags: tags.into_iter().map(|(letter, values)| TagFilter::new(letter, values)).collect(),
            since: self.since.as_ref().map(|moment| moment.at),
            until: self.until.as_ref().map(|moment| moment.at),
            limit: None,
        }
    }

    /// What was written, to be compared: the same flags say the same at any time, though an age is then another
    /// moment.
    pub fn written(&self) -> String {
        let timeless = Filter { since: None, until: None, ..self.filter() };
        let mut written = serde_json::to_string(&timeless).unwrap_or_default();
        for (flag, moment) in [("since", &self.since), ("until", &self.until)] {
            written.extend(moment.iter().map(|moment| format!(" --{flag} {}", moment.text)));
        }
        written
    }
}

/// A flag that is not given is no condition.
fn list<T: Ord + Clone>(values: &[T]) -> Option<Box<[T]>> {
    (!values.is_empty()).then(|| sorted(values.to_vec()))
}

/// Reads a kind.
pub fn kind(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "a kind is a number from 0 to 65535, such as 1 for notes".to_owned())
}

fn event_id(text: &str) -> Result<EventId, String> {
    nip19::read_event_id(text).map_err(|error| error.to_string())
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    nip19::read_public_key(text).map_err(|error| error.to_string())
}

fn moment(text: &str) -> Result<Moment, String> {
    Ok(Moment { text: text.to_owned(), at: time::parse(text)? })
}

fn tag(text: &str) -> Result<(u8, String), String> {
    let (name, value) = text.split_once('=').ok_or("write LETTER=VALUE, such as t=nostr")?;
    let letter = single_letter(name.trim_start_matches('#'))
        .ok_or("relays find tags of one letter only, such as t=nostr")?;
    Ok((letter, plain_value(name, value)?))
}

/// The value of a tag as events hold it: keys and ids are hexadecimal there, whatever people paste.
pub fn plain_value(name: &str, value: &str) -> Result<String, String> {
    match name.trim_start_matches('#') {
        "p" | "P" => {
            let key = nip19::read_public_key(value);
            key.map(|key| key.to_hex()).map_err(|error| format!("{name}={value}: {error}"))
        }
        "e" | "E" => {
            let id = nip19::read_event_id(value);
            id.map(|id| id.to_hex()).map_err(|error| format!("{name}={value}: {error}"))
        }
        _ => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: FilterFlags,
    }

    fn read(line: &str) -> Result<Filter, String> {
        let words = ["test"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.flags.filter()).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_become_a_filter() {
        let npub = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg";
        let hex = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
        assert_eq!(read("").unwrap(), Filter::default());
        let filter = read(&format!(
            "--author {npub} --kind 7 --kind 1 --tag t=b --tag t=a --tag p={npub} --since 1970-01-02"
        ))
        .unwrap();
        assert_eq!(
            serde_json::to_string(&filter).unwrap(),
            format!(r##"{{"authors":["{hex}"],"kinds":[1,7],"#p":["{hex}"],"#t":["b","a"],"since":86400}}"##)
        );
    }

    #[test]
    fn errors_say_what_to_write() {
        for (line, expected) in [
            ("--tag topic=x", "one letter only"),
            ("--tag t", "t=nostr"),
            ("--tag p=me", "npub1"),
            ("--author me", "npub1"),
            ("--id me", "note1"),
            ("--kind 65536", "65535"),
            ("--kind note", "a kind is a number"),
            ("--since yesterday", "15m"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}

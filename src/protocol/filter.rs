//! Filters (NIP-01), and the one place that says what it means to match.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};

use super::{
    EventId, Fields, PublicKey, Reason, Timestamp,
    fields::{List, Number},
    hex32::decode_lower_hex,
    kind,
    tag_filter::TagFilter,
    tags::single_letter,
};

pub use super::tag_filter::sorted;

/// What a subscription wants. Conditions are AND'ed; the values of a list are OR'ed; a list that is
/// present and empty matches nothing. `Default` is `{}`, which matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Sorted, without doubles, like all lists here.
    pub ids: Option<Box<[EventId]>>,
    pub authors: Option<Box<[PublicKey]>>,
    pub kinds: Option<Box<[u16]>>,
    /// Sorted by letter.
    pub tags: Box<[TagFilter]>,
    /// Matches `created_at >= since`.
    pub since: Option<Timestamp>,
    /// Matches `created_at <= until`.
    pub until: Option<Timestamp>,
    /// How many stored events are wanted; without meaning for live ones.
    pub limit: Option<usize>,
}

impl Filter {
    /// Whether all conditions hold for the event. `limit` does not count here.
    pub fn matches(&self, event: &impl Fields) -> bool {
        let created_at = event.created_at();
        self.since.is_none_or(|since| since <= created_at)
            && self.until.is_none_or(|until| created_at <= until)
            && self.matches_kind(event.kind())
            && self.authors.as_ref().is_none_or(|all| all.binary_search(event.pubkey()).is_ok())
            && self.ids.as_ref().is_none_or(|ids| ids.binary_search(event.id()).is_ok())
            && self.tags.iter().all(|tag| event.has_tag(tag))
    }

    /// Whether events of the kind can match.
    pub fn matches_kind(&self, kind: u16) -> bool {
        match &self.kinds {
            Some(kinds) => kinds.binary_search(&kind).is_ok(),
            None => !kind::must_be_named(kind),
        }
    }

    /// Whether no event can match: a list is empty, or the window is.
    pub fn is_never(&self) -> bool {
        self.ids.as_ref().is_some_and(|list| list.is_empty())
            || self.authors.as_ref().is_some_and(|list| list.is_empty())
            || self.kinds.as_ref().is_some_and(|list| list.is_empty())
            || self.tags.iter().any(|tag| tag.values().is_empty())
            || self.since.zip(self.until).is_some_and(|(since, until)| since > until)
    }

    /// How many values its lists hold together.
    pub fn values(&self) -> usize {
        self.ids.as_ref().map_or(0, |list| list.len())
            + self.authors.as_ref().map_or(0, |list| list.len())
            + self.kinds.as_ref().map_or(0, |list| list.len())
            + self.tags.iter().map(|tag| tag.values().len()).sum::<usize>()
    }

    /// Whether it asks for private kinds only (NIP-17), which nobody gets without authentication.
    pub fn is_private(&self) -> bool {
        self.kinds
            .as_ref()
            .is_some_and(|kinds| !kinds.is_empty() && kinds.iter().all(|&k| kind::is_private(k)))
    }

    /// Whether it asks for those kinds only which nobody gets without authentication.
    pub fn needs_auth(&self) -> bool {
        let needs = |&kind: &u16| kind::is_private(kind) || kind == kind::ACTIVITY;
        self.kinds.as_ref().is_some_and(|kinds| !kinds.is_empty() && kinds.iter().all(needs))
    }

    /// Whether a private event that this filter matches may have one of `keys` as a party. Gift wraps
    /// are signed by keys that nobody keeps, so there a stranger's `#p` leaves nothing for others.
    pub fn may_concern(&self, keys: &[PublicKey]) -> bool {
        let as_author = match &self.authors {
            Some(authors) => keys.iter().any(|key| authors.binary_search(key).is_ok()),
            None => {
                let kinds = self.kinds.as_ref();
                kinds.is_none_or(|kinds| kinds.binary_search(&kind::DIRECT_MESSAGE).is_ok())
            }
        };
        let as_recipient = self
            .tags
            .iter()
            .find(|tag| tag.letter() == b'p')
            .is_none_or(|tag| keys.iter().any(|key| tag.contains(&key.to_hex())));
        !keys.is_empty() && (as_author || as_recipient)
    }
}

/// A filter as the client wrote it, unknown fields noted.
#[derive(Debug, Default)]
pub struct RawFilter {
    filter: Filter,
    unknown: Option<String>,
}

impl TryFrom<RawFilter> for Filter {
    type Error = Reason;

    /// A field that this relay does not know can not be ignored: the answer would be wrong.
    fn try_from(raw: RawFilter) -> Result<Self, Reason> {
        match raw.unknown {
            None => Ok(raw.filter),
            Some(name) if name == "search" => {
                Err(Reason::unsupported("this relay does not search text (NIP-50)"))
            }
            Some(name) => {
                let name: String = name.chars().take(32).collect();
                Err(Reason::unsupported(format!("unknown filter field {name:?}")))
            }
        }
    }
}

impl<'de> Deserialize<'de> for RawFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = RawFilter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a filter object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<RawFilter, A::Error> {
                let mut raw = RawFilter::default();
                let mut tags = BTreeMap::new();
                while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    let filter = &mut raw.filter;
                    match &*name {
                        "ids" => {
                            let ids = map.next_value_seed(List("ids", PhantomData))?;
                            set(&mut filter.ids, "ids", sorted(ids))?;
                        }
                        "authors" => {
                            let authors = map.next_value_seed(List("authors", PhantomData))?;
                            set(&mut filter.authors, "authors", sorted(authors))?;
                        }
                        "kinds" => {
                            let kinds = map.next_value_seed(List("kinds", Number::of("a kind")))?;
                            set(&mut filter.kinds, "kinds", sorted(kinds))?;
                        }
                        "since" => {
                            set(&mut filter.since, "since", map.next_value_seed(Number::of("since"))?)?
                        }
                        "until" => {
                            set(&mut filter.until, "until", map.next_value_seed(Number::of("until"))?)?
                        }
                        "limit" => {
                            set(&mut filter.limit, "limit", map.next_value_seed(Number::of("limit"))?)?
                        }
                        other => match other.strip_prefix('#').and_then(single_letter) {
                            Some(letter) => {
                                let values = map.next_value_seed(List(other, PhantomData::<Box<str>>))?;
                                check_tag_values(letter, &values)?;
                                if tags.insert(letter, TagFilter::new(letter, values)).is_some() {
                                    return Err(de::Error::custom(format!("duplicate field `{other}`")));
                                }
                            }
                            None => {
                                map.next_value::<de::IgnoredAny>()?;
                                raw.unknown.get_or_insert_with(|| other.to_owned());
                            }
                        },
                    }
                }
                raw.filter.tags = tags.into_values().collect();
                Ok(raw)
            }
        }

        fn set<T, E: de::Error>(field: &mut Option<T>, name: &'static str, value: T) -> Result<(), E> {
            match field.replace(value) {
                None => Ok(()),
                Some(_) => Err(E::duplicate_field(name)),
            }
        }

        /// `#e` and `#p` hold ids and keys (NIP-01).
        fn check_tag_values<E: de::Error>(letter: u8, values: &[Box<str>]) -> Result<(), E> {
            let strict = matches!(letter, b'e' | b'p');
            if strict && values.iter().any(|value| decode_lower_hex::<32>(value).is_none()) {
                return Err(E::custom(format!(
                    "the values of #{} must be 64 lowercase hexadecimal digits",
                    char::from(letter)
                )));
            }
            Ok(())
        }

        deserializer.deserialize_map(Visitor)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawFilter::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        macro_rules! entries {
            ($($field:ident)*) => {
                $(if let Some(value) = &self.$field {
                    map.serialize_entry(stringify!($field), value)?;
                })*
            };
        }
        entries!(ids authors kinds);
        for tag in &self.tags {
            map.serialize_entry(&format!("#{}", char::from(tag.letter())), tag)?;
        }
        entries!(since until limit);
        map.end()
    }
}

/// Its JSON, as it stands in a REQ.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Tags, sign::Keys};

    fn filter(json: &str) -> Filter {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn each_condition_counts() {
        let keys = Keys::generate();
        let tags = Tags::from_iter([vec!["t", "a", "b"], vec!["long", "c"], vec!["T", "d"]]);
        let event = keys.sign(100, 7, tags, "");
        let author = keys.public_key();
        let id = event.id();
        for (json, expected) in [
            ("{}".to_owned(), true),
            (format!(r#"{{"ids":["{id}"]}}"#), true),
            (format!(r#"{{"ids":["{author}"]}}"#), false),
            (format!(r#"{{"authors":["{author}"],"kinds":[1,7]}}"#), true),
            (format!(r#"{{"authors":["{id}"],"kinds":[1,7]}}"#), false),
            (r#"{"kinds":[1]}"#.into(), false),
            (r#"{"kinds":[]}"#.into(), false),
            (r#"{"since":100,"until":100}"#.into(), true),
            (r#"{"since":101}"#.into(), false),
            (r#"{"until":99}"#.into(), false),
            (r##"{"#t":["x","a"]}"##.into(), true),
            (r##"{"#t":["b"]}"##.into(), false),
            (r##"{"#T":["d"],"#t":["a"]}"##.into(), true),
            (r##"{"#T":["a"],"#t":["a"]}"##.into(), false),
            (r##"{"#t":[]}"##.into(), false),
            (r#"{"limit":0}"#.into(), true),
        ] {
            assert_eq!(filter(&json).matches(&event), expected, "{json}");
        }
    }

    #[test]
    fn what_must_be_named_is_in_no_other_answer() {
        let keys = Keys::generate();
        let event = keys.sign(100, kind::ACTIVITY, Tags::from_iter([["p", &"ab".repeat(32)]]), "");
        let (author, id) = (keys.public_key(), event.id());
        for (json, expected) in [
            ("{}".to_owned(), false),
            (format!(r#"{{"ids":["{id}"]}}"#), false),
            (format!(r#"{{"authors":["{author}"]}}"#), false),
            (format!(r##"{{"#p":["{}"]}}"##, "ab".repeat(32)), false),
            (r#"{"kinds":[1]}"#.into(), false),
            (r#"{"kinds":[1,4227]}"#.into(), true),
            (format!(r#"{{"ids":["{id}"],"kinds":[4227]}}"#), true),
        ] {
            assert_eq!(filter(&json).matches(&event), expected, "{json}");
        }
    }

    #[test]
    fn private_kinds_may_concern_whom_the_filter_leaves_room_for() {
        let [me, other] = [Keys::generate(), Keys::generate()].map(|keys| keys.public_key());
        for (json, expected) in [
            (r#"{"kinds":[4]}"#.to_owned(), true),
            (r#"{"kinds":[1059]}"#.into(), true),
            (format!(r##"{{"kinds":[1059],"#p":["{me}"]}}"##), true),
            (format!(r##"{{"kinds":[1059],"#p":["{other}"]}}"##), false),
            (format!(r##"{{"kinds":[4],"#p":["{other}"]}}"##), true),
            (format!(r##"{{"kinds":[4],"authors":["{other}"]}}"##), true),
            (format!(r##"{{"kinds":[1059],"authors":["{other}"],"#p":["{me}"]}}"##), true),
            (format!(r##"{{"kinds":[4],"authors":["{other}"],"#p":["{other}"]}}"##), false),
            (format!(r##"{{"kinds":[1059],"authors":["{me}"],"#p":["{other}"]}}"##), true),
        ] {
            assert_eq!(filter(&json).may_concern(&[me]), expected, "{json}");
            assert!(!filter(&json).may_concern(&[]), "{json}");
        }
    }

    #[test]
    fn refuses_what_it_can_not_honour() {
        for (json, prefix) in [
            (r#"{"search":"x"}"#, "unsupported: "),
            (r##"{"#long":["x"]}"##, "unsupported: "),
            (r#"{"kinds":[1],"kinds":[2]}"#, "duplicate"),
            (r##"{"#t":["x"],"#t":["y"]}"##, "duplicate"),
            (r#"{"ids":["abc"]}"#, "an event id"),
            (
                r#"{"limit":-1}"#,
                "invalid type: integer `-1`, expected limit to be a whole number that is not",
            ),
            (r#"{"limit":"5"}"#, "invalid type: string \"5\", expected limit to be a whole number"),
            (r#"{"since":1.5}"#, "invalid type: floating point `1.5`, expected since to be a whole number"),
            (r#"{"until":null}"#, "invalid type: null, expected until to be a whole number"),
            (
                r#"{"kinds":[1,65536]}"#,
                "invalid value: integer `65536`, expected a kind to be a whole number from 0",
            ),
            (r#"{"kinds":1}"#, "invalid type: integer `1`, expected kinds to be a list"),
            (r#"{"authors":"a"}"#, "invalid type: string \"a\", expected authors to be a list"),
            (r##"{"#t":"x"}"##, "invalid type: string \"x\", expected #t to be a list"),
            (r##"{"#p":["x"]}"##, "the values of #p"),
        ] {
            let error = serde_json::from_str::<Filter>(json).unwrap_err().to_string();
            assert!(error.starts_with(prefix), "{json}: {error}");
        }
    }

    #[test]
    fn survives_its_own_json() {
        let json = r##"{"kinds":[1,2],"#t":["a","b"],"since":1,"until":2,"limit":3}"##;
        assert_eq!(serde_json::to_string(&filter(json)).unwrap(), json);
        let first = filter(r##"{"#t":["b","a","b"]}"##);
        assert_eq!(first.tags[0].first(), Some("b"));
        assert_eq!(first.values(), 2);
        assert_eq!(filter(&serde_json::to_string(&first).unwrap()), first);
    }
}

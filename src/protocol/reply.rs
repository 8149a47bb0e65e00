//! What a relay says, as a client reads it: the other side of [`super::RelayMessage`].
//!
//! Lenient where relays of the wild differ (reasons without a known prefix, verbs to come), strict
//! where a wrong reading would lose an event.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, de};
use serde_json::value::RawValue;

use super::{
    EventId, ParsedEvent,
    message::{Hint, Text, element},
};

/// A message of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    Event {
        subscription: Cow<'a, str>,
        /// What is wrong with it as a text, where it is no event by shape.
        event: Result<Box<ParsedEvent<'a>>, String>,
    },
    Ok {
        /// `None` where it is no event id.
        id: Option<EventId>,
        accepted: bool,
        reason: Cow<'a, str>,
    },
    Eose {
        subscription: Cow<'a, str>,
        hint: Option<Hint>,
    },
    Closed {
        subscription: Cow<'a, str>,
        reason: Cow<'a, str>,
    },
    Notice(Cow<'a, str>),
    Auth {
        challenge: Cow<'a, str>,
    },
    Count {
        subscription: Cow<'a, str>,
        count: u64,
        approximate: bool,
    },
    /// The message in hexadecimal digits (NIP-77).
    NegMsg {
        subscription: Cow<'a, str>,
        message: Cow<'a, str>,
    },
    NegErr {
        subscription: Cow<'a, str>,
        reason: Cow<'a, str>,
    },
    /// A verb that this client does not know.
    Unknown(Cow<'a, str>),
}

impl<'a> Reply<'a> {
    /// Reads one text message.
    ///
    /// # Errors
    /// It is not JSON, or does not have the shape that its verb demands.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// The word before the colon of a reason, such as `auth-required`; empty where it has none.
pub fn prefix(reason: &str) -> &str {
    match reason.split_once(':') {
        Some((word, _)) if word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') => word,
        _ => "",
    }
}

#[derive(Deserialize)]
struct CountBody {
    count: u64,
    #[serde(default)]
    approximate: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Reply<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Reply<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array that begins with a verb")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Reply<'de>, A::Error> {
                let Text(verb) = element(&mut seq, "a verb")?;
                let reply = match &*verb {
                    "EVENT" => {
                        let Text(subscription) = element(&mut seq, "a subscription id")?;
                        let raw: &RawValue = element(&mut seq, "an event")?;
                        let event = serde_json::from_str(raw.get()).map_err(|error| error.to_string());
                        Reply::Event { subscription, event: event.map(Box::new) }
                    }
                    "OK" => {
                        let Text(id) = element(&mut seq, "an event id")?;
                        let accepted = element(&mut seq, "true or false")?;
                        let reason = seq.next_element()?.map_or(Cow::Borrowed(""), |Text(reason)| reason);
                        Reply::Ok { id: EventId::from_hex(&id), accepted, reason }
                    }
                    "EOSE" => {
                        let Text(subscription) = element(&mut seq, "a subscription id")?;
                        // NIP-67: an array of words; whatever else stands there is ignored.
                        let words: Option<serde_json::Value> = seq.next_element()?;
                        Reply::Eose { subscription, hint: words.as_ref().and_then(hint) }
                    }
                    "CLOSED" => {
                        let Text(subscription) = element(&mut seq, "a subscription id")?;
                        let reason = seq.next_element()?.map_or(Cow::Borrowed(""), |Text(reason)| reason);
                        Reply::Closed { subscription, reason }
                    }
                    "NOTICE" => Reply::Notice(element::<_, Text>(&mut seq, "a text")?.0),
                    "AUTH" => Reply::Auth { challenge: element::<_, Text>(&mut seq, "a challenge")?.0 },
                    "COUNT" => {
                        let Text(subscription) = element(&mut seq, "a subscription id")?;
                        let CountBody { count, approximate } = element(&mut seq, "a count")?;
                        Reply::Count { subscription, count, approximate }
                    }
                    "NEG-MSG" => {
                        let Text(subscription) = element(&mut seq, "a subscription id")?;
                        let Text(message) = element(&mut seq, "a message")?;
                        Reply::NegMsg { subscription, message }
                    }
                    "NEG-ERR" => {
                        let Text(subscription) = element(&mut seq, "a subscription id")?;
                        let reason = seq.next_element()?.map_or(Cow::Borrowed(""), |Text(reason)| reason);
                        Reply::NegErr { subscription, reason }
                    }
                    _ => Reply::Unknown(verb),
                };
                while seq.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(reply)
            }
        }

        deserializer.deserialize_seq(Visitor)
    }
}

fn hint(words: &serde_json::Value) -> Option<Hint> {
    let says = |hint: Hint| words.as_array()?.iter().any(|word| word == hint.as_str()).then_some(hint);
    // Should a relay say both, asking once more is the harmless reading.
    says(Hint::More).or_else(|| says(Hint::Finish))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Reason, RelayMessage, message, sign::Keys};

    #[test]
    fn reads_what_the_relay_writes() {
        let reason = Reason::invalid("a \"quote\"");
        let id = EventId([0xab; 32]);
        let ok = message::ok(&id, Err(reason.clone()));
        assert_eq!(
            Reply::parse(&ok).unwrap(),
            Reply::Ok { id: Some(id), accepted: false, reason: "invalid: a \"quote\"".into() }
        );
        for (message, expected) in [
            (
                RelayMessage::Eose { subscription: "s", hint: Some(Hint::Finish) },
                Reply::Eose { subscription: "s".into(), hint: Some(Hint::Finish) },
            ),
            (
                RelayMessage::Closed { subscription: "\\", reason: &reason },
                Reply::Closed { subscription: "\\".into(), reason: "invalid: a \"quote\"".into() },
            ),
            (RelayMessage::Notice("\u{1}"), Reply::Notice("\u{1}".into())),
            (RelayMessage::Auth { challenge: "c" }, Reply::Auth { challenge: "c".into() }),
            (
                RelayMessage::NegMsg { subscription: "n", message: "61" },
                Reply::NegMsg { subscription: "n".into(), message: "61".into() },
            ),
            (
                RelayMessage::NegErr { subscription: "n", reason: &reason, most: Some(7) },
                Reply::NegErr { subscription: "n".into(), reason: "invalid: a \"quote\"".into() },
            ),
            (
                RelayMessage::Count { subscription: "s", count: 3, approximate: true, hll: None },
                Reply::Count { subscription: "s".into(), count: 3, approximate: true },
            ),
        ] {
            assert_eq!(Reply::parse(&message.to_string()).unwrap(), expected);
        }
        let event = Keys::generate().sign(1, 1, Default::default(), "a\nb");
        let text = format!(r#"["EVENT", "s", {}]"#, event.json());
        let Reply::Event { subscription, event: Ok(parsed) } = Reply::parse(&text).unwrap() else {
            panic!("an event")
        };
        assert_eq!((&*subscription, parsed.trust()), ("s", event));
    }

    #[test]
    fn bears_what_relays_of_the_wild_write() {
        assert_eq!(
            Reply::parse(r#"["OK","",false]"#).unwrap(),
            Reply::Ok { id: None, accepted: false, reason: "".into() }
        );
        for (text, expected) in [
            (r#"["EOSE","s"]"#, None),
            (r#"["EOSE","s",[]]"#, None),
            (r#"["EOSE","s",["new",1]]"#, None),
            (r#"["EOSE","s",["new","more"],7]"#, Some(Hint::More)),
            (r#"["EOSE","s","finish"]"#, None),
        ] {
            let reply = Reply::parse(text).unwrap();
            assert_eq!(reply, Reply::Eose { subscription: "s".into(), hint: expected }, "{text}");
        }
        assert_eq!(Reply::parse(r#"["NEW",{}]"#).unwrap(), Reply::Unknown("NEW".into()));
        assert!(matches!(
            Reply::parse(r#"["EVENT","s",{"id":1}]"#).unwrap(),
            Reply::Event { event: Err(_), .. }
        ));
        for bad in ["", "{}", "[]", r#"["EVENT","s"]"#, r#"["OK","x","true"]"#, r#"["EOSE"]"#] {
            assert!(Reply::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn finds_the_prefix_of_a_reason() {
        for (reason, expected) in
            [("auth-required: x", "auth-required"), ("pow:", "pow"), ("No: x", ""), ("text", ""), ("", "")]
        {
            assert_eq!(prefix(reason), expected, "{reason}");
        }
    }
}

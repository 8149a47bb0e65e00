//! What clients say, read in one pass.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, de};

use super::super::{
    Filter, ParsedEvent, Reason,
    addressee::{Addressee, Malformed, is_echoed},
    fields,
    filter::RawFilter,
};

/// Longest subscription id, in characters (NIP-01).
pub const MAX_SUBSCRIPTION_ID: usize = 64;

/// A message of a client, well-formed by shape.
#[derive(Debug)]
pub enum ClientMessage<'a> {
    Event(ParsedEvent<'a>),
    Auth(ParsedEvent<'a>),
    Req {
        id: Cow<'a, str>,
        filters: Vec<Filter>,
    },
    Count {
        id: Cow<'a, str>,
        filters: Vec<Filter>,
    },
    Close {
        id: Cow<'a, str>,
    },
    /// The message is that of [`crate::protocol::negentropy`] (NIP-77).
    NegOpen {
        id: Cow<'a, str>,
        filter: Filter,
        message: Vec<u8>,
    },
    NegMsg {
        id: Cow<'a, str>,
        message: Vec<u8>,
    },
    NegClose {
        id: Cow<'a, str>,
    },
}

impl<'a> ClientMessage<'a> {
    /// Reads one text message. Every refusal is a typed reason; nothing here can fail otherwise.
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        match serde_json::from_str::<Shape<'a>>(text) {
            Ok(Shape::Event(event)) => Ok(Self::Event(event)),
            Ok(Shape::Auth(event)) => Ok(Self::Auth(event)),
            Ok(Shape::Req(id, filters)) => {
                let filters = check(&id, filters).map_err(|r| Malformed::Subscription(id.to_string(), r))?;
                Ok(Self::Req { id, filters })
            }
            Ok(Shape::Count(id, filters)) => {
                let filters = check(&id, filters).map_err(|r| Malformed::Count(id.to_string(), r))?;
                Ok(Self::Count { id, filters })
            }
            Ok(Shape::Close(id)) => Ok(Self::Close { id }),
            Ok(Shape::NegOpen(id, ..) | Shape::NegMsg(id, _)) if !is_echoed(&id) => {
                Err(Malformed::Unknown(Reason::invalid("the id is too long")))
            }
            Ok(Shape::NegOpen(id, filter, message)) => {
                let read = Filter::try_from(filter).and_then(|filter| Ok((filter, digits(&message)?)));
                let (filter, message) = read.map_err(|r| Malformed::Negentropy(id.to_string(), r))?;
                Ok(Self::NegOpen { id, filter, message })
            }
            Ok(Shape::NegMsg(id, message)) => {
                let message = digits(&message).map_err(|r| Malformed::Negentropy(id.to_string(), r))?;
                Ok(Self::NegMsg { id, message })
            }
            Ok(Shape::NegClose(id)) => Ok(Self::NegClose { id }),
            Ok(Shape::Unknown(verb)) => {
                let verb: String = verb.chars().take(16).collect();
                Err(Malformed::Unknown(Reason::invalid(format!("unknown verb {verb:?}"))))
            }
            Err(error) => Err(address(text, &error)),
        }
    }
}

/// What REQ and COUNT have in common.
fn check(id: &str, filters: Vec<RawFilter>) -> Result<Vec<Filter>, Reason> {
    if id.is_empty() || id.chars().count() > MAX_SUBSCRIPTION_ID {
        return Err(Reason::invalid(format!("a subscription id has 1 to {MAX_SUBSCRIPTION_ID} characters")));
    }
    if filters.is_empty() {
        return Err(Reason::invalid("a subscription needs at least one filter"));
    }
    filters.into_iter().map(Filter::try_from).collect()
}

fn digits(message: &str) -> Result<Vec<u8>, Reason> {
    hex::decode(message)
        .map_err(|_| Reason::invalid("the message is not made of pairs of hexadecimal digits"))
}

/// The shape of a message, read in one pass. The verb comes first, so what follows is read as what
/// it must be, without a tree in between.
enum Shape<'a> {
    Event(ParsedEvent<'a>),
    Auth(ParsedEvent<'a>),
    Req(Cow<'a, str>, Vec<RawFilter>),
    Count(Cow<'a, str>, Vec<RawFilter>),
    Close(Cow<'a, str>),
    NegOpen(Cow<'a, str>, RawFilter, Cow<'a, str>),
    NegMsg(Cow<'a, str>, Cow<'a, str>),
    NegClose(Cow<'a, str>),
    Unknown(Cow<'a, str>),
}

/// A string that is borrowed where it has no escapes (`Cow` alone would always copy).
#[derive(Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// The next element of an array, which has to be there.
pub fn element<'de, A: de::SeqAccess<'de>, T: Deserialize<'de>>(
    seq: &mut A,
    what: &'static str,
) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| de::Error::custom(format!("{what} is missing")))
}

impl<'de: 'a, 'a> Deserialize<'de> for Shape<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Shape<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array that begins with a verb")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Shape<'de>, A::Error> {
                let Text(verb) = element(&mut seq, "a verb")?;
                let shape = match &*verb {
                    "EVENT" => Shape::Event(element(&mut seq, "an event")?),
                    "AUTH" => Shape::Auth(element(&mut seq, "an event")?),
                    "REQ" | "COUNT" => {
                        let Text(id) = element(&mut seq, "a subscription id")?;
                        let mut filters = Vec::new();
                        while let Some(filter) = seq.next_element()? {
                            filters.push(filter);
                        }
                        if verb == "REQ" { Shape::Req(id, filters) } else { Shape::Count(id, filters) }
                    }
                    "CLOSE" => {
                        let Text(id) = element(&mut seq, "a subscription id")?;
                        Shape::Close(id)
                    }
                    "NEG-OPEN" => {
                        let Text(id) = element(&mut seq, "a subscription id")?;
                        let filter = element(&mut seq, "a filter")?;
                        let Text(message) = element(&mut seq, "a message")?;
                        Shape::NegOpen(id, filter, message)
                    }
                    "NEG-MSG" => {
                        let Text(id) = element(&mut seq, "a subscription id")?;
                        let Text(message) = element(&mut seq, "a message")?;
                        Shape::NegMsg(id, message)
                    }
                    "NEG-CLOSE" => {
                        let Text(id) = element(&mut seq, "a subscription id")?;
                        Shape::NegClose(id)
                    }
                    _ => Shape::Unknown(verb),
                };
                while seq.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(shape)
            }
        }

        deserializer.deserialize_seq(Visitor)
    }
}

/// Finds out, on the slow path, whom a malformed message was about.
fn address(text: &str, error: &serde_json::Error) -> Malformed {
    /// Longest explanation, in characters: errors of the parser quote the input.
    const MAX_EXPLANATION: usize = 160;

    let mut addressee = Addressee::default();
    addressee.see(text.as_bytes());
    addressee.answer(Reason::invalid(fields::told(error).chars().take(MAX_EXPLANATION).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Prefix, sign::Keys};

    #[test]
    fn reads_every_verb() {
        let event = Keys::generate().sign(1, 1, Default::default(), "x");
        let text = format!(r#" [ "EVENT" , {} , "extra" ] "#, event.json());
        assert!(matches!(ClientMessage::parse(&text), Ok(ClientMessage::Event(e)) if e.id == event.id()));
        let text = format!(r#"["AUTH",{}]"#, event.json());
        assert!(matches!(ClientMessage::parse(&text), Ok(ClientMessage::Auth(_))));
        let Ok(ClientMessage::Req { id, filters }) =
            ClientMessage::parse(r#"["REQ","a\"b",{},{"kinds":[1]}]"#)
        else {
            panic!("a REQ")
        };
        assert_eq!((&*id, filters.len()), ("a\"b", 2));
        assert!(matches!(ClientMessage::parse(r#"["COUNT","q",{}]"#), Ok(ClientMessage::Count { .. })));
        assert!(matches!(ClientMessage::parse(r#"["CLOSE","q"]"#), Ok(ClientMessage::Close { .. })));
        let Ok(ClientMessage::NegOpen { id, filter, message }) =
            ClientMessage::parse(r#"["NEG-OPEN","n",{"kinds":[1]},"61ff"]"#)
        else {
            panic!("a NEG-OPEN")
        };
        assert_eq!((&*id, filter.kinds.as_deref(), &*message), ("n", Some(&[1][..]), &[0x61, 0xff][..]));
        let message = ClientMessage::parse(r#"["NEG-MSG","n","61"]"#);
        assert!(
            matches!(message, Ok(ClientMessage::NegMsg { id, message }) if id == "n" && message == [0x61])
        );
        let closed = ClientMessage::parse(r#"["NEG-CLOSE","n"]"#);
        assert!(matches!(closed, Ok(ClientMessage::NegClose { id }) if id == "n"));
    }

    #[test]
    fn addresses_every_refusal() {
        let deep = format!(r#"["REQ","s",{}1{}]"#, "[".repeat(10_000), "]".repeat(10_000));
        for (text, to) in [
            ("", "notice"),
            ("{}", "notice"),
            ("[]", "notice"),
            ("[1]", "notice"),
            (r#"["NOPE",1]"#, "notice"),
            (r#"["EVENT"]"#, "notice"),
            (r#"["EVENT",{"id":"abc"}]"#, "event abc"),
            (r#"["EVENT",{"id":7}]"#, "notice"),
            (r#"["REQ","s"]"#, "sub s"),
            (r#"["REQ","",{}]"#, "sub "),
            (r#"["REQ",1,{}]"#, "notice"),
            (r#"["REQ","s",{"kinds":["a"]}]"#, "sub s"),
            (r#"["REQ","s",{"search":"a"}]"#, "sub s"),
            (r#"["COUNT","s"]"#, "count s"),
            (r#"["COUNT","s",1]"#, "count s"),
            (r#"["REQ","s",{},"#, "sub s"),
            (&deep, "sub s"),
            (r#"["REQ","s",{"#, "sub s"),
            (r#"["EVENT",{"id":"abc","content":"\ud83d"}]"#, "event abc"),
            (r#"["EVENT",{"id":"abc","created_at":1e999}]"#, "event abc"),
            (r#"["NEG-OPEN","n""#, "neg n"),
            (r#"["NEG-OPEN","n",{}]"#, "neg n"),
            (r#"["NEG-OPEN","n",{},"6"]"#, "neg n"),
            (r#"["NEG-OPEN","n",{"kinds":1},"61"]"#, "neg n"),
            (r#"["NEG-MSG","n"]"#, "neg n"),
            (r#"["NEG-MSG","n","6g"]"#, "neg n"),
            (r#"["NEG-OPEN"]"#, "notice"),
        ] {
            let got = match ClientMessage::parse(text).unwrap_err() {
                Malformed::Event(id, _) => format!("event {id}"),
                Malformed::Subscription(id, _) => format!("sub {id}"),
                Malformed::Count(id, _) => format!("count {id}"),
                Malformed::Negentropy(id, _) => format!("neg {id}"),
                Malformed::Unknown(_) => "notice".to_owned(),
            };
            assert_eq!(got, to, "{text}");
        }
        let long = format!(r#"["REQ","{}",{{}}]"#, "ä".repeat(65));
        assert!(matches!(
            ClientMessage::parse(&long),
            Err(Malformed::Subscription(_, Reason { prefix: Prefix::Invalid, .. }))
        ));
    }

    #[test]
    fn what_is_wrong_is_said_in_words_of_json() {
        let event = |field: &str| {
            let zeros = "0".repeat(64);
            format!(
                r#"["EVENT",{{"id":"{zeros}","pubkey":"{zeros}",{field},"tags":[],"content":"","sig":"{zeros}{zeros}"}}]"#
            )
        };
        for (text, says) in [
            (
                event(r#""created_at":1,"kind":70000"#),
                "invalid value: integer `70000`, expected kind to be a whole number from 0 to 65535",
            ),
            (
                event(r#""kind":1,"created_at":"now""#),
                "invalid type: string \"now\", expected created_at to be a whole number that is not negative",
            ),
            (event(r#""kind":1"#), "missing field `created_at`"),
            (r#"["AUTH",5]"#.into(), "invalid type: integer `5`, expected an event, an object of NIP-01"),
            (
                r#"["REQ","s",{"limit":"5"}]"#.into(),
                "invalid type: string \"5\", expected limit to be a whole number that is not negative",
            ),
            (r#"["REQ","s",5]"#.into(), "invalid type: integer `5`, expected a filter object"),
            (r#"["REQ",5]"#.into(), "invalid type: integer `5`, expected a string"),
            (r#"["REQ","s",{"ids":}]"#.into(), "not valid JSON: expected value, at character 19"),
            ("hello".into(), "not valid JSON: expected value, at character 1"),
        ] {
            let reason = match ClientMessage::parse(&text).unwrap_err() {
                Malformed::Event(_, reason) | Malformed::Subscription(_, reason) => reason,
                Malformed::Count(_, reason) | Malformed::Negentropy(_, reason) => reason,
                Malformed::Unknown(reason) => reason,
            };
            assert_eq!(reason.text, says, "{text}");
        }
    }
}

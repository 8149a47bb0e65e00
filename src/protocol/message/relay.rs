//! What relays say.

use std::{fmt, fmt::Write as _};

use super::super::{EventId, Reason};

/// A message of a relay, but for `EVENT`, which is spliced from the stored text without a value in
/// between. `Display` writes the JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayMessage<'a> {
    /// `Ok(None)`: accepted; `Ok(Some(reason))`: accepted, with a remark; `Err`: refused.
    Ok {
        id: &'a str,
        result: Result<Option<Reason>, Reason>,
    },
    Eose {
        subscription: &'a str,
        hint: Option<Hint>,
    },
    Closed {
        subscription: &'a str,
        reason: &'a Reason,
    },
    /// NIP-77; the message in hexadecimal digits.
    NegMsg {
        subscription: &'a str,
        message: &'a str,
    },
    /// NIP-77. `most`: how many events a reconciliation may have, where it had more.
    NegErr {
        subscription: &'a str,
        reason: &'a Reason,
        most: Option<usize>,
    },
    Notice(&'a str),
    Auth {
        challenge: &'a str,
    },
    Count {
        subscription: &'a str,
        count: u64,
        approximate: bool,
        hll: Option<String>,
    },
}

/// Whether the stored events that were sent are all there are (NIP-67).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    Finish,
    More,
}

impl Hint {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finish => "finish",
            Self::More => "more",
        }
    }
}

/// Writes a string as JSON, quotes included.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Display for RelayMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok { id, result } => {
                let text = match result {
                    Ok(None) => String::new(),
                    Ok(Some(reason)) | Err(reason) => reason.to_string(),
                };
                write!(f, r#"["OK",{},{},{}]"#, Quoted(id), result.is_ok(), Quoted(&text))
            }
            Self::Eose { subscription, hint: None } => write!(f, r#"["EOSE",{}]"#, Quoted(subscription)),
            Self::Eose { subscription, hint: Some(hint) } => {
                write!(f, r#"["EOSE",{},["{}"]]"#, Quoted(subscription), hint.as_str())
            }
            Self::Closed { subscription, reason } => {
                write!(f, r#"["CLOSED",{},{}]"#, Quoted(subscription), Quoted(&reason.to_string()))
            }
            Self::NegMsg { subscription, message } => {
                write!(f, r#"["NEG-MSG",{},"{message}"]"#, Quoted(subscription))
            }
            Self::NegErr { subscription, reason, most } => {
                write!(f, r#"["NEG-ERR",{},{}"#, Quoted(subscription), Quoted(&reason.to_string()))?;
                if let Some(most) = most {
                    write!(f, ",{most}")?;
                }
                f.write_str("]")
            }
            Self::Notice(text) => write!(f, r#"["NOTICE",{}]"#, Quoted(text)),
            Self::Auth { challenge } => write!(f, r#"["AUTH",{}]"#, Quoted(challenge)),
            Self::Count { subscription, count, approximate, hll } => {
                write!(f, r#"["COUNT",{},{{"count":{count}"#, Quoted(subscription))?;
                if *approximate {
                    f.write_str(r#","approximate":true"#)?;
                }
                if let Some(hll) = hll {
                    write!(f, r#","hll":"{hll}""#)?;
                }
                f.write_str("}]")
            }
        }
    }
}

/// `["OK","<id>",…]` for an id that is known to be well-formed.
pub fn ok(id: &EventId, result: Result<Option<Reason>, Reason>) -> String {
    let mut text = String::with_capacity(96);
    // Writing to a string has no way to fail.
    let _ = match result {
        Ok(None) => write!(text, r#"["OK","{id}",true,""]"#),
        other => write!(text, "{}", RelayMessage::Ok { id: &id.to_hex(), result: other }),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_valid_json() {
        let reason = Reason::invalid("a \"quote\"\n");
        for message in [
            RelayMessage::Ok { id: "x\"", result: Err(reason.clone()) },
            RelayMessage::Eose { subscription: "\\", hint: Some(Hint::Finish) },
            RelayMessage::Closed { subscription: "s", reason: &reason },
            RelayMessage::NegMsg { subscription: "\"", message: "61" },
            RelayMessage::NegErr { subscription: "\"", reason: &reason, most: Some(7) },
            RelayMessage::Notice("\u{1}"),
            RelayMessage::Count { subscription: "s", count: 3, approximate: true, hll: Some("00".into()) },
        ] {
            let value: serde_json::Value = serde_json::from_str(&message.to_string()).unwrap();
            assert!(value.is_array());
        }
        assert_eq!(ok(&EventId([0xab; 32]), Ok(None)), format!(r#"["OK","{}",true,""]"#, "ab".repeat(32)));
    }
}

//! Reads what a relay says by scanning for the few strings that count, not by parsing JSON: a
//! delivery costs the generator well under a microsecond. Knows nothing of connections.

use crate::protocol::EventId;

/// The first 16 of an event id's hexadecimal digits, as they stand on the wire.
pub type IdKey = u128;

/// One message of a relay.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    Event { subscription: &'a [u8], id: IdKey },
    Ok { id: IdKey, accepted: bool, reason: &'a [u8] },
    EndOfStored { subscription: &'a [u8] },
    Closed { subscription: &'a [u8], reason: &'a [u8] },
    Notice { text: &'a [u8] },
    Other,
}

/// The key of an id.
pub fn key_of(id: &EventId) -> IdKey {
    key(id.to_hex().as_bytes()).unwrap_or_default()
}

/// Reads one message. What is not understood is [`Said::Other`].
pub fn read(text: &[u8]) -> Said<'_> {
    let mut rest = text;
    parse(&mut rest).unwrap_or(Said::Other)
}

fn parse<'a>(rest: &mut &'a [u8]) -> Option<Said<'a>> {
    Some(match string(rest)? {
        b"EVENT" => Said::Event { subscription: string(rest)?, id: event_id(rest)? },
        b"OK" => {
            let id = key(string(rest)?)?;
            let accepted = after_separators(rest).starts_with(b"true");
            Said::Ok { id, accepted, reason: skip_to_string(rest).unwrap_or_default() }
        }
        b"EOSE" => Said::EndOfStored { subscription: string(rest)? },
        b"CLOSED" => Said::Closed { subscription: string(rest)?, reason: string(rest).unwrap_or_default() },
        b"NOTICE" => Said::Notice { text: string(rest)? },
        _ => return None,
    })
}

/// The id of the event object that follows. A quoted `id` before a colon can not stand inside a
/// string, where quotes are escaped.
fn event_id(mut rest: &[u8]) -> Option<IdKey> {
    loop {
        let at = rest.windows(4).position(|four| four == br#""id""#)?;
        rest = &rest[at + 4..];
        let value = rest.trim_ascii_start();
        if let Some(value) = value.strip_prefix(b":") {
            return key(value.trim_ascii_start().strip_prefix(b"\"")?);
        }
    }
}

fn key(hex: &[u8]) -> Option<IdKey> {
    hex.first_chunk().map(|digits| IdKey::from_ne_bytes(*digits))
}

fn after_separators(rest: &[u8]) -> &[u8] {
    let start = rest.iter().position(|byte| !b" \t\r\n[,".contains(byte)).unwrap_or(rest.len());
    &rest[start..]
}

/// The string that comes next, without its quotes, escapes as they are.
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let text = after_separators(rest).strip_prefix(b"\"")?;
    let mut end = 0;
    while *text.get(end)? != b'"' {
        end += if text[end] == b'\\' { 2 } else { 1 };
    }
    *rest = &text[end + 1..];
    Some(&text[..end])
}

fn skip_to_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let start = rest.iter().position(|&byte| byte == b'"')?;
    *rest = &rest[start..];
    string(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn reads_each_message_however_it_is_padded() {
        let id = key(ID.as_bytes()).unwrap();
        assert_eq!(key_of(&EventId::from_hex(ID).unwrap()), id);
        for text in [
            format!(r#"["EVENT","s",{{"id":"{ID}","content":"x"}}]"#),
            format!(
                r#"[ "EVENT" , "s", {{ "content": "\"id\":\"f\"", "tags":[["id","id"]], "id" : "{ID}" }} ]"#
            ),
        ] {
            assert_eq!(read(text.as_bytes()), Said::Event { subscription: b"s", id }, "{text}");
        }
        let ok = format!(r#"["OK","{ID}",true,""]"#);
        assert_eq!(read(ok.as_bytes()), Said::Ok { id, accepted: true, reason: b"" });
        let ok = format!(r#"["OK", "{ID}", false, "invalid: \"x\""]"#);
        let reason = br#"invalid: \"x\""#;
        assert_eq!(read(ok.as_bytes()), Said::Ok { id, accepted: false, reason });
        let eose = br#"["EOSE","s",["finish"]]"#;
        assert_eq!(read(eose), Said::EndOfStored { subscription: b"s" });
        let closed = br#"["CLOSED","s","error: x"]"#;
        assert_eq!(read(closed), Said::Closed { subscription: b"s", reason: b"error: x" });
        assert_eq!(read(br#"["NOTICE","hello"]"#), Said::Notice { text: b"hello" });
    }

    #[test]
    fn survives_nonsense() {
        for text in [
            "",
            "[",
            "[\"EVENT\"",
            "[\"EVENT\",\"s\",{\"id\":\"12\"}]",
            "{}",
            "[\"OK\",\"\\",
            "[\"AUTH\",\"x\"]",
        ] {
            assert_eq!(read(text.as_bytes()), Said::Other, "{text}");
        }
    }
}

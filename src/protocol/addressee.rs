//! Which event or subscription a client's message names that can not be read: it is no JSON, or of no shape that is
//! known, or too long.
//!
//! Looks at its bytes as they pass, and keeps nothing but the verb and the id. So an answer can name what the
//! client waits for, whatever is wrong with the rest.

use super::Reason;

/// Longest id echoed in a refusal, in characters.
pub const MAX_ECHO: usize = 64;
/// Bytes that a string of so many characters may take, each an escaped pair of surrogates.
const MAX_STRING_BYTES: usize = 12 * MAX_ECHO;

/// A message that can not be acted upon, and to what the refusal is to be addressed.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Answer `OK false` to the event with this id, as the client wrote it.
    Event(String, Reason),
    /// Answer `CLOSED` to this subscription id, as the client wrote it.
    Subscription(String, Reason),
    /// Answer `CLOSED` to the COUNT of this id, as the client wrote it.
    Count(String, Reason),
    /// Answer `NEG-ERR` to this id, as the client wrote it.
    Negentropy(String, Reason),
    /// Nothing in it can be named: answer `NOTICE`.
    Unknown(Reason),
}

/// What was found of the message so far.
#[derive(Debug, Default)]
pub struct Addressee {
    verb: Option<String>,
    /// The id of the subscription, or of the event.
    id: Option<String>,
    /// Arrays and objects that are open.
    depth: usize,
    /// Elements of the message that are over.
    elements: usize,
    /// The second element is an object: an event.
    in_event: bool,
    /// The name of the field of the event that comes next; `None` where a name is to come.
    field: Option<String>,
    string: Option<StringSoFar>,
    /// The message is over, or can not be one.
    done: bool,
}

/// A string that has begun.
#[derive(Debug)]
struct StringSoFar {
    /// What it is for, and its text with its escapes, as long as it may be an id.
    wanted: Option<(Wanted, Vec<u8>)>,
    escaped: bool,
}

#[derive(Debug, Clone, Copy)]
enum Wanted {
    Verb,
    Id,
    FieldName,
}

impl Addressee {
    /// Looks at what comes next of the message.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            if self.done {
                return;
            }
            bytes = match &mut self.string {
                Some(string) => match string.see(bytes) {
                    Some(rest) => {
                        self.end_string();
                        rest
                    }
                    None => return,
                },
                None => {
                    self.step(*byte);
                    rest
                }
            };
        }
    }

    /// To whom the refusal is addressed: the event or subscription that the message names, if it names one.
    pub fn answer(self, reason: Reason) -> Malformed {
        match (self.verb.as_deref(), self.id) {
            (Some("EVENT" | "AUTH"), Some(id)) => Malformed::Event(id, reason),
            (Some("REQ"), Some(id)) => Malformed::Subscription(id, reason),
            (Some("COUNT"), Some(id)) => Malformed::Count(id, reason),
            (Some("NEG-OPEN" | "NEG-MSG"), Some(id)) => Malformed::Negentropy(id, reason),
            _ => Malformed::Unknown(reason),
        }
    }

    /// A byte outside of strings.
    fn step(&mut self, byte: u8) {
        match byte {
            b'"' => {
                let wanted = self.wanted().map(|wanted| (wanted, Vec::new()));
                self.string = Some(StringSoFar { wanted, escaped: false });
            }
            b'[' | b'{' => {
                self.in_event |= byte == b'{' && self.depth == 1 && self.elements == 1;
                self.depth += 1;
            }
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                self.done = self.depth == 0;
            }
            b',' if self.depth == 1 => {
                self.elements += 1;
                self.in_event = false;
            }
            b',' if self.depth == 2 => self.field = None,
            b' ' | b'\t' | b'\n' | b'\r' => {}
            // Nothing but an array is a message.
            _ => self.done = self.depth == 0,
        }
        self.done |= self.elements > 1;
    }

    /// What a string that begins here is for.
    fn wanted(&self) -> Option<Wanted> {
        let of_event = matches!(self.verb.as_deref(), Some("EVENT" | "AUTH"));
        match (self.depth, self.elements, &self.field) {
            (1, 0, _) => Some(Wanted::Verb),
            (1, 1, _) if !of_event => Some(Wanted::Id),
            (2, 1, None) if of_event && self.in_event => Some(Wanted::FieldName),
            (2, 1, Some(field)) if of_event && self.in_event && field == "id" => Some(Wanted::Id),
            _ => None,
        }
    }

    fn end_string(&mut self) {
        let Some(StringSoFar { wanted, .. }) = self.string.take() else { return };
        let Some((wanted, text)) = wanted else { return };
        // Half a surrogate pair is text to nobody.
        let text: Option<String> = serde_json::from_slice(&[b"\"", &text[..], b"\""].concat()).ok();
        match wanted {
            Wanted::Verb => self.verb = text,
            Wanted::FieldName => self.field = Some(text.unwrap_or_default()),
            // The first one, if there are several.
            Wanted::Id => self.id = self.id.take().or(text.filter(|id| is_echoed(id))),
        }
    }
}

impl StringSoFar {
    /// The bytes behind its end, if that is among these.
    fn see<'b>(&mut self, bytes: &'b [u8]) -> Option<&'b [u8]> {
        for (at, &byte) in bytes.iter().enumerate() {
            if std::mem::take(&mut self.escaped) {
                continue;
            }
            match byte {
                b'\\' => self.escaped = true,
                b'"' => {
                    self.keep(&bytes[..at]);
                    return Some(&bytes[at + 1..]);
                }
                _ => {}
            }
        }
        self.keep(bytes);
        None
    }

    fn keep(&mut self, bytes: &[u8]) {
        match &mut self.wanted {
            Some((_, text)) if text.len() + bytes.len() <= MAX_STRING_BYTES => text.extend_from_slice(bytes),
            // Too long to be an id, or the name of a field that matters.
            Some((_, text)) => text.splice(.., *b"\0").for_each(drop),
            None => {}
        }
    }
}

/// Whether an answer may carry this id: it is not too long.
pub fn is_echoed(id: &str) -> bool {
    id.chars().count() <= MAX_ECHO
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
        let mut addressee = Addressee::default();
        pieces.into_iter().for_each(|piece| addressee.see(piece.as_ref()));
        match addressee.answer(Reason::invalid("")) {
            Malformed::Event(id, _) => format!("event {id}"),
            Malformed::Subscription(id, _) => format!("sub {id}"),
            Malformed::Count(id, _) => format!("count {id}"),
            Malformed::Negentropy(id, _) => format!("neg {id}"),
            Malformed::Unknown(_) => "nobody".to_owned(),
        }
    }

    #[test]
    fn finds_who_is_named_however_the_text_is_cut() {
        let long = format!(r#"["REQ","{}",{{}}]"#, "s".repeat(65));
        let surrogates = format!(r#"["REQ","{}",{{}}]"#, r"\ud83e\udeb6".repeat(64));
        let deep =
            format!(r#"["EVENT",{{"tags":{}"x"{},"id":"abc"}}]"#, "[".repeat(9_000), "]".repeat(9_000));
        for (text, expected) in [
            (r#"["EVENT",{"id":"abc","content":"\ud83d"}]"#, "event abc"),
            (r#" [ "EVENT" , { "content" : "\"id\":\"no\"" , "id" : "abc" } ]"#, "event abc"),
            (
                r#"["EVENT",{"tags":[["id","no"],{"id":"no"}],"x":{"id":"no"},"created_at":1e999,"id":"abc""#,
                "event abc",
            ),
            (r#"["EVENT",{"id":7,"\u0069d":"abc"}]"#, "event abc"),
            (r#"["EVENT",{"id":"\ud83d","id":"abc"}]"#, "event abc"),
            (r#"["EVENT",{"kind":"id","x":"no"}]"#, "nobody"),
            (r#"["EVENT","no",{"id":"no"}]"#, "nobody"),
            (r#"["EVENT",["id","no"]]"#, "nobody"),
            (r#"["AUTH",{"id":"abc""#, "event abc"),
            (&deep, "event abc"),
            (r#"["REQ","s",{"since":1e999}]"#, "sub s"),
            (r#"["REQ","a\"b\\","#, r#"sub a"b\"#),
            (r#"["REQ","","#, "sub "),
            (r#"["REQ",{"id":"no"}]"#, "nobody"),
            (r#"["REQ",1,"no"]"#, "nobody"),
            (r#"["REQ","\ud83d",{}]"#, "nobody"),
            (&long, "nobody"),
            (&surrogates, &format!("sub {}", "🪶".repeat(64))),
            (r#"["COUNT","c",{"#, "count c"),
            (r#"["NEG-OPEN","n",{"#, "neg n"),
            (r#"["CLOSE","s","#, "nobody"),
            (r#"{"REQ":"s"}"#, "nobody"),
            (r#"[[]]["REQ","s"]"#, "nobody"),
            (r#"x["REQ","s"]"#, "nobody"),
            ("\u{feff}[\"REQ\",\"s\"]", "nobody"),
            ("[\"REQ\",\"a\nb\"]", "nobody"),
            ("", "nobody"),
        ] {
            let begin: String = text.chars().take(60).collect();
            for size in [1, 2, 3, 7, usize::MAX] {
                assert_eq!(found(text.as_bytes().chunks(size)), expected, "{begin} by {size}");
            }
        }
        assert_eq!(found([&b"[\"REQ\",\"\xff\"]"[..]]), "nobody");
    }
}

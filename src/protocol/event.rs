//! Events: as they arrive ([`ParsedEvent`]) and once their id and signature are known to be right
//! ([`Event`]).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeSeed},
};

use super::{
    EventId, PublicKey, Tags, Timestamp,
    fields::Number,
    hex32::decode_lower_hex,
    kind::{self, Class},
};

/// An event as it came from the network: well-formed by shape, its id and signature not yet checked.
///
/// Reading refuses missing and duplicate fields; unknown fields are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParsedEvent<'a> {
    pub id: EventId,
    pub pubkey: PublicKey,
    pub created_at: Timestamp,
    pub kind: u16,
    pub tags: Tags,
    pub content: Cow<'a, str>,
    pub sig: Signature,
}

/// A BIP-340 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// An event whose id and signature are right. Immutable, shared between sessions.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    id: EventId,
    pubkey: PublicKey,
    created_at: Timestamp,
    kind: u16,
    tags: Tags,
    /// NIP-01's seven fields in canonical order without padding: what is stored and sent.
    json: Box<str>,
}

/// The serialisations of an event, made in one pass.
pub struct Serialised {
    /// `[0,pubkey,created_at,kind,tags,content]`: what the id is the SHA-256 of (NIP-01).
    pub hashed: Vec<u8>,
    /// Where `tags` stands in `hashed`; the content follows until the closing bracket.
    tags_start: usize,
    content_start: usize,
}

impl ParsedEvent<'_> {
    /// Serialises the fields that the id covers.
    pub fn serialise(&self) -> Serialised {
        let mut hashed = Vec::with_capacity(128 + self.tags.json_len_hint() + self.content.len() * 17 / 16);
        let mut number = [0; 20];
        hashed.extend_from_slice(b"[0,\"");
        push_hex(&mut hashed, &self.pubkey.0);
        hashed.extend_from_slice(b"\",");
        hashed.extend_from_slice(decimal(&mut number, self.created_at));
        hashed.push(b',');
        hashed.extend_from_slice(decimal(&mut number, self.kind.into()));
        hashed.push(b',');
        let tags_start = hashed.len();
        hashed.push(b'[');
        for (index, tag) in self.tags.iter().enumerate() {
            hashed.extend_from_slice(if index == 0 { b"[" } else { b",[" });
            for (index, string) in tag.iter().enumerate() {
                if index > 0 {
                    hashed.push(b',');
                }
                push_json_string(&mut hashed, string);
            }
            hashed.push(b']');
        }
        hashed.extend_from_slice(b"],");
        let content_start = hashed.len();
        push_json_string(&mut hashed, &self.content);
        hashed.push(b']');
        Serialised { hashed, tags_start, content_start }
    }

    /// Takes the event as valid without looking, for events that a verifier has passed before
    /// (read back from a store of ours) or that were signed right here.
    pub fn trust(self) -> Event {
        let serialised = self.serialise();
        self.into_event(&serialised)
    }

    /// Bytes of the JSON form but for numbers, tags and content.
    const JSON_AROUND: usize =
        r#"{"id":"","pubkey":"","created_at":,"kind":,"tags":,"content":,"sig":""}"#.len() + 2 * 64 + 128;

    pub(super) fn into_event(self, serialised: &Serialised) -> Event {
        let tags = &serialised.hashed[serialised.tags_start..serialised.content_start - 1];
        let content = &serialised.hashed[serialised.content_start..serialised.hashed.len() - 1];
        let (mut time, mut kind) = ([0; 20], [0; 20]);
        let (time, kind) = (decimal(&mut time, self.created_at), decimal(&mut kind, self.kind.into()));
        // Exactly what it takes, since it is kept.
        let mut json =
            Vec::with_capacity(Self::JSON_AROUND + time.len() + kind.len() + tags.len() + content.len());
        json.extend_from_slice(b"{\"id\":\"");
        push_hex(&mut json, &self.id.0);
        json.extend_from_slice(b"\",\"pubkey\":\"");
        push_hex(&mut json, &self.pubkey.0);
        json.extend_from_slice(b"\",\"created_at\":");
        json.extend_from_slice(time);
        json.extend_from_slice(b",\"kind\":");
        json.extend_from_slice(kind);
        json.extend_from_slice(b",\"tags\":");
        json.extend_from_slice(tags);
        json.extend_from_slice(b",\"content\":");
        json.extend_from_slice(content);
        json.extend_from_slice(b",\"sig\":\"");
        push_hex(&mut json, &self.sig.0);
        json.extend_from_slice(b"\"}");
        // The parts are ASCII or were `str` before.
        let json = String::from_utf8(json).unwrap_or_default().into_boxed_str();
        Event {
            id: self.id,
            pubkey: self.pubkey,
            created_at: self.created_at,
            kind: self.kind,
            tags: self.tags,
            json,
        }
    }
}

impl Event {
    pub fn id(&self) -> EventId {
        self.id
    }

    pub fn pubkey(&self) -> PublicKey {
        self.pubkey
    }

    pub(super) fn id_ref(&self) -> &EventId {
        &self.id
    }

    pub(super) fn pubkey_ref(&self) -> &PublicKey {
        &self.pubkey
    }

    /// Seconds since the epoch, by the author's word.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    pub fn kind(&self) -> u16 {
        self.kind
    }

    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    /// The seven fields of NIP-01, in canonical order, without padding.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The text, which is kept in the JSON alone.
    pub fn content(&self) -> Cow<'_, str> {
        #[derive(Deserialize)]
        struct Content<'a> {
            #[serde(borrow)]
            content: Cow<'a, str>,
        }
        serde_json::from_str(&self.json).map_or(Cow::Borrowed(""), |Content { content }| content)
    }

    pub fn class(&self) -> Class {
        kind::class(self.kind)
    }

    /// The `d` tag of an addressable event (empty where it has none); `""` for a replaceable one;
    /// `None` where the kind has no address.
    pub fn address_identifier(&self) -> Option<&str> {
        match self.class() {
            Class::Replaceable => Some(""),
            Class::Addressable => Some(self.tags.first_value("d").unwrap_or_default()),
            Class::Regular | Class::Ephemeral => None,
        }
    }

    /// When the event expires (NIP-40). A tag that is no number is ignored.
    pub fn expiration(&self) -> Option<Timestamp> {
        expiration(&self.tags)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}

/// The first `expiration` tag that is a number (NIP-40).
pub fn expiration(tags: &Tags) -> Option<Timestamp> {
    tags.values("expiration").find_map(|value| value.parse().ok())
}

/// An address as `a` tags write it: `<kind>:<pubkey>:<d>` (NIP-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    pub kind: u16,
    pub pubkey: PublicKey,
    pub identifier: &'a str,
}

impl<'a> Address<'a> {
    /// Reads an `a` tag's value; `None` where it is malformed or its kind has no address.
    pub fn parse(value: &'a str) -> Option<Self> {
        let mut parts = value.splitn(3, ':');
        let kind: u16 = parts.next()?.parse().ok()?;
        let pubkey = PublicKey::from_hex(parts.next()?)?;
        let identifier = parts.next()?;
        match kind::class(kind) {
            Class::Replaceable => Some(Self { kind, pubkey, identifier: "" }),
            Class::Addressable => Some(Self { kind, pubkey, identifier }),
            Class::Regular | Class::Ephemeral => None,
        }
    }
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(
        bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
    );
}

/// Escapes as NIP-01 lists; the control characters it leaves open become `\u00xx`, as JSON demands.
fn push_json_string(out: &mut Vec<u8>, string: &str) {
    // Writing a string to a vector has no way to fail.
    let _ = serde_json::to_writer(out, string);
}

fn decimal(buffer: &mut [u8; 20], mut number: u64) -> &[u8] {
    let mut start = buffer.len();
    loop {
        start -= 1;
        buffer[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[start..];
        }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Signature;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a signature of 128 lowercase hexadecimal digits")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Signature, E> {
                decode_lower_hex(text)
                    .map(Signature)
                    .ok_or_else(|| E::custom("a signature must be 128 lowercase hexadecimal digits"))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ParsedEvent<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The derive refuses missing and duplicate fields for us.
        #[derive(Deserialize)]
        #[serde(rename = "event", expecting = "an event, an object of NIP-01")]
        struct Fields<'a> {
            id: EventId,
            pubkey: PublicKey,
            #[serde(deserialize_with = "created_at")]
            created_at: Timestamp,
            #[serde(deserialize_with = "kind")]
            kind: u16,
            tags: Tags,
            #[serde(borrow)]
            content: Cow<'a, str>,
            sig: Signature,
        }
        fn created_at<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
            Number::of("created_at").deserialize(deserializer)
        }
        fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
            Number::of("kind").deserialize(deserializer)
        }
        let Fields { id, pubkey, created_at, kind, tags, content, sig } = Fields::deserialize(deserializer)?;
        Ok(Self { id, pubkey, created_at, kind, tags, content, sig })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn sample(extra: &str) -> String {
        format!(
            r#"{{"sig":"{ZEROS}{ZEROS}", "id":"{ZEROS}","pubkey":"{ZEROS}","kind":1,"created_at":7,"tags":[["t","x"]],"content":"a\u0041\/\n"{extra}}}"#
        )
    }

    #[test]
    fn becomes_the_seven_fields_in_canonical_order() {
        let text = sample(r#","unknown":{"deep":[1]}"#);
        let event = serde_json::from_str::<ParsedEvent>(&text).unwrap().trust();
        let expected = format!(
            r#"{{"id":"{ZEROS}","pubkey":"{ZEROS}","created_at":7,"kind":1,"tags":[["t","x"]],"content":"aA/\n","sig":"{ZEROS}{ZEROS}"}}"#
        );
        assert_eq!(event.json(), expected);
        assert_eq!(ParsedEvent::JSON_AROUND + 2 + r#"[["t","x"]]"aA/\n""#.len(), expected.len());
        let again = serde_json::from_str::<ParsedEvent>(event.json()).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), expected);
    }

    #[test]
    fn refuses_duplicate_missing_and_misshapen_fields() {
        for bad in [
            sample(r#","kind":2"#),
            sample("").replace(r#""kind":1,"#, ""),
            sample("").replace(r#""kind":1"#, r#""kind":65536"#),
            sample("").replace(r#""kind":1"#, r#""kind":1.0"#),
            sample("").replace(r#""kind":1"#, r#""kind":-1"#),
            sample("").replace(r#""created_at":7"#, r#""created_at":1e99"#),
            sample("").replace(r#"["t","x"]"#, r#"["t",null]"#),
            sample("").replace(r"\u0041", r"\ud800"),
            sample("").replacen("00", "0G", 1),
            sample("").replacen("00", "A0", 1),
        ] {
            assert!(serde_json::from_str::<ParsedEvent>(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reads_addresses() {
        let parsed = Address::parse(&format!("30023:{ZEROS}:a:b")).map(|a| (a.kind, a.identifier.to_owned()));
        assert_eq!(parsed, Some((30_023, "a:b".to_owned())));
        assert_eq!(Address::parse(&format!("0:{ZEROS}:x")).map(|a| a.identifier.len()), Some(0));
        assert_eq!(Address::parse(&format!("1:{ZEROS}:")), None);
        assert_eq!(Address::parse("30023:xyz:"), None);
    }
}

//! The text forms that people copy and paste: `npub1…`, `nsec1…`, `note1…` (NIP-19).
//!
//! For input and display on the command line only; nothing of this is ever sent to a relay.

use bech32::{Bech32, Hrp, primitives::decode::CheckedHrpstring};

use super::{EventId, PublicKey, hex32::decode_lower_hex};

/// The type byte of the value that gives a `nprofile` or `nevent` its meaning.
const TLV_SPECIAL: u8 = 0;

/// Why a text is not the key or id that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Nip19Error {
    #[error("it has a typing error: its checksum does not fit")]
    Checksum,
    #[error("it does not hold 32 bytes")]
    Length,
    #[error("it is of the kind {found:?}; wanted is {wanted}")]
    Kind { found: String, wanted: &'static str },
    #[error("it is neither 64 hexadecimal digits nor {0}")]
    Unknown(&'static str),
}

/// `nsec1…` of a secret key.
pub fn nsec(secret: &[u8; 32]) -> String {
    encode("nsec", secret)
}

/// `npub1…` of a public key.
pub fn npub(key: &PublicKey) -> String {
    encode("npub", &key.0)
}

/// `note1…` of an event id.
pub fn note(id: &EventId) -> String {
    encode("note", &id.0)
}

/// Reads a secret key: `nsec1…` or 64 hexadecimal digits.
pub fn read_secret(text: &str) -> Result<[u8; 32], Nip19Error> {
    read(text, &["nsec"], "nsec1…")
}

/// Reads a public key: `npub1…`, `nprofile1…` or 64 hexadecimal digits.
pub fn read_public_key(text: &str) -> Result<PublicKey, Nip19Error> {
    read(text, &["npub", "nprofile"], "npub1…").map(PublicKey)
}

/// Reads an event id: `note1…`, `nevent1…` or 64 hexadecimal digits.
pub fn read_event_id(text: &str) -> Result<EventId, Nip19Error> {
    read(text, &["note", "nevent"], "note1…").map(EventId)
}

/// `ncryptsec1…` of what NIP-49 makes of a secret key: 91 bytes.
pub fn ncryptsec(bytes: &[u8]) -> String {
    encode("ncryptsec", bytes)
}

fn encode(prefix: &'static str, bytes: &[u8]) -> String {
    // The prefixes are constants above and the bytes are far below the length limit: can not fail.
    bech32::encode::<Bech32>(Hrp::parse_unchecked(prefix), bytes).unwrap_or_default()
}

fn read(text: &str, prefixes: &[&str], wanted: &'static str) -> Result<[u8; 32], Nip19Error> {
    let text = text.trim();
    let text = text.strip_prefix("nostr:").unwrap_or(text);
    if let Some(bytes) = decode_lower_hex(&text.to_ascii_lowercase()) {
        return Ok(bytes);
    }
    let Some((found, _)) = text.split_once('1').filter(|(hrp, _)| known(hrp)) else {
        return Err(Nip19Error::Unknown(wanted));
    };
    let found = found.to_ascii_lowercase();
    if !prefixes.contains(&&*found) {
        return Err(Nip19Error::Kind { found, wanted });
    }
    let decoded = CheckedHrpstring::new::<Bech32>(text).map_err(|_| Nip19Error::Checksum)?;
    let bytes: Vec<u8> = decoded.byte_iter().collect();
    let value = if found.starts_with("nprofile") || found.starts_with("nevent") {
        special(&bytes).ok_or(Nip19Error::Length)?
    } else {
        &bytes
    };
    value.try_into().map_err(|_| Nip19Error::Length)
}

fn known(prefix: &str) -> bool {
    ["nsec", "npub", "note", "nprofile", "nevent", "naddr", "nrelay"]
        .iter()
        .any(|known| prefix.eq_ignore_ascii_case(known))
}

/// The special value of a type-length-value list.
fn special(mut bytes: &[u8]) -> Option<&[u8]> {
    while let [kind, length, rest @ ..] = bytes {
        let (value, after) = rest.split_at_checked(usize::from(*length))?;
        if *kind == TLV_SPECIAL {
            return Some(value);
        }
        bytes = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All from NIP-19.
    const HEX: &str = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
    const NPUB: &str = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg";
    const SECRET: &str = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";
    const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
    const PROFILE: &str = "nprofile1qqsrhuxx8l9ex335q7he0f09aej04zpazpl0ne2cgukyawd24mayt8gpp4mhxue69uhhytnc9e3k7mgpz4mhxue69uhkg6nzv9ejuumpv34kytnrdaksjlyr9p";

    #[test]
    fn the_examples_of_nip_19() {
        assert_eq!(read_public_key(NPUB).unwrap().to_hex(), HEX);
        assert_eq!(npub(&PublicKey::from_hex(HEX).unwrap()), NPUB);
        assert_eq!(hex::encode(read_secret(NSEC).unwrap()), SECRET);
        assert_eq!(nsec(&read_secret(SECRET).unwrap()), NSEC);
        assert_eq!(
            read_public_key(PROFILE).unwrap().to_hex(),
            "3bf0c63fcb93463407af97a5e5ee64fa883d107ef9e558472c4eb9aaaefa459d"
        );
    }

    #[test]
    fn reads_what_people_paste() {
        for text in [format!(" {NPUB}\n"), format!("nostr:{NPUB}"), HEX.to_uppercase(), NPUB.to_uppercase()] {
            assert_eq!(read_public_key(&text).unwrap().to_hex(), HEX, "{text}");
        }
        let id = EventId([7; 32]);
        assert_eq!(read_event_id(&note(&id)), Ok(id));
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = |text: &str| read_public_key(text).unwrap_err();
        assert_eq!(wrong(NSEC), Nip19Error::Kind { found: "nsec".into(), wanted: "npub1…" });
        assert_eq!(wrong(&NPUB.replace("dma8", "dmb8")), Nip19Error::Checksum);
        assert_eq!(wrong("npub1"), Nip19Error::Checksum);
        assert_eq!(wrong("hello"), Nip19Error::Unknown("npub1…"));
        assert_eq!(wrong(&HEX[1..]), Nip19Error::Unknown("npub1…"));
        let short = bech32::encode::<Bech32>(Hrp::parse("npub").unwrap(), &[1; 20]).unwrap();
        assert_eq!(wrong(&short), Nip19Error::Length);
    }
}

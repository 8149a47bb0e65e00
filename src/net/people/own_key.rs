//! What somebody signs with a key of their own to sign in (NIP-98).

use std::num::NonZeroUsize;

use actix_web::{HttpRequest, http::StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest, Sha256};

use super::{
    People,
    guard::{Asker, page_url},
};
use crate::{
    clock,
    net::Problem,
    protocol::{Event, ParsedEvent, PublicKey, kind, verify::Verifier},
};

/// Most bytes of the header.
const MAX_BYTES: usize = 8 * 1024;
/// Seconds by which its clock may be off.
const AROUND: u64 = 60;

/// Whose key it is, and what they have signed.
pub struct Shown {
    pub key: PublicKey,
    pub challenge: String,
}

/// What the header says, if it is of that kind.
pub fn header(request: &HttpRequest) -> Option<&str> {
    let (scheme, rest) = request.headers().get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("nostr").then_some(rest.trim())
}

/// The address that has to be signed: as the relay is called, whatever a request calls it.
///
/// # Errors
/// The relay does not know what it is called, and whoever asks may have been led here.
pub fn address(request: &HttpRequest, people: &People, path: &str) -> Result<String, Problem> {
    if let Some(url) = people.url.as_ref().and_then(page_url) {
        return Ok(format!("{}{path}", url.as_str().trim_end_matches('/')));
    }
    let host = request.headers().get("host").and_then(|host| host.to_str().ok());
    match host.filter(|_| Asker::of(request, people).is_ok_and(|asker| asker.is_loopback)) {
        Some(host) => Ok(format!("http://{host}{path}")),
        None => {
            let detail = "this relay does not know its own URL; its operator must set `url` (--url wss://…)";
            Err(Problem::new(StatusCode::FORBIDDEN, "no-url", "not here", detail))
        }
    }
}

/// Whoever has signed this very request.
///
/// # Errors
/// It was not signed, or something else was.
pub fn read(header: &str, request: &HttpRequest, people: &People, body: &[u8]) -> Result<Shown, Problem> {
    let event = event(header)?;
    check(&event, request.method().as_str(), &address(request, people, request.path())?, body, clock::now())
}

fn refused(why: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unproved", "not signed in", why)
}

fn event(header: &str) -> Result<Event, Problem> {
    let is_no_event =
        || refused("Authorization: Nostr is followed by an event in base64, at most 8 KiB of it");
    let bytes =
        Some(header).filter(|header| header.len() <= MAX_BYTES).and_then(|text| BASE64.decode(text).ok());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(is_no_event)?;
    let parsed: ParsedEvent<'_> = serde_json::from_str(&text).map_err(|_| is_no_event())?;
    Verifier::new(NonZeroUsize::MIN).verify(parsed).map_err(|why| refused(&why.to_string()))
}

fn check(event: &Event, method: &str, address: &str, body: &[u8], now: u64) -> Result<Shown, Problem> {
    let tag = |name: &str| event.tags().first_value(name);
    let digest = hex::encode(Sha256::digest(body));
    let why = if event.kind() != kind::HTTP_AUTH {
        "it is no event of kind 27235".to_owned()
    } else if event.created_at().abs_diff(now) > AROUND {
        "created_at is more than a minute from now".to_owned()
    } else if tag("u") != Some(address) {
        format!("the tag u is not {address}")
    } else if tag("method") != Some(method) {
        format!("the tag method is not {method}")
    } else if tag("payload").map_or(!body.is_empty(), |payload| payload != digest) {
        "the tag payload is not the SHA-256 of the body".to_owned()
    } else if let Some(challenge) = tag("challenge") {
        return Ok(Shown { key: event.pubkey(), challenge: challenge.to_owned() });
    } else {
        "there is no tag challenge: ask for one at /v1/auth/challenge".to_owned()
    };
    Err(refused(&why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Tags, sign::Keys};

    #[test]
    fn each_condition_counts() {
        const HERE: &str = "https://relay.example.com/v1/auth/sign-in";
        let keys = Keys::generate();
        let digest = hex::encode(Sha256::digest(b"body"));
        let sign = |kind, at, tags: &[[&str; 2]]| keys.sign(at, kind, Tags::from_iter(tags), "");
        let right = [["u", HERE], ["method", "POST"], ["challenge", "x"], ["payload", &digest]];
        let shown = check(&sign(27_235, 1_060, &right), "POST", HERE, b"body", 1_000).unwrap();
        assert_eq!((shown.key, &*shown.challenge), (keys.public_key(), "x"));
        assert!(check(&sign(27_235, 1_000, &right[..3]), "POST", HERE, b"", 1_000).is_ok());
        let other = |at: usize, value| {
            let mut tags = right;
            tags[at][1] = value;
            sign(27_235, 1_000, &tags)
        };
        for event in [
            sign(22_242, 1_000, &right),
            sign(27_235, 1_061, &right),
            sign(27_235, 939, &right),
            other(0, "https://relay.example.com/v1/auth/sign-in/"),
            other(0, "https://relay.example.com/v1/auth/sign-in?a=b"),
            other(0, "https://evil.example.com/v1/auth/sign-in"),
            other(1, "GET"),
            other(3, &digest[1..]),
            sign(27_235, 1_000, &right[..3]),
            sign(27_235, 1_000, &[right[0], right[1], right[3]]),
        ] {
            assert!(check(&event, "POST", HERE, b"body", 1_000).is_err(), "{event:?}");
        }
        assert!(check(&sign(27_235, 1_000, &right), "POST", HERE, b"", 1_000).is_err());
        let text = BASE64.encode(sign(27_235, 1_000, &right).json());
        assert_eq!(event(&text).unwrap().pubkey(), keys.public_key());
        let forged = sign(27_235, 1_000, &right).json().replace("27235", "27236");
        for text in ["", "x", &BASE64.encode("{}"), &BASE64.encode(forged), &text.repeat(9)] {
            assert!(event(text).is_err(), "{text}");
        }
    }
}

//! What may be written, judged without a hash or a signature.

use url::Url;

use super::Objection;
use crate::{
    config::Limits,
    protocol::{
        Audience, Event, EventId, ParsedEvent, PublicKey, Reason, Tags, Timestamp, event::expiration, kind,
    },
};

/// The rules of this relay for events.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    limits: &'a Limits,
    /// This relay's own URL, if it knows it.
    url: Option<&'a Url>,
}

/// The tag that makes an event protected (NIP-70).
const PROTECTED: &str = "-";
/// What the `relay` tag of a request to vanish says to all relays (NIP-62).
const ALL_RELAYS: &str = "ALL_RELAYS";

impl<'a> Policy<'a> {
    pub fn new(limits: &'a Limits, url: Option<&'a Url>) -> Self {
        Self { limits, url }
    }

    /// Asks everything that the fields alone can answer.
    ///
    /// # Errors
    /// The reason that the client is to read.
    pub fn check(&self, event: &ParsedEvent<'_>, keys: &[PublicKey], now: Timestamp) -> Result<(), Reason> {
        if event.tags.len() > self.limits.max_tags {
            return Err(Reason::invalid(format!("an event has at most {} tags", self.limits.max_tags)));
        }
        if event.kind == kind::AUTH {
            return Err(Reason::invalid("an event of kind 22242 is sent as AUTH and never published"));
        }
        if event.kind == kind::ACTIVITY || names_activity(&event.tags) && event.kind != kind::DELETION {
            return Err(Reason::blocked("what accounts do is told by this relay alone"));
        }
        if self.is_ahead(event, now) {
            return Err(Reason::invalid(format!(
                "created_at is more than {} seconds ahead",
                self.limits.max_ahead_seconds
            )));
        }
        if event.tags.iter().filter(|tag| tag.name() == "expiration").any(|tag| !is_time(tag.value())) {
            // Not understood, the event would be kept for ever, which its author did not want.
            return Err(Reason::invalid("expiration must be a whole number of seconds since 1970"));
        }
        if expiration(&event.tags).is_some_and(|at| at <= now) {
            return Err(Reason::invalid("the event has expired"));
        }
        self.check_pow(&event.id, &event.tags)?;
        check_protected(event, keys)?;
        check_repost(event)?;
        self.check_vanish(event)
    }

    /// Whether an event is one that this relay makes itself: that it is shown to those only whom it names, and goes by
    /// itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_own(&self, event: &Event, now: Timestamp) -> Result<(), Reason> {
        if event.kind() != kind::ACTIVITY {
            return Err(Reason::invalid("this relay makes activity only"));
        }
        if Audience::of(event.tags()).is_none() || !is_protected(event.tags()) {
            return Err(Reason::invalid("activity is for an audience, and is protected"));
        }
        let latest = now.saturating_add(self.limits.max_ahead_seconds);
        match event.expiration() {
            _ if event.created_at() > latest => Err(Reason::invalid("created_at is too far ahead")),
            Some(at) if at > now => Ok(()),
            Some(_) => Err(Reason::invalid("the event has expired")),
            None => Err(Reason::invalid("activity expires")),
        }
    }

    /// Which kind of rule an event breaks that [`Self::check`] refuses.
    pub fn objection(&self, event: &ParsedEvent<'_>, now: Timestamp) -> Objection {
        if self.is_ahead(event, now) {
            Objection::Ahead
        } else if expiration(&event.tags).is_some_and(|at| at <= now) {
            Objection::Expired
        } else {
            Objection::Policy
        }
    }

    fn is_ahead(&self, event: &ParsedEvent<'_>, now: Timestamp) -> bool {
        event.created_at > now.saturating_add(self.limits.max_ahead_seconds)
    }

    /// NIP-13. A difficulty that the author committed to counts, not one that luck brought.
    fn check_pow(&self, id: &EventId, tags: &Tags) -> Result<(), Reason> {
        let wanted = self.limits.min_pow_difficulty;
        if wanted == 0 {
            return Ok(());
        }
        let found = difficulty(id);
        if found < wanted {
            return Err(Reason::pow(format!("difficulty {found} is less than {wanted}")));
        }
        let committed: Option<u32> =
            tags.iter().find(|tag| tag.name() == "nonce").and_then(|tag| tag.get(2)?.parse().ok());
        match committed {
            Some(committed) if committed < wanted => {
                Err(Reason::pow(format!("the nonce tag commits to {committed}, which is less than {wanted}")))
            }
            _ => Ok(()),
        }
    }

    /// NIP-62: a request that does not name this relay would be a promise it does not keep.
    fn check_vanish(&self, event: &ParsedEvent<'_>) -> Result<(), Reason> {
        if event.kind != kind::VANISH {
            return Ok(());
        }
        let names_us = event.tags.values("relay").any(|relay| {
            relay == ALL_RELAYS
                || self.url.is_some_and(|own| Url::parse(relay).is_ok_and(|url| same_relay(own, &url)))
        });
        if names_us {
            return Ok(());
        }
        Err(Reason::invalid(match self.url {
            Some(url) => {
                format!("a request to vanish from here needs a relay tag with {url} or {ALL_RELAYS}")
            }
            None => format!("this relay knows no URL of its own; only {ALL_RELAYS} is understood"),
        }))
    }
}

fn is_time(value: Option<&str>) -> bool {
    value.is_some_and(|text| {
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<Timestamp>().is_ok()
    })
}

/// NIP-70: a protected event is published by its author alone.
fn check_protected(event: &ParsedEvent<'_>, keys: &[PublicKey]) -> Result<(), Reason> {
    if !is_protected(&event.tags) || keys.contains(&event.pubkey) {
        Ok(())
    } else if keys.is_empty() {
        Err(Reason::auth_required("this event may only be published by its author"))
    } else {
        Err(Reason::restricted("this event may only be published by its author"))
    }
}

/// NIP-70: a repost must not carry a protected event on.
fn check_repost(event: &ParsedEvent<'_>) -> Result<(), Reason> {
    if !matches!(event.kind, kind::REPOST | kind::GENERIC_REPOST) {
        return Ok(());
    }
    #[derive(serde::Deserialize)]
    struct Embedded {
        #[serde(default)]
        kind: Option<u16>,
        tags: Tags,
    }
    match serde_json::from_str::<Embedded>(&event.content) {
        Ok(Embedded { kind: Some(kind::ACTIVITY), .. }) => {
            Err(Reason::blocked("a repost must not embed what an account has done"))
        }
        Ok(embedded) if is_protected(&embedded.tags) => {
            Err(Reason::blocked("a repost must not embed a protected event"))
        }
        _ => Ok(()),
    }
}

/// Whether an event says that it is about an event of that kind: a repost (NIP-18), a reaction (NIP-25), a comment
/// (NIP-22). An id alone says nothing, and whoever asks for it is not told.
fn names_activity(tags: &Tags) -> bool {
    tags.indexed().any(|(letter, value)| {
        matches!(letter, b'k' | b'K') && value.parse().is_ok_and(|kind: u16| kind == kind::ACTIVITY)
    })
}

fn is_protected(tags: &Tags) -> bool {
    tags.iter().any(|tag| tag.name() == PROTECTED)
}

/// Leading zero bits of an id (NIP-13).
pub fn difficulty(id: &EventId) -> u32 {
    let zeros = id.0.iter().take_while(|&&byte| byte == 0).count();
    zeros as u32 * 8 + id.0.get(zeros).map_or(0, |byte| byte.leading_zeros())
}

/// Whether two URLs name the same relay: host, port, and path but for a trailing slash. The scheme
/// may differ, since TLS often ends before the relay.
pub fn same_relay(one: &Url, other: &Url) -> bool {
    let trim_path = |url: &Url| url.path().trim_end_matches('/').to_owned();
    one.host() == other.host() && one.port() == other.port() && trim_path(one) == trim_path(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Prefix, sign::Keys};

    const NOW: Timestamp = 1_000_000;

    fn check(limits: &Limits, keys: &[PublicKey], event: &crate::protocol::Event) -> Result<(), Prefix> {
        let url = Url::parse("wss://relay.example.com/").unwrap();
        let parsed = serde_json::from_str(event.json()).unwrap();
        Policy::new(limits, Some(&url)).check(&parsed, keys, NOW).map_err(|reason| reason.prefix)
    }

    #[test]
    fn each_rule_refuses_with_its_prefix() {
        let limits = Limits { max_tags: 2, ..Limits::default() };
        let author = Keys::generate();
        let own = [author.public_key()];
        let other = [Keys::generate().public_key()];
        let tags = |tags: &[&[&str]]| Tags::from_iter(tags.iter().map(|tag| tag.iter()));
        let embedded = r#"{"kind":1,"tags":[["-"]],"content":"x"}"#;
        for (at, kind, tags, content, keys, expected) in [
            (NOW, 1, tags(&[]), "", &[][..], Ok(())),
            (NOW, 1, tags(&[&["a"], &["b"], &["c"]]), "", &[], Err(Prefix::Invalid)),
            (NOW, 22_242, tags(&[]), "", &[], Err(Prefix::Invalid)),
            (NOW + 900, 1, tags(&[]), "", &[], Ok(())),
            (NOW + 901, 1, tags(&[]), "", &[], Err(Prefix::Invalid)),
            (0, 1, tags(&[]), "", &[], Ok(())),
            (NOW, 1, tags(&[&["expiration", "1000000"]]), "", &[], Err(Prefix::Invalid)),
            (NOW, 1, tags(&[&["expiration", "1000001"]]), "", &[], Ok(())),
            (NOW, 1, tags(&[&["expiration", "18446744073709551615"]]), "", &[], Ok(())),
            (NOW, 1, tags(&[&["expiration", "18446744073709551616"]]), "", &[], Err(Prefix::Invalid)),
            (NOW, 1, tags(&[&["expiration", "-5"]]), "", &[], Err(Prefix::Invalid)),
            (NOW, 1, tags(&[&["expiration", "+2000000"]]), "", &[], Err(Prefix::Invalid)),
            (NOW, 1, tags(&[&["expiration", "2000000.5"]]), "", &[], Err(Prefix::Invalid)),
            (NOW, 1, tags(&[&["expiration", " 2000000"]]), "", &[], Err(Prefix::Invalid)),
            (NOW, 1, tags(&[&["expiration", "never"]]), "", &[], Err(Prefix::Invalid)),
            (NOW, 1, tags(&[&["expiration", ""]]), "", &[], Err(Prefix::Invalid)),
            (NOW, 1, tags(&[&["expiration"]]), "", &[], Err(Prefix::Invalid)),
            (
                NOW,
                1,
                tags(&[&["expiration", "2000000"], &["expiration", "x"]]),
                "",
                &[],
                Err(Prefix::Invalid),
            ),
            (NOW, 1, tags(&[&["-"]]), "", &[], Err(Prefix::AuthRequired)),
            (NOW, 1, tags(&[&["-"]]), "", &other, Err(Prefix::Restricted)),
            (NOW, 1, tags(&[&["-"]]), "", &own, Ok(())),
            (NOW, 6, tags(&[]), embedded, &own, Err(Prefix::Blocked)),
            (NOW, 16, tags(&[]), embedded, &own, Err(Prefix::Blocked)),
            (NOW, 1, tags(&[]), embedded, &own, Ok(())),
            (NOW, 6, tags(&[]), "not json", &own, Ok(())),
            (NOW, kind::ACTIVITY, tags(&[]), "", &own, Err(Prefix::Blocked)),
            (NOW, 6, tags(&[]), r#"{"kind":4227,"tags":[]}"#, &own, Err(Prefix::Blocked)),
            (NOW, 16, tags(&[]), r#"{"tags":[],"kind":4227}"#, &own, Err(Prefix::Blocked)),
            (NOW, 16, tags(&[]), r#"{"tags":[],"kind":1}"#, &own, Ok(())),
            (NOW, 16, tags(&[&["k", "4227"]]), "", &own, Err(Prefix::Blocked)),
            (NOW, 7, tags(&[&["k", "4227"]]), "+", &own, Err(Prefix::Blocked)),
            (NOW, 1_111, tags(&[&["K", "4227"]]), "", &own, Err(Prefix::Blocked)),
            (NOW, 7, tags(&[&["k", "1"]]), "+", &own, Ok(())),
            (NOW, 5, tags(&[&["k", "4227"]]), "", &own, Ok(())),
            (NOW, 62, tags(&[]), "", &[], Err(Prefix::Invalid)),
            (NOW, 62, tags(&[&["relay", "wss://other.example.com"]]), "", &[], Err(Prefix::Invalid)),
            (NOW, 62, tags(&[&["relay", "wss://relay.example.com"]]), "", &[], Ok(())),
            (NOW, 62, tags(&[&["relay", "ALL_RELAYS"]]), "", &[], Ok(())),
        ] {
            let event = author.sign(at, kind, tags, content);
            assert_eq!(check(&limits, keys, &event), expected, "{event:?}");
        }
    }

    #[test]
    fn this_relay_makes_activity_for_an_audience_that_goes_by_itself() {
        let limits = Limits::default();
        let author = Keys::generate();
        let (friends, protected, expires) =
            (&["audience", "friends"][..], &["-"][..], &["expiration", "1000001"][..]);
        for (at, kind, tags, expected) in [
            (NOW, kind::ACTIVITY, &[friends, protected, expires][..], true),
            (NOW, kind::ACTIVITY, &[&["audience", "followers"], protected, expires], true),
            (NOW, kind::ACTIVITY, &[&["audience", "everybody"], protected, expires], false),
            (NOW, kind::ACTIVITY, &[protected, expires], false),
            (NOW, kind::ACTIVITY, &[friends, expires], false),
            (NOW, kind::ACTIVITY, &[friends, protected], false),
            (NOW, kind::ACTIVITY, &[friends, protected, &["expiration", "1000000"]], false),
            (NOW + 901, kind::ACTIVITY, &[friends, protected, expires], false),
            (NOW, 1, &[friends, protected, expires], false),
        ] {
            let tags = Tags::from_iter(tags.iter().map(|tag| tag.iter()));
            let event = author.sign(at, kind, tags, "signed in");
            let checked = Policy::new(&limits, None).check_own(&event, NOW);
            assert_eq!(checked.is_ok(), expected, "{event:?}");
        }
    }

    #[test]
    fn difficulty_counts_leading_zero_bits() {
        let mut id = EventId([0; 32]);
        assert_eq!(difficulty(&id), 256);
        id.0[1] = 0b0010_1111;
        assert_eq!(difficulty(&id), 10);
        let limits = Limits { min_pow_difficulty: 12, ..Limits::default() };
        let policy = Policy::new(&limits, None);
        let committed = |bits: &str| Tags::from_iter([["nonce", "1", bits]]);
        assert!(policy.check_pow(&id, &Tags::default()).is_err());
        id.0[1] = 1;
        assert!(policy.check_pow(&id, &Tags::default()).is_ok());
        assert!(policy.check_pow(&id, &committed("12")).is_ok());
        assert!(policy.check_pow(&id, &committed("11")).is_err());
    }
}

//! A relay that is read: what an operator says of it.

use std::{fmt, num::ParseIntError, str::FromStr};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::{Host, Url};
use xxhash_rust::xxh3::xxh3_64;

use super::read_for::ReadFor;
use crate::{
    client::shown_url,
    protocol::{Filter, PublicKey, Timestamp, filter::sorted, sign::Keys},
    seal::{FOR_UPSTREAM, Keyring, Sealed},
};

/// Authors of a filter: what relays bear.
pub const AUTHORS: usize = 500;
/// Longest URL.
const MAX_URL_BYTES: usize = 1_024;

/// Tells upstreams apart: it follows from the URL, so that one is never added twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamId(u64);

/// What an operator says of a relay that is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    pub url: RelayUrl,
    /// What is read of it: what one of them matches. None: everything.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Where it is another one than that of the configuration.
    #[serde(default)]
    pub overlap_seconds: Option<u64>,
    #[serde(default)]
    pub limits: UpstreamLimits,
    /// As whom this relay authenticates there (NIP-42).
    #[serde(default)]
    pub auth: Option<SealedKey>,
    /// It is not read for now.
    #[serde(default)]
    pub paused: bool,
    /// Since when it has been an upstream.
    #[serde(default)]
    pub added: Timestamp,
    /// When somebody has asked last for what is stored to be compared with it at once.
    #[serde(default, skip_serializing_if = "is_never")]
    pub compare_asked: Timestamp,
    /// Whom it is asked for, of the people who are followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<ReadFor>,
}

/// A key that the store keeps, and nobody reads there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey {
    pub public: PublicKey,
    secret: Sealed,
}

/// Why a key is not used.
#[derive(Debug, thiserror::Error)]
#[error("its key can not be used: {0:#}")]
pub struct NoKey(#[from] anyhow::Error);

impl SealedKey {
    /// # Errors
    /// There is no master key.
    pub fn seal(keys: &Keys, upstream: UpstreamId, keyring: &Keyring) -> Result<Self, NoKey> {
        let master = keyring.keys(true)?;
        let secret = master.current().seal(&keys.secret(), FOR_UPSTREAM, &upstream.to_string());
        Ok(Self { public: keys.public_key(), secret })
    }

    /// # Errors
    /// There is no master key, or it was sealed under another one.
    pub fn open(&self, upstream: UpstreamId, keyring: &Keyring) -> Result<Keys, NoKey> {
        let master = keyring.keys(false)?;
        let secret = master.open_sealed(&self.secret, FOR_UPSTREAM, &upstream.to_string());
        let secret = secret.map_err(anyhow::Error::from)?;
        let keys = secret.try_into().ok().and_then(Keys::from_secret);
        Ok(keys.context("it is no key")?)
    }
}

/// How much is taken of an upstream at most. 0: as much as it sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamLimits {
    /// What comes faster is read later.
    pub events_per_second: u64,
    pub bytes_per_second: u64,
    /// Beyond, it is read again on the next day (UTC).
    pub events_per_day: u64,
    pub bytes_per_day: u64,
}

impl Upstream {
    /// One that is read whole.
    pub fn new(url: RelayUrl) -> Self {
        let limits = UpstreamLimits::default();
        Self {
            url,
            filters: Vec::new(),
            overlap_seconds: None,
            limits,
            auth: None,
            paused: false,
            added: 0,
            compare_asked: 0,
            followed: None,
        }
    }

    pub fn id(&self) -> UpstreamId {
        self.url.id()
    }

    /// What it is asked for.
    pub fn asked(&self) -> Vec<Filter> {
        let people = self.followed.iter().flat_map(|read| read.people.chunks(AUTHORS)).map(by);
        match &self.filters[..] {
            [] if self.is_for_followed_alone() => people.collect(),
            [] => vec![Filter::default()],
            own => own.iter().cloned().chain(people).collect(),
        }
    }

    /// Another number where something else is asked for, whoever is followed: of those each is known by themselves whether
    /// their past has been read.
    pub fn asked_digest(&self) -> u64 {
        let own: Vec<String> = self.filters.iter().map(Filter::to_string).collect();
        xxh3_64(format!("{} {}", self.is_for_followed_alone(), own.join(" ")).as_bytes())
    }

    /// Whether it is read for people who are followed, and for nothing else.
    pub fn is_for_followed_alone(&self) -> bool {
        self.followed.as_ref().is_some_and(|followed| followed.alone)
    }

    /// Whether everything that it has is read.
    pub fn is_whole(&self) -> bool {
        self.filters.is_empty() && !self.is_for_followed_alone() && !self.paused
    }

    /// Whether a reader of the other one goes on as it is.
    pub fn is_read_like(&self, other: &Self) -> bool {
        let told = |upstream: &Self| {
            let mut told = Self { compare_asked: 0, ..upstream.clone() };
            if let Some(followed) = &mut told.followed {
                (followed.new, followed.writers) = (Vec::new(), 0);
            }
            told
        };
        told(self) == told(other)
    }
}

fn is_never(moment: &Timestamp) -> bool {
    *moment == 0
}

/// What these have written.
pub fn by(people: &[PublicKey]) -> Filter {
    Filter { authors: Some(sorted(people.to_vec())), ..Filter::default() }
}

/// The URL of a relay, in the one form that is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelayUrl(Url);

/// Why a URL is none of a relay that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("it is no URL")]
    Malformed,
    #[error("a relay's URL begins with ws:// or wss://")]
    Scheme,
    #[error("it holds a user or a password: name a key instead")]
    Credentials,
    #[error("it names no host")]
    NoHost,
    #[error("it is longer than {MAX_URL_BYTES} bytes")]
    TooLong,
}

impl RelayUrl {
    /// # Errors
    /// It is none that can be read.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        if text.len() > MAX_URL_BYTES {
            return Err(BadUrl::TooLong);
        }
        let mut url = Url::parse(text.trim()).map_err(|_| BadUrl::Malformed)?;
        if !matches!(url.scheme(), "ws" | "wss") {
            return Err(BadUrl::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadUrl::Credentials);
        }
        match url.host() {
            None | Some(Host::Domain("")) => return Err(BadUrl::NoHost),
            // The same host, whatever stands at the end of its name.
            Some(Host::Domain(name)) if name.ends_with('.') => {
                let name = name.trim_end_matches('.').to_owned();
                url.set_host(Some(&name)).map_err(|_| BadUrl::NoHost)?;
            }
            Some(_) => {}
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// Whether nobody on the way reads what is said.
    pub fn is_private(&self) -> bool {
        self.0.scheme() == "wss"
    }

    pub fn as_str(&self) -> &str {
        // What has no path is sent "/" all the same.
        match (self.0.path(), self.0.query()) {
            ("/", None) => self.0.as_str().trim_end_matches('/'),
            _ => self.0.as_str(),
        }
    }

    /// For logs and labels.
    pub fn shown(&self) -> &str {
        shown_url(self.as_str())
    }

    pub fn id(&self) -> UpstreamId {
        let digest = Sha256::digest(self.as_str());
        let mut number = [0; 8];
        number.copy_from_slice(&digest[..8]);
        UpstreamId(u64::from_be_bytes(number))
    }
}

impl TryFrom<String> for RelayUrl {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<Self, BadUrl> {
        Self::parse(&text)
    }
}

impl From<RelayUrl> for String {
    fn from(url: RelayUrl) -> Self {
        url.as_str().to_owned()
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl UpstreamId {
    pub fn number(self) -> u64 {
        self.0
    }
}

impl FromStr for UpstreamId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl fmt::Display for UpstreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_has_one_url() {
        for (text, expected) in [
            ("wss://relay.example.com", "wss://relay.example.com"),
            (" WSS://Relay.Example.COM:443/ ", "wss://relay.example.com"),
            ("ws://relay.example.com:80", "ws://relay.example.com"),
            ("wss://relay.example.com.", "wss://relay.example.com"),
            ("wss://relay.example.com/path/#x", "wss://relay.example.com/path/"),
            ("ws://127.0.0.1:7777", "ws://127.0.0.1:7777"),
            ("ws://[::1]:7777/?a=b", "ws://[::1]:7777/?a=b"),
            ("wss://bücher.example", "wss://xn--bcher-kva.example"),
        ] {
            let url = RelayUrl::parse(text).unwrap();
            assert_eq!(url.as_str(), expected);
            assert_eq!(url.id(), RelayUrl::parse(expected).unwrap().id());
        }
        assert_eq!(
            RelayUrl::parse("wss://a.example/x?token=secret").unwrap().to_string(),
            "wss://a.example/x"
        );
    }

    #[test]
    fn what_is_no_relay_says_why() {
        for (text, why) in [
            ("relay.example.com", BadUrl::Malformed),
            ("https://relay.example.com", BadUrl::Scheme),
            ("file:///etc/passwd", BadUrl::Scheme),
            ("wss://user:pass@relay.example.com", BadUrl::Credentials),
            ("wss://user@relay.example.com", BadUrl::Credentials),
            ("wss://", BadUrl::Malformed),
        ] {
            assert_eq!(RelayUrl::parse(text), Err(why), "{text}");
        }
        assert_eq!(RelayUrl::parse(&format!("wss://{}", "a".repeat(1_100))), Err(BadUrl::TooLong));
    }
}

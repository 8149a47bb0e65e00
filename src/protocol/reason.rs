//! Why something was refused: a machine-readable prefix and a sentence for people.
//!
//! The prefixes are an enum, so that a reply can not misspell one (NIP-01, NIP-42).

use std::{borrow::Cow, fmt};

/// The machine-readable word before the colon of `OK` and `CLOSED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    Duplicate,
    Pow,
    Blocked,
    RateLimited,
    Invalid,
    Restricted,
    AuthRequired,
    Unsupported,
    /// Of a reconciliation (NIP-77).
    Closed,
    Error,
}

impl Prefix {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Pow => "pow",
            Self::Blocked => "blocked",
            Self::RateLimited => "rate-limited",
            Self::Invalid => "invalid",
            Self::Restricted => "restricted",
            Self::AuthRequired => "auth-required",
            Self::Unsupported => "unsupported",
            Self::Closed => "closed",
            Self::Error => "error",
        }
    }
}

/// A refusal as the client reads it: `prefix: text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub prefix: Prefix,
    pub text: Cow<'static, str>,
}

macro_rules! constructors {
    ($($name:ident => $prefix:ident),* $(,)?) => {
        $(pub fn $name(text: impl Into<Cow<'static, str>>) -> Self {
            Self { prefix: Prefix::$prefix, text: text.into() }
        })*
    };
}

impl Reason {
    constructors! {
        duplicate => Duplicate,
        pow => Pow,
        blocked => Blocked,
        rate_limited => RateLimited,
        invalid => Invalid,
        restricted => Restricted,
        auth_required => AuthRequired,
        unsupported => Unsupported,
        closed => Closed,
        error => Error,
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.prefix.as_str(), self.text)
    }
}

impl std::error::Error for Reason {}

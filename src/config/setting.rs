//! How a setting is declared: in a [`section!`], with its explanation, its type, its default, whether it may change
//! while a node runs, and of a number its range.

use std::fmt;

use toml::Value;

/// A setting as the documentation shows it.
pub struct Setting {
    pub name: &'static str,
    /// One element a line.
    pub doc: &'static [&'static str],
    /// When a new value takes effect.
    pub change: TakesEffect,
    /// Of a number.
    pub range: Option<Range>,
}

/// When a new value of a setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesEffect {
    /// At once, while a node runs.
    Live,
    /// At the next start: something was made by it that can not be made anew, or whoever could change it at a running
    /// node could do more than run a relay (listeners, paths, addresses of services, passwords, trusted proxies).
    AtStart,
}

/// What a number may be, both ends included. Beyond, a queue has no memory to be in, a time no end, and a part of the
/// program takes for endless what it must count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    Whole(i64, i64),
    Part(f64, f64),
}

pub(super) const fn whole(from: i64, to: i64) -> Range {
    Range::Whole(from, to)
}

pub(super) const fn part(from: f64, to: f64) -> Range {
    Range::Part(from, to)
}

/// In seconds.
pub(super) const HOUR: i64 = 60 * 60;
pub(super) const DAY: i64 = 24 * HOUR;

impl Range {
    /// Whether the number is in the range. A value that is no number is refused elsewhere, so it passes here.
    pub(super) fn has(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Whole(from, to), Value::Integer(number)) => (from..=to).contains(number),
            (Self::Part(from, to), Value::Integer(number)) => (from..=to).contains(&(*number as f64)),
            (Self::Part(from, to), Value::Float(number)) => (from..=to).contains(number),
            _ => true,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(from, to) => write!(f, "{from} to {to}"),
            Self::Part(from, to) => write!(f, "{from} to {to}"),
        }
    }
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! change {
    (live) => {
        $crate::config::TakesEffect::Live
    };
    (fixed) => {
        $crate::config::TakesEffect::AtStart
    };
}

/// `name: live type = default => range`, or `fixed` instead of `live`.
macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident {
        $($(#[doc = $doc:literal])* $field:ident: $change:ident $type:ty = $default:expr $(=> $range:expr)?),*
        $(,)?
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $type),*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }

        impl $name {
            pub(super) const ABOUT: &'static [&'static str] = &[$($about),*];
            pub(super) const SETTINGS: &'static [$crate::config::Setting] =
                &[$($crate::config::Setting {
                    name: stringify!($field),
                    doc: &[$($doc),*],
                    change: $crate::config::setting::change!($change),
                    range: $crate::config::setting::optional!($($range)?),
                }),*];
        }
    };
}

pub(super) use {change, optional, section};

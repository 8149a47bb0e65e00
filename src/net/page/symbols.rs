//! The drawings that a document uses, once each.

use maud::{Markup, PreEscaped};

/// A file of ours: nothing of it comes from the network.
const SYMBOLS: &str = include_str!("built/symbols.svg");

pub fn symbols() -> Markup {
    PreEscaped(SYMBOLS.trim_end().to_owned())
}

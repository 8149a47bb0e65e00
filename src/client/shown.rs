//! Texts of strangers, such that they give a terminal and a log no orders.

/// Longest text of a stranger that is shown, in characters.
const MAX_SHOWN: usize = 200;

/// Whether a terminal may take this for more than something to be shown: control characters, those that end lines,
/// and those that turn the direction of writing.
pub fn is_unruly(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text as it may be shown: at most 200 characters, and none that is [unruly](is_unruly).
pub fn shown(text: &str) -> String {
    let plain = text.chars().map(|c| if is_unruly(c) { ' ' } else { c });
    let mut shown: String = plain.clone().take(MAX_SHOWN).collect();
    if plain.count() > MAX_SHOWN {
        shown.push('…');
    }
    shown
}

/// A URL as it may be shown: what follows the path may be a secret.
pub fn shown_url(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_nothing_that_a_terminal_obeys() {
        assert_eq!(shown("a\u{1b}[31mb\r\n\u{202e}\u{9b}2J\u{2028}"), "a [31mb    2J ");
        assert_eq!(shown(&"ä".repeat(500)).chars().count(), MAX_SHOWN + 1);
    }
}

//! Texts of strangers on a terminal: they give it no orders, move nothing on it, and fit its width.

use std::{borrow::Cow, fmt::Write, os::fd::AsFd};

use rustix::termios::tcgetwinsize;
use unicode_width::UnicodeWidthChar;

use crate::client::is_unruly;

/// What all lines of a text but the first begin with.
const INDENT: &str = "    ";
/// Narrower than this, a terminal breaks lines itself.
const NARROWEST: usize = 20;

/// Columns of a terminal; `None` where it is none, or does not tell.
pub fn columns(terminal: impl AsFd) -> Option<usize> {
    let size = tcgetwinsize(terminal).ok()?;
    Some(size.ws_col.into()).filter(|&columns| columns > 0)
}

/// The same JSON, with unruly characters escaped: JSON lets most of them stand in its strings as they are, those from
/// U+0080 to U+009F too.
pub fn shown_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_unruly) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        // All of them have four digits; into a string nothing fails.
        let _ = if is_unruly(c) { write!(shown, "\\u{:04x}", u32::from(c)) } else { shown.write_char(c) };
    }
    Cow::Owned(shown)
}

/// Columns that a character takes at most. U+FE0F makes an emoji, and so wide, what stands before it.
fn cells(c: char) -> usize {
    if c == '\u{fe0f}' { 1 } else { c.width().unwrap_or(0) }
}

fn cells_of(text: &str) -> usize {
    text.chars().map(cells).sum()
}

/// What of the text fits into so many columns.
pub fn cut(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let fits = |&(_, c): &(usize, char)| {
        used += cells(c);
        used <= columns
    };
    let end = text.char_indices().take_while(fits).last().map_or(0, |(at, c)| at + c.len_utf8());
    &text[..end]
}

/// The text, and blanks up to so many columns.
pub fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(cells_of(text))))
}

/// The text of one line in lines of so many columns, broken between words where that can be.
pub fn wrap(text: &str, columns: usize) -> String {
    let columns = columns.max(NARROWEST);
    let (mut lines, mut used) = (String::with_capacity(text.len() + 16), 0);
    let end_line = |lines: &mut String| {
        lines.truncate(lines.trim_end().len());
        lines.push('\n');
        lines.push_str(INDENT);
        INDENT.len()
    };
    for piece in text.split_inclusive(' ') {
        let word = piece.trim_end();
        if used > INDENT.len() && used + cells_of(word) > columns {
            used = end_line(&mut lines);
        }
        for c in word.chars() {
            if used + cells(c) > columns {
                used = end_line(&mut lines);
            }
            used += cells(c);
            lines.push(c);
        }
        if word.len() < piece.len() {
            used += 1;
            lines.push(' ');
        }
    }
    lines.truncate(lines.trim_end().len());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_shows_nothing_that_a_terminal_obeys() {
        assert!(matches!(shown_json(r#"{"a":"ä\n"}"#), Cow::Borrowed(_)));
        let json = "[\"a\u{9b}\u{7f}\u{202e}ä\"]";
        assert_eq!(shown_json(json), r#"["a\u009b\u007f\u202eä"]"#);
        let read = |json| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(read(&shown_json(json)), read(json));
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!(cut("日本語", 5), "日本");
        assert_eq!(pad("日本", 6), "日本  ");
        assert_eq!((cut("abc", 3), cut("abc", 0), cut("👩‍👩‍👧", 2)), ("abc", "", "👩\u{200d}"));
        assert_eq!(cells_of("❤️"), 2);
    }

    #[test]
    fn lines_are_as_wide_as_the_terminal_at_most() {
        let text =
            "2026  alice        one two three four five 日本語日本語日本語日本語 👍👍👍👍👍👍👍👍👍👍👍👍 x";
        for columns in 0..100 {
            let wrapped = wrap(text, columns);
            assert!(
                wrapped.lines().all(|line| cells_of(line) <= columns.max(NARROWEST)),
                "{columns}:\n{wrapped}"
            );
            let words = |text: &str| text.split_whitespace().collect::<String>();
            assert_eq!(words(&wrapped), words(text));
        }
        assert_eq!(wrap("one two three four five six", 20), "one two three four\n    five six");
        assert_eq!(wrap(text, 200), text);
        assert_eq!(wrap("", 30), "");
    }
}

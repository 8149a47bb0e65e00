//! Places in a stream of lines, which know what came before them: by a hash that is chained from line to line.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A place between two lines. Two are equal if all that came before them is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Lines before it.
    pub line: u64,
    /// Bytes before it, of the uncompressed stream.
    pub offset: u64,
    /// Hash of these bytes, line by line.
    digest: u64,
}

impl Place {
    /// The place behind one more line of so many bytes, of which these are looked at.
    pub fn after(self, text: &[u8], length: usize) -> Self {
        Self {
            line: self.line + 1,
            offset: self.offset + length as u64,
            digest: xxh3_64_with_seed(text, self.digest.wrapping_add(length as u64)),
        }
    }
}

/// Places up to which lines were written: the first line, doubled again and again, and the last. So a file that has
/// lost its end can be told from another one.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Marks(Vec<Place>);

impl Marks {
    /// The noted place at this line, if there is one.
    pub fn at(&self, line: u64) -> Option<Place> {
        self.0.iter().find(|mark| mark.line == line).copied()
    }

    /// Whether nothing is noted of this line or a later one.
    pub fn end_before(&self, line: u64) -> bool {
        self.0.last().is_none_or(|mark| mark.line < line)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a place behind all that were noted before.
    pub fn note(&mut self, place: Place) {
        match &mut self.0[..] {
            [.., before, last] if last.line < 2 * before.line => *last = place,
            _ => self.0.push(place),
        }
    }

    /// Forgets the places behind this one.
    pub fn end_at(&mut self, place: Place) {
        self.0.retain(|mark| mark.line <= place.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_few_and_half_of_a_file_is_always_known() {
        let mut marks = Marks::default();
        let mut place = Place::default();
        for line in 1..=10_000 {
            place = place.after(b"x", 2);
            if line == 1 || line % 7 == 0 {
                marks.note(place);
            }
        }
        let lines: Vec<u64> = marks.0.iter().map(|mark| mark.line).collect();
        assert!(lines.len() < 16 && lines[0] == 1 && lines.last() == Some(&9_996), "{lines:?}");
        let known = |line| lines.iter().rev().find(|&&mark| mark <= line).copied().unwrap_or(0);
        assert!((14..=9_996).all(|line| 4 * known(line) >= line), "{lines:?}");
        assert!(marks.end_before(9_997) && !marks.end_before(9_996));
    }
}

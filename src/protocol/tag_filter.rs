//! What a filter wants of a tag.

use serde::{Serialize, Serializer};

/// `"#<letter>": [values]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFilter {
    letter: u8,
    values: Box<[Box<str>]>,
    /// The value that the client wrote first, by its place in `values`.
    first: u32,
}

impl TagFilter {
    pub fn new<S: Into<Box<str>>>(letter: u8, values: impl IntoIterator<Item = S>) -> Self {
        let mut values: Vec<Box<str>> = values.into_iter().map(Into::into).collect();
        let first = values.first().cloned();
        sort(&mut values);
        let first = first.and_then(|first| values.binary_search(&first).ok()).unwrap_or_default();
        Self { letter, values: values.into(), first: first as u32 }
    }

    pub fn letter(&self) -> u8 {
        self.letter
    }

    /// Sorted.
    pub fn values(&self) -> &[Box<str>] {
        &self.values
    }

    /// The value that stood first (NIP-45 wants it); `None` for an empty list.
    pub fn first(&self) -> Option<&str> {
        self.values.get(self.first as usize).map(|value| &**value)
    }

    pub fn contains(&self, value: &str) -> bool {
        self.values.binary_search_by(|candidate| (**candidate).cmp(value)).is_ok()
    }
}

impl Serialize for TagFilter {
    /// The values, the one first that the client wrote first: NIP-45 computes an offset from it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let first = self.first as usize;
        let others = self.values.iter().enumerate().filter(|(at, _)| *at != first);
        serializer.collect_seq(self.first().into_iter().chain(others.map(|(_, value)| &**value)))
    }
}

fn sort<T: Ord>(values: &mut Vec<T>) {
    values.sort_unstable();
    values.dedup();
    values.shrink_to_fit();
}

/// Sorts and drops doubles, as the lists of a filter want it.
pub fn sorted<T: Ord>(mut values: Vec<T>) -> Box<[T]> {
    sort(&mut values);
    values.into()
}

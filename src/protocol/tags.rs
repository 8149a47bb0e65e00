//! The tags of an event in three allocations, whatever their number: all strings in one text, and
//! where each string and each tag ends.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeSeq};

/// `[["e", "…"], ["p", "…", "…"], …]`, in the order in which the author wrote them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tags {
    text: String,
    /// End of each string in `text`.
    strings: Vec<u32>,
    /// End of each tag in `strings`.
    tags: Vec<u32>,
}

/// One tag: its strings, first the name.
#[derive(Clone, Copy)]
pub struct Tag<'a> {
    tags: &'a Tags,
    first: usize,
    end: usize,
}

impl Tags {
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Tag<'_>> {
        let mut first = 0;
        self.tags.iter().map(move |&end| {
            let tag = Tag { tags: self, first, end: end as usize };
            first = end as usize;
            tag
        })
    }

    /// The tags that relays index: one letter, and a value (NIP-01). The first value alone counts.
    pub fn indexed(&self) -> impl Iterator<Item = (u8, &str)> {
        self.iter().filter_map(|tag| Some((single_letter(tag.name())?, tag.value()?)))
    }

    /// The values of all tags of this name that have one.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |tag| tag.name() == name).filter_map(|tag| tag.value())
    }

    /// The value of the first tag of this name, if it has one.
    pub fn first_value(&self, name: &str) -> Option<&str> {
        self.iter().find(|tag| tag.name() == name)?.value()
    }

    /// Appends a tag.
    pub fn push<S: AsRef<str>>(&mut self, tag: impl IntoIterator<Item = S>) {
        for string in tag {
            self.push_string(string.as_ref());
        }
        self.end_tag();
    }

    /// About how long the tags are as JSON: exactly, where nothing needs an escape.
    pub(super) fn json_len_hint(&self) -> usize {
        self.text.len() + 3 * self.strings.len() + 2 * self.tags.len() + 2
    }

    fn push_string(&mut self, string: &str) {
        self.text.push_str(string);
        self.strings.push(self.text.len() as u32);
    }

    fn end_tag(&mut self) {
        self.tags.push(self.strings.len() as u32);
    }

    fn string(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.strings[index - 1] as usize };
        &self.text[start..self.strings[index] as usize]
    }
}

impl<'a> Tag<'a> {
    /// The first string; empty for a tag without strings.
    pub fn name(&self) -> &'a str {
        self.get(0).unwrap_or_default()
    }

    /// The second string.
    pub fn value(&self) -> Option<&'a str> {
        self.get(1)
    }

    pub fn get(&self, index: usize) -> Option<&'a str> {
        (self.first + index < self.end).then(|| self.tags.string(self.first + index))
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let tags = self.tags;
        (self.first..self.end).map(move |index| tags.string(index))
    }
}

/// The letter of a one-letter tag name, a–z or A–Z.
pub fn single_letter(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(*letter),
        _ => None,
    }
}

impl<S: AsRef<str>, T: IntoIterator<Item = S>> FromIterator<T> for Tags {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        let mut tags = Self::default();
        for tag in iter {
            tags.push(tag);
        }
        tags
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|tag| tag.iter().collect::<Vec<_>>())).finish()
    }
}

impl Serialize for Tags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Strings<'a>(Tag<'a>);
        impl Serialize for Strings<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter())
            }
        }
        let mut seq = serializer.serialize_seq(Some(self.len()))?;
        for tag in self.iter() {
            seq.serialize_element(&Strings(tag))?;
        }
        seq.end()
    }
}

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TagsVisitor;
        impl<'de> de::Visitor<'de> for TagsVisitor {
            type Value = Tags;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tags, an array of arrays of strings")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Tags, A::Error> {
                let mut tags = Tags::default();
                while seq.next_element_seed(TagSeed(&mut tags))?.is_some() {}
                Ok(tags)
            }
        }

        struct TagSeed<'a>(&'a mut Tags);
        impl<'de> de::DeserializeSeed<'de> for TagSeed<'_> {
            type Value = ();
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.deserialize_seq(self)
            }
        }
        impl<'de> de::Visitor<'de> for TagSeed<'_> {
            type Value = ();
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tag, an array of strings")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
                while seq.next_element_seed(StringSeed(self.0))?.is_some() {}
                self.0.end_tag();
                Ok(())
            }
        }

        struct StringSeed<'a>(&'a mut Tags);
        impl<'de> de::DeserializeSeed<'de> for StringSeed<'_> {
            type Value = ();
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.deserialize_str(self)
            }
        }
        impl de::Visitor<'_> for StringSeed<'_> {
            type Value = ();
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string in a tag")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
                self.0.push_string(text);
                Ok(())
            }
        }

        deserializer.deserialize_seq(TagsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_any_shape() {
        let json = r#"[["e","aa","wss://x"],[],["-"],["t","a\"b\n"],[""],["p",""]]"#;
        let tags: Tags = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&tags).unwrap(), json);
        assert_eq!(tags.len(), 6);
        assert_eq!(tags.indexed().collect::<Vec<_>>(), [(b'e', "aa"), (b't', "a\"b\n"), (b'p', "")]);
        assert_eq!(tags.first_value("-"), None);
        assert_eq!(tags.values("t").collect::<Vec<_>>(), ["a\"b\n"]);
        assert!(serde_json::from_str::<Tags>("[[1]]").is_err());
        assert!(serde_json::from_str::<Tags>(r#"["e"]"#).is_err());
    }
}

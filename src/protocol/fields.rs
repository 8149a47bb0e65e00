//! Reads the fields of what clients send, and says of a wrong value which field it is and what it should be, in the
//! words of JSON: whoever reads them does not know our types.

use std::{fmt, marker::PhantomData};

use serde::de::{self, DeserializeSeed, Deserializer, SeqAccess, Unexpected};

/// A number that a field may hold.
pub trait Whole: TryFrom<u64> {
    const WHAT: &'static str;
}

impl Whole for u16 {
    const WHAT: &'static str = "a whole number from 0 to 65535";
}

impl Whole for u64 {
    const WHAT: &'static str = "a whole number that is not negative";
}

impl Whole for usize {
    const WHAT: &'static str = <u64 as Whole>::WHAT;
}

/// The number of the field of this name.
pub struct Number<'n, N>(&'n str, PhantomData<N>);

impl<'n, N: Whole> Number<'n, N> {
    pub fn of(field: &'n str) -> Self {
        Self(field, PhantomData)
    }
}

// Derived, they would ask for the same of `N`.
impl<N> Clone for Number<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for Number<'_, N> {}

impl<'de, N: Whole> DeserializeSeed<'de> for Number<'_, N> {
    type Value = N;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<N, D::Error> {
        deserializer.deserialize_u64(self)
    }
}

impl<N: Whole> de::Visitor<'_> for Number<'_, N> {
    type Value = N;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to be {}", self.0, N::WHAT)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<N, E> {
        N::try_from(number).map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }
}

/// The list of the field of this name, and what reads one of its values.
pub struct List<'n, S>(pub &'n str, pub S);

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> de::Visitor<'de> for List<'_, S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to be a list", self.0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self.1)? {
            values.push(value);
        }
        Ok(values)
    }
}

/// What is wrong with a text that is no JSON, or not of the shape that is wanted, without a place where it has none
/// for whoever wrote it: messages and events are one line.
pub fn told(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    match text.strip_suffix(&place) {
        Some(what) if error.is_data() => what.to_owned(),
        Some(what) => format!("not valid JSON: {what}, at character {}", error.column()),
        None => text,
    }
}

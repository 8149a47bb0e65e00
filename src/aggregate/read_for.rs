//! People who are followed, and for whom a relay is read, as the record of the relay has them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};

use crate::protocol::PublicKey;

/// People for whom a relay is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct ReadFor {
    /// Sorted.
    pub people: Vec<PublicKey>,
    /// Those of them whose past has not been read there yet. Sorted.
    pub new: Vec<PublicKey>,
    /// How many of those who are followed write there.
    pub writers: usize,
    /// Whether it is read for nothing else: no operator has named it.
    pub alone: bool,
}

/// The same, so short that a thousand people fit into a record.
#[derive(Serialize, Deserialize)]
struct Written {
    /// Their keys, one after the other (Base64).
    people: String,
    /// A bit for each of them, the first one in the highest place (Base64).
    new: String,
    writers: usize,
    alone: bool,
}

/// Why a record can not be read.
#[derive(Debug, thiserror::Error)]
#[error("these are no keys of people")]
struct NoKeys;

impl From<ReadFor> for Written {
    fn from(read: ReadFor) -> Self {
        let keys: Vec<u8> = read.people.iter().flat_map(|person| person.0).collect();
        let mut bits = vec![0_u8; read.people.len().div_ceil(8)];
        for (nth, person) in read.people.iter().enumerate() {
            if read.new.binary_search(person).is_ok() {
                bits[nth / 8] |= 0x80 >> (nth % 8);
            }
        }
        Self {
            people: BASE64.encode(keys),
            new: BASE64.encode(bits),
            writers: read.writers,
            alone: read.alone,
        }
    }
}

impl TryFrom<Written> for ReadFor {
    type Error = NoKeys;

    fn try_from(written: Written) -> Result<Self, NoKeys> {
        let decode = |text: &str| BASE64.decode(text).map_err(|_| NoKeys);
        let (keys, bits) = (decode(&written.people)?, decode(&written.new)?);
        let (keys, rest) = keys.as_chunks::<32>();
        if !rest.is_empty() || !keys.is_sorted() {
            return Err(NoKeys);
        }
        let people: Vec<PublicKey> = keys.iter().map(|key| PublicKey(*key)).collect();
        let is_new = |nth: usize| bits.get(nth / 8).is_some_and(|byte| byte & (0x80 >> (nth % 8)) != 0);
        let new = people.iter().enumerate().filter(|(nth, _)| is_new(*nth)).map(|(_, person)| *person);
        Ok(Self { new: new.collect(), people, writers: written.writers, alone: written.alone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::MAX_VALUE_BYTES;

    #[test]
    fn it_is_read_as_it_was_written_and_fits_into_a_record() {
        for count in [0_u16, 1, 7, 8, 9, 1_200] {
            let people: Vec<PublicKey> = (0..count)
                .map(|n| {
                    let mut key = [0xab; 32];
                    key[..2].copy_from_slice(&n.to_be_bytes());
                    PublicKey(key)
                })
                .collect();
            let new = people.iter().step_by(3).copied().collect();
            let read = ReadFor { people, new, writers: 9, alone: true };
            let text = serde_json::to_string(&read).unwrap();
            assert_eq!(serde_json::from_str::<ReadFor>(&text).unwrap(), read);
            // The rest of an upstream is beside it.
            assert!(text.len() < MAX_VALUE_BYTES * 5 / 6, "{count}: {}", text.len());
        }
        for people in ["AA", "!", &BASE64.encode([[2_u8; 32], [1; 32]].concat())] {
            let text = format!(r#"{{"people":"{people}","new":"","writers":0,"alone":true}}"#);
            assert!(serde_json::from_str::<ReadFor>(&text).is_err(), "{people}");
        }
    }
}

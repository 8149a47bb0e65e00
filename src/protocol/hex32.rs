//! 32-byte identifiers and their one text form: 64 lowercase hexadecimal digits (NIP-01).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Decodes exactly `2 * N` lowercase hexadecimal digits. Upper case is refused, as NIP-01 demands.
pub fn decode_lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (DIGITS[usize::from(pair[0])], DIGITS[usize::from(pair[1])]);
        if high | low > 15 {
            return None;
        }
        *byte = high << 4 | low;
    }
    Some(out)
}

/// Value of each lowercase hexadecimal digit; 255 for all other bytes.
const DIGITS: [u8; 256] = {
    let mut digits = [255; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

macro_rules! hex32 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// Reads 64 lowercase hexadecimal digits.
            pub fn from_hex(text: &str) -> Option<Self> {
                decode_lower_hex(text).map(Self)
            }

            pub fn to_hex(self) -> String {
                hex::encode(self.0)
            }

            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; 64];
                hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!($what, " of 64 lowercase hexadecimal digits"))
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::from_hex(text).ok_or_else(|| {
                            E::custom(concat!($what, " must be 64 lowercase hexadecimal digits"))
                        })
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

hex32!(
    /// The id of an event: the SHA-256 of its canonical serialisation (NIP-01).
    EventId,
    "an event id"
);
hex32!(
    /// A user's x-only secp256k1 public key (BIP-340). Not checked to lie on the curve until a
    /// signature is verified with it.
    PublicKey,
    "a public key"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lower_case_only() {
        let text = "00ff".repeat(16);
        assert_eq!(EventId::from_hex(&text).unwrap().to_hex(), text);
        assert_eq!(EventId::from_hex(&text.to_uppercase()), None);
        assert_eq!(EventId::from_hex(&text[1..]), None);
        assert_eq!(EventId::from_hex(&"é".repeat(32)), None);
    }
}

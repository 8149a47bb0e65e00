//! HyperLogLog registers for COUNT (NIP-45).

use sha2::{Digest, Sha256};

use super::{Filter, PublicKey, hex32::decode_lower_hex};

/// 256 registers of one byte, as NIP-45 lays them out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HyperLogLog {
    offset: usize,
    registers: Box<[u8; 256]>,
}

impl HyperLogLog {
    /// Empty registers for a filter, or `None` where NIP-45 defines no offset for it: filters
    /// without a tag attribute, and those with several (their order is not kept by JSON parsers).
    pub fn for_filter(filter: &Filter) -> Option<Self> {
        let [tag] = &*filter.tags else { return None };
        let value = tag.first()?;
        let digits = match decode_lower_hex::<32>(value) {
            Some(bytes) => bytes,
            None => match value.split(':').nth(1).and_then(decode_lower_hex::<32>) {
                Some(pubkey) if value.split(':').next()?.parse::<u16>().is_ok() => pubkey,
                _ => Sha256::digest(value).into(),
            },
        };
        // Character 32 of the hexadecimal form is the high half of byte 16.
        Some(Self { offset: usize::from(digits[16] >> 4) + 8, registers: Box::new([0; 256]) })
    }

    pub fn add(&mut self, author: &PublicKey) {
        let register = usize::from(author.0[self.offset]);
        let mut zeros = 0;
        for byte in &author.0[self.offset + 1..] {
            zeros += byte.leading_zeros() as u8;
            if *byte != 0 {
                break;
            }
        }
        let rank = zeros + 1;
        self.registers[register] = self.registers[register].max(rank);
    }

    /// 512 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.registers[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(json: &str) -> Filter {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_offset_comes_from_character_32_of_the_first_value() {
        let id = format!("{}b{}", "0".repeat(32), "0".repeat(31));
        let hll = HyperLogLog::for_filter(&filter(&format!(r##"{{"#e":["{id}"]}}"##))).unwrap();
        assert_eq!(hll.offset, 0xb + 8);
        let address = format!("30023:{id}:x");
        let hll = HyperLogLog::for_filter(&filter(&format!(r##"{{"#a":["{address}"]}}"##))).unwrap();
        assert_eq!(hll.offset, 0xb + 8);
        let hll = HyperLogLog::for_filter(&filter(r##"{"#t":["nostr"]}"##)).unwrap();
        let digit = hex::encode(Sha256::digest("nostr")).as_bytes()[32] as char;
        assert_eq!(hll.offset, digit.to_digit(16).unwrap() as usize + 8);
        assert!(HyperLogLog::for_filter(&filter(r#"{"kinds":[1]}"#)).is_none());
    }

    #[test]
    fn registers_keep_the_longest_run_of_zeros() {
        let id = "0".repeat(64);
        let mut hll = HyperLogLog::for_filter(&filter(&format!(r##"{{"#e":["{id}"]}}"##))).unwrap();
        let mut author = PublicKey([0xff; 32]);
        author.0[8] = 5;
        author.0[9] = 0;
        author.0[10] = 0b0001_0000;
        hll.add(&author);
        assert_eq!(hll.registers[5], 8 + 3 + 1);
        author.0[9] = 0xff;
        hll.add(&author);
        assert_eq!(hll.registers[5], 12);
        assert_eq!(hll.to_hex().len(), 512);
    }
}

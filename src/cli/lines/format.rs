//! How a stream of lines is packed, by its first bytes or the name of its file.

use std::path::Path;

use anyhow::bail;

/// How a stream is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Plain,
    Gzip,
    Zstd,
}

impl Format {
    /// # Errors
    /// What it is instead, and what to do.
    pub(super) fn of_first_bytes(head: &[u8]) -> anyhow::Result<Self> {
        let (name, program) = match head {
            [0x1f, 0x8b, ..] => return Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => return Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => ("xz", "xz -dc"),
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A'] => ("bzip2", "bzip2 -dc"),
            [0x04, 0x22, 0x4d, 0x18, ..] => ("lz4", "lz4 -dc"),
            [b'P', b'K', 3, 4, ..] => ("zip", "unzip -p"),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("UTF-16", "iconv -f UTF-16 -t UTF-8"),
            _ => return Ok(Self::Plain),
        };
        bail!(
            "it is {name}, which is not read here: {program} FILE | rookery import -   (gzip and zstd are read as they are)"
        )
    }

    /// By the ending of the name: `.gz`, `.zst`.
    pub fn of_name(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => Self::Gzip,
            Some("zst" | "zstd") => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_otherwise_is_named() {
        for (head, name) in [
            (&b"\xfd7zXZ\0"[..], "it is xz"),
            (b"BZh91A", "it is bzip2"),
            (b"PK\x03\x04\x14\0", "it is zip"),
            (b"\xff\xfe{\0\"\0", "it is UTF-16"),
        ] {
            let error = Format::of_first_bytes(head).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        assert_eq!(Format::of_first_bytes(b"BZh is").unwrap(), Format::Plain);
    }
}

//! The name of an account: what people sign in by, and who they are at this relay to others (NIP-05).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Characters of a name.
const LENGTHS: std::ops::RangeInclusive<usize> = 2..=30;

/// What nobody is called: it would be taken for the relay itself, for whoever runs it, or for everybody.
const RESERVED: &[&str] = &[
    "_",
    "abuse",
    "account",
    "accounts",
    "admin",
    "administrator",
    "all",
    "anonymous",
    "api",
    "everybody",
    "everyone",
    "help",
    "home",
    "hostmaster",
    "info",
    "join",
    "login",
    "logout",
    "mail",
    "me",
    "mod",
    "moderator",
    "new",
    "news",
    "nobody",
    "nostr",
    "null",
    "official",
    "operator",
    "owner",
    "postmaster",
    "register",
    "relay",
    "reset",
    "rookery",
    "root",
    "security",
    "settings",
    "sign-in",
    "sign-out",
    "sign-up",
    "signin",
    "signout",
    "signup",
    "staff",
    "status",
    "support",
    "system",
    "undefined",
    "webmaster",
    "www",
    "you",
];

/// What begins as these is a key or an event in other forms (NIP-19).
const KEYS: &[&str] = &["npub1", "nsec1", "note1", "nprofile1", "nevent1", "naddr1", "nrelay1", "ncryptsec1"];

/// A name: lower case letters without accents, digits, and `.`, `_`, `-` between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoName {
    #[error(
        "a name has {} to {} letters (a to z), digits, dots, hyphens and underscores, and begins and ends with a letter \
         or a digit",
        LENGTHS.start(),
        LENGTHS.end()
    )]
    Form,
    #[error("nobody is called so here")]
    Reserved,
}

impl Name {
    /// Reads a name as people type it: capital letters are small ones.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, NoName> {
        let name = text.trim_matches(' ').to_ascii_lowercase();
        let is_within = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = [name.bytes().next(), name.bytes().last()];
        let is_name = LENGTHS.contains(&name.len())
            && name.bytes().all(|byte| is_within(byte) || b"._-".contains(&byte))
            && ends.iter().all(|end| end.is_some_and(is_within));
        match is_name {
            true => Ok(Self(name)),
            false => Err(NoName::Form),
        }
    }

    /// The same for somebody new, at a relay that is called so.
    ///
    /// # Errors
    /// It is none, or nobody may have it.
    pub fn for_new(text: &str, relay: &str) -> Result<Self, NoName> {
        // "_" stands for the relay itself, and is no name by its form.
        let name = match Self::parse(text) {
            Err(NoName::Form) if text.trim() == "_" => return Err(NoName::Reserved),
            parsed => parsed?,
        };
        let letters =
            |text: &str| text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect::<String>();
        let own = letters(&name.0);
        let is_reserved = RESERVED.iter().any(|reserved| *reserved == name.0 || letters(reserved) == own)
            || KEYS.iter().any(|key| name.0.starts_with(key))
            || !relay.is_empty() && letters(relay) == own;
        match is_reserved {
            true => Err(NoName::Reserved),
            false => Ok(name),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Others that are like it.
    pub fn alike(&self) -> impl Iterator<Item = Self> {
        let name = &self.0;
        let texts = [format!("{name}2"), format!("the-{name}"), format!("{name}3"), format!("{name}-4")];
        texts.into_iter().filter_map(|text| Self::parse(&text).ok())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl TryFrom<String> for Name {
    type Error = NoName;

    fn try_from(text: String) -> Result<Self, NoName> {
        Self::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_everybody_can_type_and_tell_apart() {
        for text in ["quill", "Quill", " quill ", "QUILL"] {
            assert_eq!(Name::for_new(text, "Elmwood").unwrap().as_str(), "quill");
        }
        for text in ["ab", "a1", "a.b-c_d", &"x".repeat(30)] {
            assert!(Name::for_new(text, "").is_ok(), "{text}");
        }
        for text in [
            "",
            "a",
            &"x".repeat(31),
            "a b",
            "квилл",
            "quıll",
            "qu\u{200b}ill",
            "\u{202e}lliuq",
            "quill\u{301}",
            "q\0l",
            "-quill",
            "quill.",
            "quill\n",
            "a/b",
            "a@b",
            "<b>",
            "a'b",
            "a\"b",
            "a%2fb",
            "ｑｕｉｌｌ",
        ] {
            assert_eq!(Name::for_new(text, ""), Err(NoName::Form), "{text:?}");
        }
        for text in ["admin", "Admin", "ad-min", "a.d.m.i.n", "_", "root", "npub1abc", "elm-wood", "sign_in"]
        {
            assert_eq!(Name::for_new(text, "Elm Wood"), Err(NoName::Reserved), "{text:?}");
        }
    }
}

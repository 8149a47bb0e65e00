//! Kinds, and how each is kept (NIP-01), plus the kinds that the relay itself acts on.

/// What somebody says of themselves (NIP-01), replaceable.
pub const PROFILE: u16 = 0;
/// A note (NIP-10).
pub const NOTE: u16 = 1;
/// Follow list (NIP-02), replaceable.
pub const FOLLOW_LIST: u16 = 3;
/// Encrypted direct message (NIP-04), served to its parties only.
pub const DIRECT_MESSAGE: u16 = 4;
/// Deletion request (NIP-09).
pub const DELETION: u16 = 5;
/// Repost (NIP-18).
pub const REPOST: u16 = 6;
/// Reaction (NIP-25).
pub const REACTION: u16 = 7;
/// Generic repost (NIP-18).
pub const GENERIC_REPOST: u16 = 16;
/// Request to vanish (NIP-62).
pub const VANISH: u16 = 62;
/// Gift wrap (NIP-59), served to its recipient only.
pub const GIFT_WRAP: u16 = 1059;
/// What somebody with an account here has done, such as to sign in: made by this relay alone, and shown to those only whom
/// the account has chosen. No NIP and no list of kinds has the number. It is a regular one, as each of them counts, and
/// not that of statuses (30315, NIP-38): those are everybody's, and of each only the last is kept.
pub const ACTIVITY: u16 = 4227;
/// Whom somebody does not want to hear of (NIP-51), replaceable.
pub const MUTE_LIST: u16 = 10_000;
/// The relays that somebody writes on and reads from (NIP-65), replaceable.
pub const RELAY_LIST: u16 = 10_002;
/// Ephemeral gift wrap (NIP-59), delivered to its recipient only and never stored.
pub const EPHEMERAL_GIFT_WRAP: u16 = 21059;
/// Authentication (NIP-42), never stored and never sent on.
pub const AUTH: u16 = 22242;
/// Who asks by HTTP (NIP-98).
pub const HTTP_AUTH: u16 = 27_235;

/// What NIP-01 says a relay keeps of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Every event is kept. Kinds that no range of NIP-01 names count as regular.
    Regular,
    /// The newest event of each author and kind is kept.
    Replaceable,
    /// Sent on, never kept.
    Ephemeral,
    /// The newest event of each author, kind and `d` tag is kept.
    Addressable,
}

/// The class of `kind` by the ranges of NIP-01.
pub fn class(kind: u16) -> Class {
    match kind {
        0 | 3 | 10_000..=19_999 => Class::Replaceable,
        20_000..=29_999 => Class::Ephemeral,
        30_000..=39_999 => Class::Addressable,
        _ => Class::Regular,
    }
}

/// Whether a filter must name the kind to match its events: who asks for everything does not mean these.
pub fn must_be_named(kind: u16) -> bool {
    kind == ACTIVITY
}

/// Whether events of this kind are for their author and the `p`-tagged only (NIP-17, NIP-59).
pub fn is_private(kind: u16) -> bool {
    matches!(kind, DIRECT_MESSAGE | GIFT_WRAP | EPHEMERAL_GIFT_WRAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_nip_01() {
        for (kind, expected) in [
            (0, Class::Replaceable),
            (1, Class::Regular),
            (3, Class::Replaceable),
            (9_999, Class::Regular),
            (10_000, Class::Replaceable),
            (19_999, Class::Replaceable),
            (20_000, Class::Ephemeral),
            (29_999, Class::Ephemeral),
            (30_000, Class::Addressable),
            (39_999, Class::Addressable),
            (40_000, Class::Regular),
        ] {
            assert_eq!(class(kind), expected, "kind {kind}");
        }
    }
}

//! People whose keys this relay keeps.

use serde::{Deserialize, Serialize};

use super::setting::{HOUR, section, whole};

section! {
    /// Accounts: people whose keys this relay keeps, and who sign in by a name and a password. Their keys are sealed under
    /// the key in `master_key_file`.
    Accounts {
        /// Whether this node is asked about accounts. With the embedded store there are accounts where the master key is, or
        /// can be made; with the cluster store where `master_key_file` names it. There, a node for which this is false still
        /// takes their tokens and carries their sockets.
        enabled: fixed bool = true,
        /// Who may sign up: "everybody", whoever has an "invitation", or nobody ("closed"). "auto": everybody where `listen`
        /// is an address of loopback and no `url` is set, and by invitation elsewhere.
        open: fixed SignUp = SignUp::Auto,
        /// Whether passwords may be among those that are used most, such as 1234567890.
        weak: fixed bool = false,
        /// Threads that hash passwords, each for a moment and with 19 MiB. 0: half as many as there are cores.
        hash_threads: fixed usize = 0 => whole(0, 256),
        /// Passwords that may wait to be hashed; beyond, whoever signs in is asked to come again.
        hash_waiting: fixed usize = 64 => whole(1, 1 << 16),
        /// Days for which a browser stays signed in that is not used.
        session_days: fixed u64 = 30 => whole(1, 365),
        /// Minutes for which a token of a program is good that is not used.
        token_minutes: fixed u64 = 60 => whole(1, 365 * 24 * 60),
        /// Sessions of an account; beyond, the one ends that would have ended first.
        max_sessions: fixed usize = 100 => whole(1, 1_000),
        /// Milliseconds for which a session that was found good is taken for good without being read again.
        session_cache_ms: fixed u64 = 1_000 => whole(0, 60_000),
        /// Accounts of which sessions are remembered so.
        session_cache: fixed usize = 65_536 => whole(1, 1 << 24),
        /// Seconds between looks whether the session of a socket is still good, if nobody says before that it has ended.
        socket_check_seconds: fixed u64 = 30 => whole(1, HOUR),
        /// Seconds for which a socket stays signed in while the store can not say so.
        socket_grace_seconds: fixed u64 = 60 => whole(0, HOUR),
        /// Wrong passwords that an address (of IPv6, one /64 network) may send at once, at this node.
        address_guesses: fixed u32 = 50 => whole(1, 1 << 24),
        /// Wrong passwords for one account that strangers may send at once, at this node; and that each address and browser
        /// may send that has signed in to it before. So strangers lock nobody out who is known; others wait.
        account_guesses: fixed u32 = 10 => whole(1, 1 << 24),
        /// Seconds after which another wrong password may be sent.
        guess_seconds: fixed u64 = 60 => whole(1, 24 * HOUR),
        /// Addresses and accounts of which guesses are remembered.
        guesses_remembered: fixed usize = 65_536 => whole(16, 1 << 24),
        /// Accounts that an address may make an hour, at this node.
        address_sign_ups: fixed u32 = 5 => whole(1, 1 << 24),
        /// Accounts that may be made a day, at this node.
        sign_ups: fixed u32 = 1_000 => whole(1, 1 << 24),
        /// Days for which the name of an account that is gone is given to nobody.
        name_days: fixed u64 = 365 => whole(1, 3_650),
        /// How often a minute the follow list of an account may be changed, at all nodes together.
        follow_changes_per_minute: fixed usize = 30 => whole(1, 60),
        /// Follow lists of an account that are kept, to be taken back, beside the one that stands.
        follow_versions: fixed usize = 10 => whole(1, 100),
        /// Most bytes of what a request to `/v1` says.
        max_body_bytes: fixed usize = 256 * 1024 => whole(1_024, 1 << 30),
        /// Seconds that such a request may take, its body included.
        request_seconds: fixed u64 = 30 => whole(1, HOUR),
    }
}

/// Who may sign up: see [`Accounts::open`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignUp {
    Auto,
    Everybody,
    Invitation,
    Closed,
}

//! File descriptors: as many as the system allows, and some kept back.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for the store, logs, listeners, and sockets that are answered 503.
const RESERVE: u64 = 256;

/// What the start found.
#[derive(Debug, Clone, Copy)]
pub struct Descriptors {
    /// The soft limit now; `None`: no limit.
    pub limit: Option<u64>,
    /// How many sockets fit.
    pub sockets: usize,
}

/// Raises the soft limit to the hard one.
pub fn raise_descriptor_limit() -> Descriptors {
    let before = getrlimit(Resource::Nofile);
    // Refused (a sandbox may do that), the limit stays what it was.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum });
    let limit = getrlimit(Resource::Nofile).current;
    let sockets = limit.map_or(usize::MAX, |limit| {
        let reserve = RESERVE.min(limit / 2);
        usize::try_from(limit - reserve).unwrap_or(usize::MAX)
    });
    Descriptors { limit, sockets }
}

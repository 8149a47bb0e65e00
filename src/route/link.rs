//! What a session and the router of its thread share: how far the client lags, and the way to end
//! its connection from outside.

use std::{
    os::fd::{BorrowedFd, RawFd},
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
};

use rustix::net::{Shutdown, shutdown};

/// Shared by one session and its router, both on the same thread; atomic only because messages
/// between actors must be `Send`.
#[derive(Debug)]
pub struct ClientLink {
    /// Bytes of live events that wait in the session's mailbox.
    lag_bytes: AtomicUsize,
    /// The socket; `CLOSED` once the session has stopped.
    fd: AtomicI32,
}

const CLOSED: RawFd = -1;

impl ClientLink {
    pub fn new(fd: RawFd) -> Self {
        Self { lag_bytes: AtomicUsize::new(0), fd: AtomicI32::new(fd) }
    }

    /// Adds to the lag, and says how large it is now.
    pub fn lag(&self, bytes: usize) -> usize {
        self.lag_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Takes from the lag what the session has handled.
    pub fn catch_up(&self, bytes: usize) {
        self.lag_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The session has stopped: its descriptor may soon belong to somebody else.
    pub fn close(&self) {
        self.fd.store(CLOSED, Ordering::Relaxed);
    }

    /// Ends the connection in both directions. The server then finds it closed and stops the session.
    pub fn shut_down(&self) {
        self.shut(Shutdown::Both);
    }

    /// Lets the server find the end of what the client says. It ends the connection when all is sent, and
    /// does not wait for the client to end its side.
    pub fn stop_reading(&self) {
        self.shut(Shutdown::Read);
    }

    #[expect(unsafe_code, reason = "a descriptor held by number, so that a socket costs only one")]
    fn shut(&self, direction: Shutdown) {
        let fd = self.fd.load(Ordering::Relaxed);
        if fd == CLOSED {
            return;
        }
        // SAFETY: `close` is called when the session stops, which is before the socket is closed,
        // and on the thread on which this is called; so the descriptor still is that socket.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        // An error means that the other side was faster.
        let _ = shutdown(socket, direction);
    }
}

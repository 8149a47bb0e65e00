//! What a command says beside its output.

use std::{
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Writes a line to the standard error, and does not wait for long: one that is full, because nobody reads it, keeps no
/// process from its work or its end.
pub fn say(line: &str) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let text = format!("{line}\n");
    let (done, said) = mpsc::channel();
    thread::spawn(move || {
        // Closed, there is nobody to tell.
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    });
    let _ = said.recv_timeout(PATIENCE);
}

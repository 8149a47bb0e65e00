//! Waits for the wish that a command ends: Ctrl-C, or SIGTERM.

use std::io;

use tokio::{
    select,
    signal::unix::{SignalKind, signal},
};

/// Ends when the user (Ctrl-C) or the system (SIGTERM) wants the command to end.
pub async fn interrupted() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

//! The end of a command that somebody wants.

use std::io;

use tokio::{
    select,
    signal::unix::{SignalKind, signal},
};

/// Resolves when the user or the system wants the command to end.
pub async fn interrupted() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

//! Events on standard output: one JSON a line for programs; time, name and text for people.
//!
//! A reader that goes away (`| head`) is a normal end, never an error.

use std::{
    io::{self, ErrorKind, IsTerminal, Stdout, Write},
    os::fd::AsFd,
};

use tokio::{io::Interest, net::unix::pipe};

use super::{
    names::Names,
    source::EventSource,
    terminal::{columns, pad, shown_json, wrap},
    time,
};
use crate::{
    client::shown,
    protocol::{Event, Filter},
};

/// The kind of text notes (NIP-01).
const NOTE: u16 = 1;

/// Writes events to standard output.
pub struct Printer {
    out: Stdout,
    json: bool,
    is_terminal: bool,
    names: Names,
}

impl Printer {
    /// JSON where it is asked for, or where nobody looks.
    pub fn new(json: bool) -> Self {
        let out = io::stdout();
        let is_terminal = out.is_terminal();
        Self { json: json || !is_terminal, is_terminal, out, names: Names::default() }
    }

    /// Asks what the authors of these events are called, if people are to read it.
    pub async fn look_up(&mut self, events: &[Event], source: impl FnOnce(Filter) -> EventSource) {
        if !self.json {
            self.names.look_up(events, source).await;
        }
    }

    /// Whether the author's name would be shown and was never asked for.
    pub fn wants_name_of(&self, event: &Event) -> bool {
        !self.json && !self.names.knows(&event.pubkey())
    }

    /// Writes an event, and says whether anyone still reads.
    pub fn print(&mut self, event: &Event) -> io::Result<bool> {
        let line = match self.json {
            true if self.is_terminal => format!("{}\n", shown_json(event.json())),
            true => format!("{}\n", event.json()),
            false => {
                self.names.learn(event);
                let line = readable(event, &self.names.of(&event.pubkey()));
                // Asked each time: windows are made wider and narrower.
                columns(&self.out).map_or(line.clone(), |columns| wrap(&line, columns)) + "\n"
            }
        };
        let mut out = self.out.lock();
        match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Resolves once nobody reads standard output any more; never where that cannot be told.
pub async fn reader_gone() {
    let watched = io::stdout().as_fd().try_clone_to_owned();
    // Standard output may be anything, and is only watched here, never written to. A plain file cannot be watched.
    if let Ok(watched) = watched.and_then(|fd| pipe::Sender::from_file_unchecked(fd.into()))
        && watched.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Columns of a name.
const NAME: usize = 22;

/// Time, name and text; the kind where it is no note.
fn readable(event: &Event, name: &str) -> String {
    let at = time::format(event.created_at());
    let kind = match event.kind() {
        NOTE => String::new(),
        kind => format!("[kind {kind}] "),
    };
    format!("{at}  {}  {kind}{}", pad(name, NAME), shown(&event.content()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sign::Keys;

    #[test]
    fn a_readable_line_is_one_line() {
        let event = Keys::generate().sign(0, 1, Default::default(), "a\nb \"c\" \u{1b}[2J");
        assert_eq!(event.content(), "a\nb \"c\" \u{1b}[2J");
        let line = readable(&event, "alice …zkq2");
        assert_eq!(line, "1970-01-01 00:00:00  alice …zkq2             a b \"c\"  [2J");
        let event = Keys::generate().sign(0, 7, Default::default(), "+");
        assert!(readable(&event, "alice").ends_with("  [kind 7] +"));
    }
}

//! Events on standard output: one JSON a line for programs, one readable line for people.
//!
//! A reader that goes away (`| head`) is a normal end, never an error.

use std::{
    borrow::Cow,
    io::{self, ErrorKind, IsTerminal, Stdout, Write},
    os::fd::AsFd,
};

use serde::Deserialize;
use tokio::{io::Interest, net::unix::pipe};

use super::{client::shown, time};
use crate::protocol::{Event, nip19};

/// Writes events to standard output.
pub struct Printer {
    out: Stdout,
    json: bool,
}

impl Printer {
    /// JSON where it is asked for, or where nobody looks.
    pub fn new(json: bool) -> Self {
        let out = io::stdout();
        Self { json: json || !out.is_terminal(), out }
    }

    /// Writes one line, and says whether anyone still reads.
    pub fn print(&mut self, event: &Event) -> io::Result<bool> {
        let line = if self.json { format!("{}\n", event.json()) } else { readable(event) };
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
    // Whatever it is, it is only watched, never written to here. A plain file cannot be watched.
    if let Ok(watched) = watched.and_then(|fd| pipe::Sender::from_file_unchecked(fd.into()))
        && watched.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// The text of an event.
pub fn content(event: &Event) -> Cow<'_, str> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        content: Cow<'a, str>,
    }
    serde_json::from_str(event.json()).map_or(Cow::Borrowed(""), |Content { content }| content)
}

fn readable(event: &Event) -> String {
    let npub = nip19::npub(&event.pubkey());
    let author = format!("{}…{}", &npub[..12], &npub[npub.len() - 4..]);
    let (at, kind) = (time::format(event.created_at()), event.kind());
    format!("{at}  {author}  kind {kind:<5}  {}\n", shown(&content(event)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sign::Keys;

    #[test]
    fn a_readable_line_is_one_line() {
        let event = Keys::generate().sign(0, 1, Default::default(), "a\nb \"c\" \u{1b}[2J");
        assert_eq!(content(&event), "a\nb \"c\" \u{1b}[2J");
        let line = readable(&event);
        assert!(line.starts_with("1970-01-01 00:00:00  npub1"), "{line}");
        assert!(line.ends_with("  kind 1      a b \"c\"  [2J\n"), "{line:?}");
    }
}

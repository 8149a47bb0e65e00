//! The log on its way to standard error: whoever has something to say leaves the line, and a thread of its own
//! writes it. Standard error may be a pipe that nobody empties, and no client is to wait for that.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing_subscriber::fmt::MakeWriter;

/// How long the end of the process waits for lines to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines are left. Those that find no room are lost, and counted.
#[derive(Clone)]
pub struct LogLines {
    lines: Sender<Message>,
    lost: LostLines,
}

/// Lines that were lost.
#[derive(Debug, Clone, Default)]
pub struct LostLines(Arc<AtomicU64>);

/// Writes what is left in the log when it is dropped.
pub struct Flushed(pub LogLines);

enum Message {
    Line(Vec<u8>),
    /// Everything before it is written.
    Written(Sender<()>),
}

impl LogLines {
    /// Starts the thread. So many lines may wait.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(room: usize, to: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = bounded(room.max(1));
        thread::Builder::new().name("log".into()).spawn(move || write(&waiting, to))?;
        Ok(Self { lines, lost: LostLines::default() })
    }

    pub fn lost(&self) -> &LostLines {
        &self.lost
    }

    /// Waits until what was said is written, or a second.
    pub fn flush(&self) {
        let (written, is_written) = bounded(1);
        // Either fails where nothing is written any more.
        if self.lines.send_timeout(Message::Written(written), PATIENCE).is_ok() {
            let _ = is_written.recv_timeout(PATIENCE);
        }
    }
}

impl LostLines {
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Flushed {
    fn drop(&mut self) {
        self.0.flush();
    }
}

impl Write for &LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.0.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

fn write(waiting: &Receiver<Message>, mut to: impl Write) {
    for message in waiting {
        match message {
            // There is nobody left to be told of an error.
            Message::Line(line) => drop(to.write_all(&line)),
            // Whoever asked may have gone on.
            Message::Written(written) => drop(written.send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    /// Takes a line when it may.
    struct Slow {
        may: mpsc::Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.may.recv();
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_speaks_waits_for_nobody() {
        let (allow, may) = mpsc::channel();
        let taken = Arc::<Mutex<Vec<u8>>>::default();
        let log = LogLines::start(4, Slow { may, taken: Arc::clone(&taken) }).unwrap();
        for n in 0..100 {
            // Whole lines, as whoever formats the log writes them.
            (&log).write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        let lost = log.lost().count();
        assert!((95..=96).contains(&lost), "four wait, and one may be on its way: {lost}");
        drop(allow);
        drop(Flushed(log.clone()));
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("line 0\nline 1\nline 2\nline 3\n"), "{text}");
        assert_eq!(text.lines().count() as u64, 100 - lost);
    }
}

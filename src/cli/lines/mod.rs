//! The lines of a file or of standard input: bounded, decompressed where the first bytes say gzip or
//! zstd, with their place in the uncompressed stream.

mod event;
mod format;
mod place;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context, ensure};
use flate2::read::MultiGzDecoder;
use tokio::sync::mpsc;

pub use self::{
    event::event_json,
    format::Format,
    place::{Marks, Place},
};

/// Longest line taken, in bytes. Relays take less.
pub const MAX_LINE_BYTES: usize = 4 << 20;
/// Lines handed over at once: at most this many, or this many bytes and one line.
const BATCH_LINES: usize = 256;
const BATCH_BYTES: usize = 256 << 10;
/// Batches read ahead.
const BATCHES_AHEAD: usize = 4;
const BUFFER_BYTES: usize = 128 << 10;

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// The place behind it.
    pub after: Place,
    pub text: Result<String, BadLine>,
    /// Whether a newline ended it, and not the end of the file.
    pub is_whole: bool,
}

impl Line {
    /// One that was read from no file, behind this place.
    pub fn made(text: String, before: Place) -> Self {
        Self { after: before.after(text.as_bytes(), text.len() + 1), text: Ok(text), is_whole: true }
    }

    /// Counted from 1.
    pub fn number(&self) -> u64 {
        self.after.line
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    #[error("the line is not UTF-8")]
    NotUtf8,
}

/// What the uncompressed text may begin with, and says nothing.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

pub struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    place: Place,
    /// Bytes of the file as it is stored, if it is a file.
    size: Option<u64>,
    read: Arc<AtomicU64>,
    format: Format,
    /// An error to be told after the lines that came before it.
    failure: Option<io::Error>,
}

/// Counts what is read of the stored bytes.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl Lines {
    /// Opens a file; `-` is standard input.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        if path.as_os_str() == "-" {
            return Self::new(io::stdin(), None).context("standard input can not be used");
        }
        let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let metadata = file.metadata()?;
        ensure!(!metadata.is_dir(), "{name} is a folder; name a file of JSON lines");
        let size = metadata.is_file().then_some(metadata.len());
        Self::new(file, size).with_context(|| format!("{name} can not be used"))
    }

    fn new(mut stream: impl Read + Send + 'static, size: Option<u64>) -> anyhow::Result<Self> {
        let head = first_bytes(&mut stream)?;
        let format = Format::of_first_bytes(&head)?;
        let read = Arc::new(AtomicU64::new(0));
        let stream = io::Cursor::new(head).chain(stream);
        let counted = Counted { inner: stream, read: Arc::clone(&read) };
        let stream: Box<dyn Read + Send> = match format {
            Format::Plain => Box::new(counted),
            Format::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, counted))),
            Format::Zstd => Box::new(zstd::Decoder::new(counted)?),
        };
        let reader = BufReader::with_capacity(BUFFER_BYTES, stream);
        Ok(Self { reader, place: Place::default(), size, read, format, failure: None })
    }

    /// Goes on to a place that an earlier reading gave, and says whether it is there: whether all that comes
    /// before it is what it was. That is read once more, which takes a fraction of what was done with it.
    pub fn skip_to(&mut self, place: Place) -> io::Result<bool> {
        while self.place.line < place.line && self.place.offset < place.offset {
            if self.next()?.is_none() {
                break;
            }
        }
        Ok(self.place == place)
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// The uncompressed stream from the next line on.
    pub fn into_reader(self) -> impl Read {
        self.reader
    }

    /// The size of the file as it is stored.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// How much of [`Self::size`] was read, to be looked at from elsewhere.
    pub fn read(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.read)
    }

    /// The next line; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Line>> {
        let mut text = Vec::new();
        let (mut length, mut is_whole) = (0, false);
        while !is_whole {
            let available = match self.reader.fill_buf() {
                Ok([]) => break,
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let newline = available.iter().position(|&byte| byte == b'\n');
            let taken = newline.map_or(available.len(), |at| at + 1);
            let room = MAX_LINE_BYTES + 1 - text.len();
            text.extend_from_slice(&available[..newline.unwrap_or(taken).min(room)]);
            is_whole = newline.is_some();
            length += taken;
            self.reader.consume(taken);
        }
        if length == 0 {
            return Ok(None);
        }
        let is_first = self.place.line == 0;
        self.place = self.place.after(&text, length);
        if is_first && text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len());
        }
        let text = if text.len() > MAX_LINE_BYTES {
            Err(BadLine::TooLong)
        } else {
            String::from_utf8(text).map_err(|_| BadLine::NotUtf8)
        };
        Ok(Some(Line { after: self.place, text, is_whole }))
    }

    /// Reads ahead on a thread of its own, so that a slow disk or pipe holds nobody up. The channel
    /// ends after the last line, or after an error.
    pub fn read_ahead(mut self) -> mpsc::Receiver<io::Result<Vec<Line>>> {
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        thread::spawn(move || {
            loop {
                let batch = self.next_batch();
                let is_end = !matches!(&batch, Ok(lines) if !lines.is_empty());
                let is_unwanted = sender.blocking_send(batch).is_err();
                if is_end || is_unwanted {
                    return;
                }
            }
        });
        receiver
    }

    /// Empty at the end.
    fn next_batch(&mut self) -> io::Result<Vec<Line>> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_LINES && bytes < BATCH_BYTES {
            match self.next() {
                Ok(Some(line)) => {
                    bytes += line.text.as_ref().map_or(0, String::len);
                    batch.push(line);
                }
                Ok(None) => break,
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
            // A pipe may have no more for now: hand on what there is.
            if self.reader.buffer().is_empty() {
                break;
            }
        }
        match self.failure.take_if(|_| batch.is_empty()) {
            Some(error) => Err(error),
            None => Ok(batch),
        }
    }
}

/// As many as tell the format.
fn first_bytes(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    stream.take(6).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn lines(bytes: impl Into<Vec<u8>>) -> Lines {
        Lines::new(io::Cursor::new(bytes.into()), None).unwrap()
    }

    /// The number of a line, where the next one begins, and the text.
    fn told(line: Option<Line>) -> Option<(u64, u64, String)> {
        line.map(|line| (line.number(), line.after.offset, line.text.unwrap()))
    }

    fn line(number: u64, end: u64, text: &str) -> Option<(u64, u64, String)> {
        Some((number, end, text.to_owned()))
    }

    const TEXT: &[u8] = b"one\n\ntwo two\nthree";

    fn packed(format: Format) -> Vec<u8> {
        match format {
            Format::Plain => TEXT.to_vec(),
            Format::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                writer.write_all(TEXT).unwrap();
                writer.finish().unwrap()
            }
            Format::Zstd => zstd::encode_all(TEXT, 0).unwrap(),
        }
    }

    #[test]
    fn knows_the_place_of_each_line_in_every_format() {
        for format in [Format::Plain, Format::Gzip, Format::Zstd] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            fs::write(&path, packed(format)).unwrap();
            let mut all = Lines::open(&path).unwrap();
            assert_eq!(told(all.next().unwrap()), line(1, 4, "one"));
            let second = all.next().unwrap().unwrap();
            let place = second.after;
            assert_eq!(told(Some(second)), line(2, 5, ""));
            assert_eq!(told(all.next().unwrap()), line(3, 13, "two two"));
            let last = all.next().unwrap().unwrap();
            assert!(!last.is_whole);
            assert_eq!(told(Some(last)), line(4, 18, "three"));
            assert_eq!(all.next().unwrap(), None);

            let mut rest = Lines::open(&path).unwrap();
            assert!(rest.skip_to(place).unwrap());
            assert_eq!(told(rest.next().unwrap()), line(3, 13, "two two"), "{format:?}");
        }
    }

    #[test]
    fn a_place_is_in_a_stream_that_begins_as_the_one_it_comes_from() {
        let mut read = lines(TEXT);
        let place = (0..3).map(|_| read.next().unwrap().unwrap().after).last().unwrap();
        // Appended to, it still begins so.
        for (text, is_there) in [
            (&b"one\n\ntwo two\nthree and more\n"[..], true),
            (b"one\n\ntwo two\n", true),
            (b"one\n\ntwo two", false),
            (b"one\n\ntwo owt\nthree", false),
            (b"eno\n\ntwo two\nthree", false),
            (b"one\n\n", false),
            (b"one and more\ntwo two\nthree", false),
            (b"", false),
        ] {
            assert_eq!(lines(text).skip_to(place).unwrap(), is_there, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        for text in ["\u{feff}one\n", "\u{feff}one"] {
            let mut lines = lines(text);
            assert_eq!(told(lines.next().unwrap()), line(1, text.len() as u64, "one"));
        }
    }

    #[test]
    fn bad_lines_do_not_hide_the_next() {
        let mut bytes = vec![b'x'; MAX_LINE_BYTES + 1];
        bytes.extend_from_slice(b"\n\xff\nok\n");
        let mut lines = lines(bytes);
        assert_eq!(lines.next().unwrap().unwrap().text, Err(BadLine::TooLong));
        assert_eq!(lines.next().unwrap().unwrap().text, Err(BadLine::NotUtf8));
        assert_eq!(lines.next().unwrap().unwrap().text, Ok("ok".to_owned()));
        assert!(self::lines("").next().unwrap().is_none());
    }

    #[test]
    fn a_torn_file_gives_what_it_holds_and_then_an_error() {
        let mut packed = packed(Format::Gzip);
        packed.truncate(packed.len() - 9);
        let mut batches = lines(packed).read_ahead();
        let mut read = 0;
        let error = loop {
            match batches.blocking_recv().expect("an error before the end") {
                Ok(lines) => read += lines.len(),
                Err(error) => break error,
            }
        };
        assert!(read >= 3, "{read} lines, then {error}");
    }
}

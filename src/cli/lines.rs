//! The lines of a file or of standard input: bounded, decompressed where the first bytes say gzip or
//! zstd, with their place in the uncompressed stream.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
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
    /// Counted from 1.
    pub number: u64,
    /// Where the next line begins in the uncompressed stream.
    pub end: u64,
    pub text: Result<String, BadLine>,
    /// Whether a newline ended it, and not the end of the file.
    pub is_whole: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    #[error("the line is not UTF-8")]
    NotUtf8,
}

/// A place between two lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Lines before it.
    pub line: u64,
    /// Bytes before it, of the uncompressed stream.
    pub offset: u64,
}

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

/// How a stream is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Plain,
    Gzip,
    Zstd,
}

impl Format {
    fn of_first_bytes(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// By the ending of the name: `.gz`, `.zst`.
    pub fn of_name(path: &Path) -> Self {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => Self::Gzip,
            Some("zst" | "zstd") => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

impl Lines {
    /// Opens a file; `-` is standard input. Begins at `from`, which has to be a place that an earlier
    /// reading of the same file gave.
    pub fn open(path: &Path, from: Place) -> anyhow::Result<Self> {
        let name = path.display();
        if path.as_os_str() == "-" {
            return Ok(Self::new(io::stdin(), None)?);
        }
        let mut file = File::open(path).with_context(|| format!("cannot open {name}"))?;
        let metadata = file.metadata()?;
        ensure!(!metadata.is_dir(), "{name} is a folder; name a file of JSON lines");
        let size = metadata.is_file().then_some(metadata.len());
        let head = first_bytes(&mut file)?;
        let shorter = || format!("{name} is shorter than it was; begin again with --restart");
        if from.offset > 0 && size.is_some() && Format::of_first_bytes(&head) == Format::Plain {
            ensure!(size >= Some(from.offset), shorter());
            file.seek(SeekFrom::Start(from.offset))?;
            let mut lines = Self::of_format(Format::Plain, file, size)?;
            lines.read.store(from.offset, Ordering::Relaxed);
            lines.place = from;
            return Ok(lines);
        }
        let format = Format::of_first_bytes(&head);
        let mut lines = Self::of_format(format, io::Cursor::new(head).chain(file), size)?;
        let skipped = io::copy(&mut (&mut lines.reader).take(from.offset), &mut io::sink())
            .with_context(|| format!("cannot read {name}"))?;
        ensure!(skipped == from.offset, shorter());
        lines.place = from;
        Ok(lines)
    }

    fn new(mut stream: impl Read + Send + 'static, size: Option<u64>) -> io::Result<Self> {
        let head = first_bytes(&mut stream)?;
        Self::of_format(Format::of_first_bytes(&head), io::Cursor::new(head).chain(stream), size)
    }

    fn of_format(format: Format, stream: impl Read + Send + 'static, size: Option<u64>) -> io::Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: stream, read: Arc::clone(&read) };
        let stream: Box<dyn Read + Send> = match format {
            Format::Plain => Box::new(counted),
            Format::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, counted))),
            Format::Zstd => Box::new(zstd::Decoder::new(counted)?),
        };
        let reader = BufReader::with_capacity(BUFFER_BYTES, stream);
        Ok(Self { reader, place: Place::default(), size, read, format, failure: None })
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
            if text.len() <= MAX_LINE_BYTES {
                text.extend_from_slice(&available[..newline.unwrap_or(taken)]);
            }
            is_whole = newline.is_some();
            length += taken;
            self.reader.consume(taken);
        }
        if length == 0 {
            return Ok(None);
        }
        self.place = Place { line: self.place.line + 1, offset: self.place.offset + length as u64 };
        let text = if text.len() > MAX_LINE_BYTES {
            Err(BadLine::TooLong)
        } else {
            String::from_utf8(text).map_err(|_| BadLine::NotUtf8)
        };
        Ok(Some(Line { number: self.place.line, end: self.place.offset, text, is_whole }))
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
    stream.take(4).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn lines(bytes: impl Into<Vec<u8>>) -> Lines {
        Lines::new(io::Cursor::new(bytes.into()), None).unwrap()
    }

    fn line(number: u64, end: u64, text: &str) -> Line {
        Line { number, end, text: Ok(text.to_owned()), is_whole: true }
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
            let mut all = Lines::open(&path, Place::default()).unwrap();
            assert_eq!(all.next().unwrap(), Some(line(1, 4, "one")));
            assert_eq!(all.next().unwrap(), Some(line(2, 5, "")));
            assert_eq!(all.next().unwrap(), Some(line(3, 13, "two two")));
            let last = Line { is_whole: false, ..line(4, 18, "three") };
            assert_eq!(all.next().unwrap(), Some(last));
            assert_eq!(all.next().unwrap(), None);

            let mut rest = Lines::open(&path, Place { line: 2, offset: 5 }).unwrap();
            assert_eq!(rest.next().unwrap(), Some(line(3, 13, "two two")), "{format:?}");
            let error = Lines::open(&path, Place { line: 9, offset: 99 }).err().unwrap();
            assert!(error.to_string().contains("--restart"), "{error}");
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

//! The file that an export writes: packed by its ending, never overwritten, and gone on with below
//! its oldest complete second.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, IsTerminal, Read, Seek, SeekFrom, Stdout, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, anyhow, ensure};
use flate2::write::GzEncoder;

use super::bookmark::{Doubt, Notes};
use crate::{
    cli::{
        bookmark::with_ending,
        lines::{Format, Lines, Place},
        terminal::shown_json,
    },
    protocol::{ParsedEvent, Timestamp},
};

/// The mode of an export: nobody else reads it.
const OWNER_ONLY: u32 = 0o600;

/// Level 3: the default of zstd, faster than a relay sends.
const ZSTD_LEVEL: i32 = 3;

/// The file, or standard output, and how far it is written.
pub struct Output {
    writer: Writer,
    is_terminal: bool,
    place: Place,
}

enum Writer {
    Stdout(BufWriter<Stdout>),
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

/// What an unfinished file holds that needs not be fetched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Up to the first line of its oldest second, which may not be complete.
    pub place: Place,
    /// That second: where to go on. `None` for a file without events.
    pub until: Option<Timestamp>,
    format: Format,
}

impl Output {
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        Self { writer: Writer::Stdout(BufWriter::new(stdout)), is_terminal, place: Place::default() }
    }

    /// # Errors
    /// The file exists, or cannot be written.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        match to_write().create_new(true).open(path) {
            Ok(file) => Self::at_the_start(path, file),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(path)),
            Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }

    /// Begins a file, whatever was in it: nothing that anybody would miss.
    ///
    /// # Errors
    /// It can not be written.
    pub fn begin(path: &Path) -> anyhow::Result<Self> {
        let file = to_write().create(true).truncate(true).open(path);
        Self::at_the_start(path, file.with_context(|| format!("cannot write {}", path.display()))?)
    }

    fn at_the_start(path: &Path, file: File) -> anyhow::Result<Self> {
        let writer = Writer::new(Format::of_name(path), file)?;
        Ok(Self { writer, is_terminal: false, place: Place::default() })
    }

    /// Opens an unfinished export so that what is written next stands behind what is kept.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn go_on(path: &Path, kept: Kept) -> anyhow::Result<Self> {
        let writer = match kept {
            Kept { until: None, .. } => return Self::begin(path),
            Kept { format: Format::Plain, place, .. } => append(path, place),
            Kept { format, place, .. } => repack(path, format, place),
        };
        let writer = writer.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { writer, is_terminal: false, place: kept.place })
    }

    /// All before it is written.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The place behind this line, once it is written.
    pub fn place_after(&self, line: &str) -> Place {
        self.place.after(line.as_bytes(), line.len() + 1)
    }

    pub fn write_line(&mut self, line: &str) -> io::Result<()> {
        let shown = if self.is_terminal { shown_json(line) } else { Cow::Borrowed(line) };
        let out = self.writer.writer();
        out.write_all(shown.as_bytes())?;
        out.write_all(b"\n")?;
        self.place = self.place_after(line);
        Ok(())
    }

    /// Hands on what was written, so that a reader can unpack it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.writer().flush()
    }

    /// Flushes, and waits until it is on the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        match &self.writer {
            Writer::Stdout(_) => Ok(()),
            Writer::Plain(out) => out.get_ref().sync_data(),
            Writer::Gzip(out) => out.get_ref().get_ref().sync_data(),
            Writer::Zstd(out) => out.get_ref().get_ref().sync_data(),
        }
    }

    /// Completes the file, and waits until it is on the disk.
    pub fn finish(self) -> io::Result<()> {
        let mut file = match self.writer {
            Writer::Stdout(mut out) => return out.flush(),
            Writer::Plain(file) => file,
            Writer::Gzip(encoder) => encoder.finish()?,
            Writer::Zstd(encoder) => encoder.finish()?,
        };
        file.flush()?;
        file.get_ref().sync_all()
    }
}

/// What is wrong with a file that is there already.
pub fn exists(path: &Path) -> anyhow::Error {
    let name = path.display();
    anyhow!(
        "{name} exists and is not overwritten: --resume goes on with one that was cut short; else remove it first"
    )
}

/// Refuses a name that promises what is not written.
///
/// # Errors
/// Says which names there are.
pub fn check_ending(path: &Path) -> anyhow::Result<()> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ensure!(
        !["bz2", "xz", "lz4", "zip", "br", "7z"].contains(&ending),
        "cannot write .{ending}: a name in .gz or .zst is packed, any other is plain JSON"
    );
    Ok(())
}

impl Writer {
    fn new(format: Format, file: File) -> io::Result<Self> {
        let file = BufWriter::new(file);
        Ok(match format {
            Format::Plain => Self::Plain(file),
            Format::Gzip => Self::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Format::Zstd => Self::Zstd(zstd::Encoder::new(file, ZSTD_LEVEL)?),
        })
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout(out) => out,
            Self::Plain(out) => out,
            Self::Gzip(out) => out,
            Self::Zstd(out) => out,
        }
    }
}

impl Kept {
    /// Looks through an unfinished export, and touches nothing: where its oldest second begins. A torn end is no
    /// part of it.
    ///
    /// # Errors
    /// A [`Doubt`] where it is not what the notes say, or the file can not be read.
    pub fn of(path: &Path, notes: &Notes) -> anyhow::Result<Self> {
        let mut lines = Lines::open(path)?;
        let mut kept = Self { place: Place::default(), until: None, format: lines.format() };
        let mut before = Place::default();
        loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                // The end of a packed file is missing; what came before it counts.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error.into()),
            };
            let doubt = |what| Doubt::OtherFile { line: line.number(), what };
            let text = line.text.as_deref().unwrap_or_default();
            if !line.is_whole {
                ensure!(is_begin_of_event(text), doubt("is no event"));
                break;
            }
            let is_noted = notes.marks.at(line.number()).is_none_or(|mark| mark == line.after);
            ensure!(is_noted, doubt("is not what was written, or one before it is not"));
            let event: ParsedEvent = serde_json::from_str(text).map_err(|_| doubt("is no event"))?;
            let created_at = event.created_at;
            // No mark covers what was written last; that it was asked for has to do.
            let is_wanted = || notes.filter().matches(&event.trust());
            ensure!(!notes.marks.end_before(line.number()) || is_wanted(), doubt("was not asked for"));
            let is_in_order = kept.until.is_none_or(|until| created_at <= until);
            ensure!(is_in_order, doubt("is newer than the one before; an export is newest first"));
            if kept.until != Some(created_at) {
                kept = Self { place: before, until: Some(created_at), ..kept };
            }
            before = line.after;
        }
        Ok(kept)
    }
}

/// Whether an event may have been cut off here.
fn is_begin_of_event(text: &str) -> bool {
    const BEGIN: &str = r#"{"id":""#;
    text.starts_with(BEGIN) || BEGIN.starts_with(text)
}

fn to_write() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Private events may be among them.
    options.write(true).mode(OWNER_ONLY);
    options
}

fn append(path: &Path, from: Place) -> io::Result<Writer> {
    let mut file = to_write().open(path)?;
    file.set_len(from.offset)?;
    file.seek(SeekFrom::End(0))?;
    Writer::new(Format::Plain, file)
}

/// A packed stream cannot be cut in the middle: what is kept is packed anew, in a file that takes the
/// place of the old one only when it holds as much.
fn repack(path: &Path, format: Format, until: Place) -> io::Result<Writer> {
    let draft = with_ending(path, ".rookery-new");
    let mut writer = Writer::new(format, to_write().create(true).truncate(true).open(&draft)?)?;
    let mut old = Lines::open(path).map_err(io::Error::other)?.into_reader().take(until.offset);
    io::copy(&mut old, writer.writer())?;
    writer.writer().flush()?;
    fs::rename(&draft, path)?;
    Ok(writer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sign::Keys;

    fn event(created_at: u64) -> String {
        Keys::generate().sign(created_at, 1, Default::default(), "").json().to_owned()
    }

    fn read(path: &Path) -> Vec<u64> {
        let mut lines = Lines::open(path).unwrap();
        let mut read = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            read.push(serde_json::from_str::<ParsedEvent>(&line.text.unwrap()).unwrap().created_at);
        }
        read
    }

    /// Writes events of these seconds, and notes it: the first line, and the place after so many lines.
    fn write(path: &Path, times: &[u64], noted: usize) -> Notes {
        let mut output = Output::create(path).unwrap();
        let mut notes = Notes::of_all();
        for (index, created_at) in times.iter().enumerate() {
            output.write_line(&event(*created_at)).unwrap();
            output.flush().unwrap();
            if index == 0 || index + 1 == noted {
                notes.marks.note(output.place());
            }
        }
        output.finish().unwrap();
        notes
    }

    #[test]
    fn goes_on_below_the_oldest_complete_second() {
        for (ending, noted) in ["jsonl", "jsonl.gz", "jsonl.zst"].iter().flat_map(|it| [(it, 1), (it, 4)]) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(format!("out.{ending}"));
            let notes = write(&path, &[9, 8, 8, 7, 7], noted);
            // As if it had been killed: the end is missing.
            let bytes = fs::read(&path).unwrap();
            let torn = if *ending == "jsonl" { 20 } else { 3 };
            fs::write(&path, &bytes[..bytes.len() - torn]).unwrap();

            let kept = Kept::of(&path, &notes).unwrap();
            assert_eq!((kept.place.line, kept.until), (3, Some(7)), "{ending}");
            let mut output = Output::go_on(&path, kept).unwrap();
            output.write_line(&event(7)).unwrap();
            let place = output.place();
            output.finish().unwrap();
            assert_eq!(read(&path), [9, 8, 8, 7], "{ending}");
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
            // Places are those that a reader of the whole file sees.
            assert!(Lines::open(&path).unwrap().skip_to(place).unwrap());
        }
    }

    #[test]
    fn never_overwrites_and_goes_on_with_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let notes = write(&path, &[5, 4], 2);
        let good = fs::read_to_string(&path).unwrap();
        let first = good.lines().next().unwrap();
        for (text, expected) in [
            (format!("{good}{}\n", event(6)), "line 3 is newer"),
            (format!("{good}my diary\n"), "line 3 is no event"),
            (format!("{good}my diary"), "line 3 is no event"),
            ("my diary".to_owned(), "line 1 is no event"),
            (format!("{}\n{}\n", event(5), event(4)), "line 1 is not what was written"),
            (format!("{first}\n{}\n", event(4)), "line 2 is not what was written"),
            (format!("{good}{}\n", event(0)), "line 3 was not asked for"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = Output::create(&path).err().unwrap().to_string();
            assert!(error.contains("--resume"), "{error}");
            let error = Kept::of(&path, &notes).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for (text, kept) in
            [("", 0), (&first[..30], 0), (r#"{"id"#, 0), (&good[..good.len() - 1], 0), (&good, 1)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(Kept::of(&path, &notes).unwrap().place.line, kept, "{text}");
        }
    }
}

//! The file that an export writes: packed by its ending, never overwritten, and gone on with below
//! its oldest complete second.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Stdout, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use flate2::write::GzEncoder;

use crate::{
    cli::lines::{Format, Lines, Place},
    protocol::{ParsedEvent, Timestamp},
};

/// Whoever exports reads and writes the file, nobody else.
const OWNER_ONLY: u32 = 0o600;

/// Level 3: the default of zstd, faster than a relay sends.
const ZSTD_LEVEL: i32 = 3;

pub enum Output {
    Stdout(BufWriter<Stdout>),
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

/// What an unfinished file holds that needs not be fetched again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Up to the first line of its oldest second, which may not be complete.
    place: Place,
    /// That second: where to go on. `None` for a file without events.
    pub until: Option<Timestamp>,
}

impl Kept {
    pub fn events(&self) -> u64 {
        self.place.line
    }
}

impl Output {
    pub fn stdout() -> Self {
        Self::Stdout(BufWriter::new(io::stdout()))
    }

    /// # Errors
    /// The file exists, or cannot be written.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        // Private events may be among them.
        match OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path) {
            Ok(file) => Ok(Self::packed(Format::of_name(path), file)?),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let name = path.display();
                bail!("{name} exists and is not overwritten: --resume goes on with it, or remove it first")
            }
            Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }

    /// Opens an unfinished export so that what is written next stands behind what is kept.
    ///
    /// # Errors
    /// It is no export, or cannot be read or written.
    pub fn resume(path: &Path) -> anyhow::Result<(Self, Kept)> {
        let name = path.display();
        let lines = Lines::open(path)?;
        let format = lines.format();
        let kept = scan(lines).with_context(|| format!("cannot go on with {name}"))?;
        let opened = if kept.until.is_none() {
            File::create(path)
                .and_then(|file| Self::packed(Format::of_name(path), file))
                .map_err(anyhow::Error::from)
        } else if format == Format::Plain {
            append(path, kept.place)
        } else {
            repack(path, format, kept.place)
        };
        Ok((opened.with_context(|| format!("cannot write {name}"))?, kept))
    }

    fn packed(format: Format, file: File) -> io::Result<Self> {
        let file = BufWriter::new(file);
        Ok(match format {
            Format::Plain => Self::Plain(file),
            Format::Gzip => Self::Gzip(GzEncoder::new(file, flate2::Compression::default())),
            Format::Zstd => Self::Zstd(zstd::Encoder::new(file, ZSTD_LEVEL)?),
        })
    }

    /// Completes the file, and waits until it is on the disk.
    pub fn finish(self) -> io::Result<()> {
        let mut file = match self {
            Self::Stdout(mut out) => return out.flush(),
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        file.flush()?;
        file.get_ref().sync_all()
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

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}

/// Finds where the oldest second of an export begins. A torn end is no part of it.
fn scan(mut lines: Lines) -> anyhow::Result<Kept> {
    let mut kept = Kept::default();
    let mut before = Place::default();
    loop {
        let line = match lines.next() {
            Ok(Some(line)) if line.is_whole => line,
            Ok(_) => break,
            // The end of a packed file is missing; what came before it counts.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.into()),
        };
        let event = line
            .text
            .as_ref()
            .ok()
            .and_then(|text| Some(serde_json::from_str::<ParsedEvent>(text).ok()?.created_at));
        let Some(created_at) = event else {
            bail!("line {} is no event", line.number());
        };
        if kept.until.is_some_and(|until| created_at > until) {
            bail!("line {} is newer than the one before; an export is newest first", line.number());
        }
        if kept.until != Some(created_at) {
            kept = Kept { place: before, until: Some(created_at) };
        }
        before = line.after;
    }
    Ok(kept)
}

fn append(path: &Path, from: Place) -> anyhow::Result<Output> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.set_len(from.offset)?;
    file.seek(SeekFrom::End(0))?;
    Ok(Output::packed(Format::Plain, file)?)
}

/// A packed stream cannot be cut in the middle: what is kept is packed anew, in a file that takes the
/// place of the old one only when it holds as much.
fn repack(path: &Path, format: Format, until: Place) -> anyhow::Result<Output> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let draft = PathBuf::from(name);
    let create =
        |path| OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(path);
    let mut output = Output::packed(format, create(&draft)?)?;
    let mut old = Lines::open(path)?.into_reader().take(until.offset);
    io::copy(&mut old, &mut output)?;
    output.flush()?;
    fs::rename(&draft, path)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sign::Keys;

    fn event(created_at: u64) -> String {
        format!("{}\n", Keys::generate().sign(created_at, 1, Default::default(), "").json())
    }

    fn read(path: &Path) -> Vec<u64> {
        let mut lines = Lines::open(path).unwrap();
        let mut read = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            read.push(serde_json::from_str::<ParsedEvent>(&line.text.unwrap()).unwrap().created_at);
        }
        read
    }

    #[test]
    fn goes_on_below_the_oldest_complete_second() {
        for ending in ["jsonl", "jsonl.gz", "jsonl.zst"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(format!("out.{ending}"));
            let mut output = Output::create(&path).unwrap();
            for created_at in [9, 8, 8, 7, 7] {
                output.write_all(event(created_at).as_bytes()).unwrap();
                output.flush().unwrap();
            }
            output.finish().unwrap();
            // As if it had been killed: the end is missing.
            let bytes = fs::read(&path).unwrap();
            let torn = if ending == "jsonl" { 20 } else { 3 };
            fs::write(&path, &bytes[..bytes.len() - torn]).unwrap();

            let (mut output, kept) = Output::resume(&path).unwrap();
            assert_eq!((kept.events(), kept.until), (3, Some(7)), "{ending}");
            output.write_all(event(7).as_bytes()).unwrap();
            output.finish().unwrap();
            assert_eq!(read(&path), [9, 8, 8, 7], "{ending}");
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        }
    }

    #[test]
    fn never_overwrites_and_touches_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        for (text, expected) in [
            (format!("{}{}", event(1), event(2)), "line 2 is newer"),
            ("my diary\n".to_owned(), "line 1 is no event"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = Output::create(&path).err().unwrap().to_string();
            assert!(error.contains("--resume"), "{error}");
            let error = format!("{:#}", Output::resume(&path).err().unwrap());
            assert!(error.contains(expected), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        fs::write(&path, "").unwrap();
        assert_eq!(Output::resume(&path).unwrap().1, Kept::default());
    }
}

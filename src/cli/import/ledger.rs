//! What became of each line: counts by reason, the file of rejects, and how far everything is
//! answered, so that an import that was cut short goes on from there.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{
        client::shown,
        lines::{Line, Place},
        progress::duration,
    },
    protocol::reply,
};

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There was nothing on it.
    Empty,
    Accepted,
    /// Where it goes, it was already.
    Duplicate,
    Refused(String),
}

/// A line whose verdict is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Entry {
    after: Place,
    is_settled: bool,
}

/// What the progress file holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    /// Where the lines went: what one relay has acknowledged says nothing of another.
    target: String,
    line: u64,
    offset: u64,
}

#[derive(Debug)]
pub struct Ledger {
    target: String,
    progress_file: Option<PathBuf>,
    rejects: Option<BufWriter<File>>,
    /// All lines before this are settled.
    done: Place,
    saved: Place,
    /// The lines from `done` on; the first has the ticket `first`.
    entries: VecDeque<Entry>,
    first: u64,
    accepted: u64,
    duplicates: u64,
    /// By prefix: how many, and the first, as an example.
    refused: BTreeMap<String, (u64, String)>,
}

impl Ledger {
    /// `input`: the file, unless it is standard input. With `restart`, earlier progress is forgotten.
    ///
    /// # Errors
    /// The progress belongs to another target, or a file cannot be read or written.
    pub fn open(
        input: Option<&Path>,
        target: &str,
        restart: bool,
        rejects: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let progress_file = input.map(progress_file);
        let done = match &progress_file {
            Some(path) if !restart => load(path, target)?,
            _ => Place::default(),
        };
        let rejects = rejects.map(|path| {
            let mut options = OpenOptions::new();
            options.create(true).write(true).append(done.line > 0).truncate(done.line == 0);
            let file = options.open(path).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok(BufWriter::new(file))
        });
        Ok(Self {
            target: target.to_owned(),
            progress_file,
            rejects: rejects.transpose()?,
            done,
            saved: done,
            entries: VecDeque::new(),
            first: 0,
            accepted: 0,
            duplicates: 0,
            refused: BTreeMap::new(),
        })
    }

    /// Where to go on.
    pub fn done(&self) -> Place {
        self.done
    }

    /// Lines settled in this run that held something.
    pub fn answered(&self) -> u64 {
        self.accepted + self.duplicates + self.refused()
    }

    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    pub fn refused(&self) -> u64 {
        self.refused.values().map(|(count, _)| count).sum()
    }

    /// Takes a line in. Lines come in order; verdicts need not.
    pub fn enter(&mut self, line: &Line) -> Ticket {
        let after = Place { line: line.number, offset: line.end };
        self.entries.push_back(Entry { after, is_settled: false });
        Ticket(self.first + self.entries.len() as u64 - 1)
    }

    /// Notes what became of a line, once. `text` is the line, for the file of rejects.
    pub fn settle(&mut self, ticket: Ticket, verdict: Verdict, text: &str) -> io::Result<()> {
        let Some(entry) = self.entries.get_mut((ticket.0 - self.first) as usize) else {
            return Ok(());
        };
        entry.is_settled = true;
        let number = entry.after.line;
        match verdict {
            Verdict::Empty => {}
            Verdict::Accepted => self.accepted += 1,
            Verdict::Duplicate => self.duplicates += 1,
            Verdict::Refused(reason) => {
                let reason = shown(&reason);
                if let Some(rejects) = &mut self.rejects {
                    writeln!(rejects, "{number}\t{reason}\t{text}")?;
                }
                let prefix = match reply::prefix(&reason) {
                    "" => "other",
                    prefix => prefix,
                };
                let example = || (0, format!("line {number}: {reason}"));
                self.refused.entry(prefix.to_owned()).or_insert_with(example).0 += 1;
            }
        }
        while let Some(entry) = self.entries.front().filter(|entry| entry.is_settled) {
            self.done = entry.after;
            self.entries.pop_front();
            self.first += 1;
        }
        Ok(())
    }

    /// Writes the progress down, if there is any.
    pub fn save(&mut self) -> anyhow::Result<()> {
        // The rejects first: progress must not get ahead of them.
        if let Some(rejects) = &mut self.rejects {
            rejects.flush().context("cannot write the rejects")?;
        }
        let Some(path) = self.progress_file.as_ref().filter(|_| self.done != self.saved) else {
            return Ok(());
        };
        let Place { line, offset } = self.done;
        let saved = serde_json::to_string(&Saved { target: self.target.clone(), line, offset })?;
        // A rename is all or nothing; a torn progress file would be worse than an old one.
        let draft = with_ending(path, ".new");
        fs::write(&draft, saved + "\n")
            .and_then(|()| fs::rename(&draft, path))
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.saved = self.done;
        Ok(())
    }

    /// Everything is answered: nothing is left to go on with.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.save()?;
        match self.progress_file.as_ref().map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context("cannot remove the progress file")
            }
            _ => Ok(()),
        }
    }

    /// The outcome for people.
    pub fn report(&self, elapsed: Duration) -> String {
        let rate = self.answered() as f64 / elapsed.as_secs_f64().max(0.001);
        let mut text = format!(
            "accepted {}, known already {}, refused {}; {} ({rate:.0}/s)",
            self.accepted,
            self.duplicates,
            self.refused(),
            duration(elapsed)
        );
        for (prefix, (count, example)) in &self.refused {
            text += &format!("\n  {count} refused as {prefix}; the first: {example}");
        }
        text
    }
}

/// `FILE.rookery-progress`.
pub fn progress_file(input: &Path) -> PathBuf {
    with_ending(input, ".rookery-progress")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn load(path: &Path, target: &str) -> anyhow::Result<Place> {
    let name = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::default()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
    };
    let saved: Saved = serde_json::from_str(&text)
        .with_context(|| format!("{name} is damaged; begin again with --restart"))?;
    if saved.target != target {
        bail!(
            "{name} is about an import into {}; finish that one, or begin this with --restart",
            saved.target
        );
    }
    Ok(Place { line: saved.line, offset: saved.offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> Line {
        Line { number, end: number * 10, text: Ok("x".into()), is_whole: true }
    }

    #[test]
    fn progress_never_passes_a_line_without_a_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let (input, rejects) = (folder.path().join("a.jsonl"), folder.path().join("rejects"));
        let open = |target: &str, restart| Ledger::open(Some(&input), target, restart, Some(&rejects));
        let mut ledger = open("ws://a", false).unwrap();
        let tickets: Vec<_> = (1..=4).map(|number| ledger.enter(&line(number))).collect();
        ledger.settle(tickets[1], Verdict::Refused("invalid: \u{7}bad".into()), "the line").unwrap();
        ledger.settle(tickets[2], Verdict::Duplicate, "").unwrap();
        assert_eq!(ledger.done(), Place::default());
        ledger.settle(tickets[0], Verdict::Accepted, "").unwrap();
        assert_eq!(ledger.done(), Place { line: 3, offset: 30 });
        ledger.save().unwrap();
        assert_eq!(fs::read_to_string(&rejects).unwrap(), "2\tinvalid:  bad\tthe line\n");
        let report = ledger.report(Duration::from_secs(3));
        assert_eq!(
            report,
            "accepted 1, known already 1, refused 1; 3 s (1/s)\n  1 refused as invalid; the first: line 2: invalid:  bad"
        );
        drop(ledger);

        let error = open("ws://b", false).unwrap_err().to_string();
        assert!(error.contains("into ws://a") && error.contains("--restart"), "{error}");
        assert_eq!(open("ws://b", true).unwrap().done(), Place::default());
        let mut again = open("ws://a", false).unwrap();
        assert_eq!(again.done(), Place { line: 3, offset: 30 });
        let ticket = again.enter(&line(4));
        again.settle(ticket, Verdict::Empty, "").unwrap();
        again.finish().unwrap();
        assert!(!progress_file(&input).exists());
    }

    #[test]
    fn a_damaged_progress_file_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("a.jsonl");
        fs::write(progress_file(&input), "{").unwrap();
        let error = Ledger::open(Some(&input), "x", false, None).unwrap_err().to_string();
        assert!(error.contains("--restart"), "{error}");
    }
}

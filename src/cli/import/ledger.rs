//! What became of each line: counts by reason, the file of rejects, and how far everything is
//! answered, so that an import that was cut short goes on from there.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use anyhow::Context;

use super::bookmark::{Notes, Rejects};
use crate::{
    cli::{
        bookmark::Bookmark,
        holder::Holder,
        lines::{Line, Place},
        progress::duration,
    },
    client::shown,
    protocol::{EventId, Identity, reply},
};

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There was nothing on it.
    Empty,
    Accepted,
    /// The target had it already.
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
    /// What stands of it in the file of rejects, once everything before it is settled.
    reject: Option<String>,
}

/// The file of rejects: those of the lines before `done`, and no others, so that whoever goes on adds what is missing.
#[derive(Debug)]
struct RejectsFile {
    file: BufWriter<File>,
    noted: Rejects,
}

impl RejectsFile {
    /// What a run that was cut short wrote behind its last bookmark comes again.
    fn open(path: &Path, is_resumed: bool, noted: Option<Rejects>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        // Private events may be among them.
        options.mode(0o600);
        options.create(true).write(true).append(is_resumed).truncate(!is_resumed);
        let file = options.open(path)?;
        let mut bytes = file.metadata()?.len();
        if let Some(noted) = noted
            && noted.path == path
            && noted.bytes < bytes
        {
            file.set_len(noted.bytes)?;
            bytes = noted.bytes;
        }
        Ok(Self { file: BufWriter::new(file), noted: Rejects { path: path.to_owned(), bytes } })
    }

    fn add(&mut self, line: &str) -> io::Result<()> {
        self.noted.bytes += line.len() as u64;
        self.file.write_all(line.as_bytes())
    }
}

/// Events that a bookmark names; of so many, some are there after days, whatever was deleted since.
const WITNESSES: usize = 16;

#[derive(Debug)]
pub struct Ledger {
    target: Holder,
    /// `None` where the lines can not be read again.
    bookmark: Option<Bookmark>,
    /// The events that were taken last, and should be found.
    witnesses: VecDeque<EventId>,
    rejects: Option<RejectsFile>,
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
    /// Goes on where an earlier run was. `bookmark`: where to note how far it is, unless nowhere.
    ///
    /// # Errors
    /// The rejects cannot be written.
    pub fn open(
        target: Holder,
        bookmark: Option<Bookmark>,
        earlier: Option<Notes>,
        rejects: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let nothing = Notes { target, done: Place::default(), witnesses: Vec::new(), rejects: None };
        let Notes { target, done, witnesses, rejects: noted } = earlier.unwrap_or(nothing);
        let rejects = rejects.map(|path| {
            RejectsFile::open(path, done.line > 0, noted)
                .with_context(|| format!("cannot write {}", path.display()))
        });
        Ok(Self {
            target,
            bookmark,
            witnesses: witnesses.into(),
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

    /// Which store the target has, once it has told.
    pub fn store(&mut self) -> &mut Option<Identity> {
        &mut self.target.store
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
        self.entries.push_back(Entry { after: line.after, is_settled: false, reject: None });
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
                if self.rejects.is_some() {
                    entry.reject = Some(format!("{number}\t{reason}\t{text}\n"));
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
            if let (Some(rejects), Some(line)) = (&mut self.rejects, &entry.reject) {
                rejects.add(line)?;
            }
            self.entries.pop_front();
            self.first += 1;
        }
        Ok(())
    }

    /// Notes that the target has this event now, and that anybody may ask it for it.
    pub fn witness(&mut self, id: EventId) {
        if self.witnesses.len() == WITNESSES {
            self.witnesses.pop_front();
        }
        self.witnesses.push_back(id);
    }

    /// Writes the bookmark, if there is progress. Where it can not be written, the import goes on without.
    pub fn save(&mut self) -> anyhow::Result<()> {
        // The rejects first: progress must not get ahead of them.
        if let Some(rejects) = &mut self.rejects {
            rejects.file.flush().context("cannot write the rejects")?;
        }
        let Some(bookmark) = self.bookmark.as_mut().filter(|_| self.done != self.saved) else {
            return Ok(());
        };
        let witnesses = self.witnesses.iter().copied().collect();
        let rejects = self.rejects.as_ref().map(|rejects| rejects.noted.clone());
        let notes = Notes { target: self.target.clone(), done: self.done, witnesses, rejects };
        bookmark.note(&notes, "this import can only begin anew if it is cut short");
        self.saved = self.done;
        Ok(())
    }

    /// Where the bookmark is that tells how far everything is answered, if it tells anything.
    pub fn bookmark(&self) -> Option<&Path> {
        let told = self.bookmark.as_ref().filter(|bookmark| self.saved.line > 0 && !bookmark.is_lost());
        told.map(Bookmark::path)
    }

    /// Everything is answered: nothing is left to go on with.
    pub fn finish(mut self) -> anyhow::Result<()> {
        if let Some(rejects) = &mut self.rejects {
            rejects.file.flush().context("cannot write the rejects")?;
        }
        if let Some(bookmark) = self.bookmark {
            bookmark.remove();
        }
        Ok(())
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
        for reason in self.reasons() {
            text += &format!("\n  {reason}");
        }
        text
    }

    /// Why events were refused, and how many.
    pub fn reasons(&self) -> impl Iterator<Item = String> {
        self.refused
            .iter()
            .map(|(prefix, (count, example))| format!("{count} refused as {prefix}; the first: {example}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::lines::Lines;

    fn relay() -> Holder {
        Holder { name: "ws://a".into(), store: None }
    }

    #[test]
    fn progress_never_passes_a_line_without_a_verdict() {
        let folder = tempfile::tempdir().unwrap();
        let bookmark = Bookmark::beside(&folder.path().join("input"), ".bookmark");
        let rejects = folder.path().join("rejects");
        let input = folder.path().join("input");
        fs::write(&input, "x\n".repeat(4)).unwrap();
        let mut input = Lines::open(&input).unwrap();
        let lines: Vec<Line> = std::iter::from_fn(|| input.next().unwrap()).collect();

        let open = |earlier| Ledger::open(relay(), Some(bookmark.clone()), earlier, Some(&rejects)).unwrap();
        let mut ledger = open(None);
        let tickets: Vec<_> = lines.iter().map(|line| ledger.enter(line)).collect();
        ledger.settle(tickets[1], Verdict::Refused("invalid: \u{7}bad".into()), "the line").unwrap();
        ledger.settle(tickets[2], Verdict::Duplicate, "").unwrap();
        assert_eq!(ledger.done(), Place::default());
        ledger.settle(tickets[0], Verdict::Accepted, "").unwrap();
        assert_eq!(ledger.done(), lines[2].after);
        for n in 0..20 {
            ledger.witness(EventId([n; 32]));
        }
        ledger.save().unwrap();
        assert_eq!(fs::read_to_string(&rejects).unwrap(), "2\tinvalid:  bad\tthe line\n");
        let report = ledger.report(Duration::from_secs(3));
        assert_eq!(
            report,
            "accepted 1, known already 1, refused 1; 3 s (1/s)\n  1 refused as invalid; the first: line 2: invalid:  bad"
        );
        drop(ledger);

        let notes = Notes::load(&bookmark).unwrap().unwrap();
        assert_eq!(notes.done, lines[2].after);
        assert_eq!(notes.witnesses, (4..20).map(|n| EventId([n; 32])).collect::<Vec<_>>());
        let mut again = open(Some(notes));
        let ticket = again.enter(&lines[3]);
        again.settle(ticket, Verdict::Empty, "").unwrap();
        again.finish().unwrap();
        assert!(!bookmark.path().exists());
    }

    #[test]
    fn a_reject_stands_once_whatever_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let (input, rejects) = (folder.path().join("input"), folder.path().join("rejects"));
        let bookmark = Bookmark::beside(&input, ".bookmark");
        fs::write(&input, "x\n".repeat(4)).unwrap();
        let mut input = Lines::open(&input).unwrap();
        let lines: Vec<Line> = std::iter::from_fn(|| input.next().unwrap()).collect();
        let refused = || Verdict::Refused("invalid: bad".into());

        let mut ledger = Ledger::open(relay(), Some(bookmark.clone()), None, Some(&rejects)).unwrap();
        let tickets: Vec<_> = lines.iter().map(|line| ledger.enter(line)).collect();
        ledger.settle(tickets[0], refused(), "0").unwrap();
        // This one comes again, as the one before it has no answer.
        ledger.settle(tickets[2], refused(), "2").unwrap();
        ledger.save().unwrap();
        assert_eq!(fs::read_to_string(&rejects).unwrap(), "1\tinvalid: bad\t0\n");
        // Written, and then the process is killed before it has noted so.
        ledger.settle(tickets[1], refused(), "1").unwrap();
        drop(ledger);
        assert_eq!(fs::read_to_string(&rejects).unwrap().lines().count(), 3);

        let notes = Notes::load(&bookmark).unwrap();
        let mut again = Ledger::open(relay(), Some(bookmark), notes, Some(&rejects)).unwrap();
        for (line, text) in lines[1..].iter().zip(["1", "2", "3"]) {
            let ticket = again.enter(line);
            again.settle(ticket, refused(), text).unwrap();
        }
        again.finish().unwrap();
        let all: String = (0..4).map(|n| format!("{}\tinvalid: bad\t{n}\n", n + 1)).collect();
        assert_eq!(fs::read_to_string(&rejects).unwrap(), all);
    }

    #[test]
    fn without_a_place_for_the_bookmark_it_goes_on() {
        let bookmark = Bookmark::beside(Path::new("/proc/nowhere/input"), ".bookmark");
        let mut ledger = Ledger::open(relay(), Some(bookmark), None, None).unwrap();
        let mut input = Lines::open(Path::new("/proc/self/status")).unwrap();
        let ticket = ledger.enter(&input.next().unwrap().unwrap());
        ledger.settle(ticket, Verdict::Accepted, "").unwrap();
        ledger.save().unwrap();
        assert_eq!(ledger.bookmark(), None);
        ledger.finish().unwrap();
    }
}

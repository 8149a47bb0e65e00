//! `rookery export`: all events that match flags into a file or standard output, newest first, one
//! JSON a line; may be cut short at any moment, and goes on where it was.

mod bookmark;
mod output;

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use tokio::select;

use self::{
    bookmark::{Asked, Keeper, Notes, beside},
    output::{Kept, Output, check_ending, exists},
};
use super::{
    filter_flags::FilterFlags,
    folder::{DataFlag, FolderPages},
    holder::Holder,
    interrupt::interrupted,
    output::reader_gone,
    progress::{Progress, duration},
    relay_flag::RelayFlag,
    run_async,
    secret::KeyFlags,
    source::EventSource,
    time,
};
use crate::{
    client::{Endpoint, PAGE},
    protocol::{Event, Filter, Timestamp, nip19},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Writes each event once, newest first; a name that ends in .gz or .zst says how it is packed. What it is \
about is kept in FILE.rookery-export until it is complete, so one that was cut short goes on: the same \
command with --resume. That it does with the same source, flags and file only.

Example:  rookery export backup.jsonl.zst --relay wss://relay.example.com --since 2026-01-01
          rookery export --data ./rookery-data | gzip > all.jsonl.gz   (a relay may run on it)")]
pub struct ExportArgs {
    /// File to write; - is standard output
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Go on with a FILE that is not complete, if this is the command that began it
    #[arg(long)]
    resume: bool,
    /// Stop after this many events
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Check ids and signatures, and leave out what is wrong (an import does that too)
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    data: DataFlag,
    #[command(flatten)]
    relay: RelayFlag,
    #[command(flatten)]
    key: KeyFlags,
    #[command(flatten)]
    filter: FilterFlags,
}

/// An export that was cut short, found to be what is asked for.
struct Earlier {
    notes: Notes,
    kept: Kept,
}

struct Export {
    output: Output,
    /// `None` for standard output, which can not be gone on with.
    keeper: Option<Keeper>,
    file: Option<PathBuf>,
    is_new: bool,
    written: u64,
    limit: u64,
    oldest: Option<Timestamp>,
    progress: Progress,
}

pub fn run(args: ExportArgs) -> anyhow::Result<()> {
    let file = (args.file != Path::new("-")).then_some(args.file.clone());
    if args.resume && file.is_none() {
        bail!("--resume needs the name of the FILE to go on with");
    }
    // Before a key is asked for, or a relay.
    if let Some(path) = file.as_deref().filter(|path| !args.resume && path.exists()) {
        return Err(exists(path));
    }
    if let Some(path) = &file {
        check_ending(path)?;
    }
    let keys = if args.data.data.is_some() { None } else { args.key.load()? };
    let asked = Asked {
        filter: args.filter.written(),
        verify: args.verify,
        reader: keys.as_ref().map(|keys| nip19::npub(&keys.public_key())),
    };
    let earlier = match &file {
        Some(path) if args.resume && holds_anything(path) => {
            let name = path.display();
            Some(Earlier::find(path, &asked).with_context(|| format!("cannot go on with {name}"))?)
        }
        _ => None,
    };
    let filter = earlier.as_ref().map_or(args.filter.filter(), |earlier| earlier.notes.filter().clone());
    let until = earlier.as_ref().and_then(|earlier| earlier.kept.until);
    let rest = Filter { until: filter.until.into_iter().chain(until).min(), ..filter.clone() };
    let source = match &args.data.data {
        Some(folder) => EventSource::Folder(FolderPages::open(folder, args.data.load()?, rest)?),
        None => {
            let endpoint = Endpoint { verify: args.verify, ..args.relay.endpoint(keys)? };
            EventSource::relay(endpoint, rest, PAGE)
        }
    };
    run_async(async {
        let mut source = source;
        let holder = source.holder().await?;
        let limit = args.limit.unwrap_or(u64::MAX);
        let mut export = match (file, earlier) {
            (Some(file), Some(earlier)) => Export::go_on(file, earlier, holder, limit)?,
            (Some(file), None) => {
                let output = if args.resume { Output::begin(&file) } else { Output::create(&file) };
                let keeper = Keeper::new(beside(&file), holder, asked, filter);
                Export::new(output?, Some(file), Some(keeper), limit)
            }
            (None, _) => Export::new(Output::stdout(), None, None, limit),
        };
        let outcome = select! {
            outcome = export.run(source) => outcome,
            pressed = interrupted() => match pressed {
                Ok(()) => Err(anyhow!("interrupted")),
                Err(error) => Err(error.into()),
            },
            () = reader_gone() => Ok(()),
        };
        export.finish(outcome)
    })
}

/// Whether there is a file, and something in it.
fn holds_anything(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

impl Earlier {
    fn find(file: &Path, asked: &Asked) -> anyhow::Result<Self> {
        let notes = Notes::load(&beside(file), asked)?;
        let kept = Kept::of(file, &notes)?;
        Ok(Self { notes, kept })
    }
}

impl Export {
    fn new(output: Output, file: Option<PathBuf>, keeper: Option<Keeper>, limit: u64) -> Self {
        let progress = Progress::new("exported", None);
        Self { output, keeper, file, is_new: true, written: 0, limit, oldest: None, progress }
    }

    fn go_on(file: PathBuf, earlier: Earlier, source: Holder, limit: u64) -> anyhow::Result<Self> {
        let Earlier { notes, kept } = earlier;
        let name = file.display();
        let keeper = Keeper::go_on(beside(&file), notes, source, kept.place)
            .with_context(|| format!("cannot go on with {name}"))?;
        let events = kept.place.line;
        eprintln!("going on after {events} events");
        let output = Output::go_on(&file, kept)?;
        let limit = limit.saturating_sub(events);
        Ok(Self { is_new: false, ..Self::new(output, Some(file), Some(keeper), limit) })
    }

    async fn run(&mut self, mut source: EventSource) -> anyhow::Result<()> {
        if self.progress.is_watched() {
            let estimate = source.estimate().await.map(|count| count.min(self.limit));
            self.progress = Progress::new("exported", estimate);
        }
        while self.written < self.limit {
            let Some(page) = source.next_page().await? else { break };
            if !self.write(&page).context("cannot write")? {
                return Ok(());
            }
        }
        if source.unusable() > 0 {
            eprintln!("left out {} events that are not valid or were not asked for", source.unusable());
        }
        source.close().await;
        Ok(())
    }

    /// Says whether anyone still reads.
    fn write(&mut self, page: &[Event]) -> io::Result<bool> {
        let wanted = usize::try_from(self.limit - self.written).unwrap_or(usize::MAX);
        let page = &page[..page.len().min(wanted)];
        if let (Some(keeper), Some(first)) = (&mut self.keeper, page.first())
            && keeper.is_blank()
        {
            keeper.note(self.output.place_after(first.json()));
        }
        let written = self.progress.aside(|| {
            for event in page {
                self.output.write_line(event.json())?;
                self.written += 1;
                self.oldest = Some(event.created_at());
            }
            self.output.flush()
        });
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            written => written?,
        }
        let place = self.output.place();
        if let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.is_due(place)) {
            // What is noted must not be lost with the machine.
            self.output.sync()?;
            keeper.note(place);
        }
        let back_to = self.oldest.map_or(String::new(), |at| format!(", back to {}", time::format(at)));
        self.progress.update(self.written, self.written, &back_to);
        Ok(true)
    }

    /// Completes the file, whatever happened, and tells how it went.
    fn finish(self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        self.progress.finish();
        let place = self.output.place();
        let finished = match self.output.finish() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            finished => finished.context("cannot complete the file"),
        };
        let is_whole = finished.is_ok();
        let took = duration(self.progress.elapsed());
        eprintln!("exported {} events in {took} ({}/s)", self.written, self.progress.rate());
        let outcome = outcome.and(finished);
        let (Some(file), Some(mut keeper)) = (self.file, self.keeper) else { return outcome };
        let Err(error) = outcome else {
            keeper.remove();
            return Ok(());
        };
        // Nothing is in it that could be gone on with.
        if self.is_new && self.written == 0 {
            let _ = fs::remove_file(file);
            keeper.remove();
            return Err(error);
        }
        if is_whole {
            keeper.note(place);
        }
        let name = file.display();
        Err(error.context(format!("{name} is not complete; the same command with --resume goes on")))
    }
}

//! `rookery export`: all events that match flags into a file or standard output, newest first, one
//! JSON a line; may be cut short at any moment, and goes on where it was.

mod output;

use std::{
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use tokio::select;

use self::output::{Kept, Output};
use super::{
    client::{Endpoint, RelayFlag},
    filter_flags::FilterFlags,
    folder::{DataFlag, FolderPages},
    output::reader_gone,
    pages::{PAGE, RelayPages},
    progress::{Progress, duration},
    run_async,
    secret::KeyFlags,
    source::Source,
    time,
    watch::interrupted,
};
use crate::protocol::{Event, Timestamp};

#[derive(Debug, Args)]
#[command(after_help = "\
Writes each event once, newest first; a name that ends in .gz or .zst says how it is packed. An export \
that was cut short goes on with --resume and the same flags.

Example:  rookery export backup.jsonl.zst --relay wss://relay.example.com --since 2026-01-01
          rookery export --data ./rookery-data | gzip > all.jsonl.gz   (a relay may run on it)")]
pub struct ExportArgs {
    /// File to write; - is standard output
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Go on with a FILE that is not complete, below its oldest complete second
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

struct Export {
    output: Output,
    is_new: bool,
    written: u64,
    limit: u64,
    oldest: Option<Timestamp>,
    progress: Progress,
}

pub fn run(args: ExportArgs) -> anyhow::Result<()> {
    let is_file = args.file != Path::new("-");
    if args.resume && !is_file {
        bail!("--resume needs the name of the FILE to go on with");
    }
    let (output, kept) = match is_file {
        false => (Output::stdout(), Kept::default()),
        true if args.resume && args.file.exists() => Output::resume(&args.file)?,
        true => (Output::create(&args.file)?, Kept::default()),
    };
    let mut filter = args.filter.filter();
    filter.until = filter.until.into_iter().chain(kept.until).min();
    if kept.events() > 0 {
        eprintln!("going on after {} events", kept.events());
    }
    let limit = args.limit.unwrap_or(u64::MAX).saturating_sub(kept.events());
    let source = match &args.data.data {
        Some(folder) => Source::Folder(FolderPages::open(folder, args.data.load()?, filter)?),
        None => {
            let endpoint = Endpoint { url: args.relay.relay, keys: args.key.load()? };
            Source::Relay(Box::new(RelayPages::new(endpoint, filter, PAGE, args.verify)))
        }
    };
    let progress = Progress::new("exported", None);
    let mut export =
        Export { output, is_new: kept.until.is_none(), written: 0, limit, oldest: None, progress };
    let outcome = run_async(async {
        select! {
            outcome = export.run(source) => outcome,
            pressed = interrupted() => {
                pressed?;
                bail!("interrupted")
            }
            () = reader_gone() => Ok(()),
        }
    });
    export.finish(outcome, is_file.then_some(&args.file))
}

impl Export {
    async fn run(&mut self, mut source: Source) -> anyhow::Result<()> {
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
        let written = self.progress.aside(|| {
            for event in page.iter().take(wanted) {
                writeln!(self.output, "{}", event.json())?;
                self.written += 1;
                self.oldest = Some(event.created_at());
            }
            self.output.flush()
        });
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            written => written?,
        }
        let back_to = self.oldest.map_or(String::new(), |at| format!(", back to {}", time::format(at)));
        self.progress.update(self.written, self.written, &back_to);
        Ok(true)
    }

    /// Completes the file, whatever happened, and tells how it went.
    fn finish(self, outcome: anyhow::Result<()>, file: Option<&PathBuf>) -> anyhow::Result<()> {
        self.progress.finish();
        match self.output.finish() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            finished => finished.context("cannot complete the file")?,
        }
        let took = duration(self.progress.elapsed());
        eprintln!("exported {} events in {took} ({}/s)", self.written, self.progress.rate());
        match (outcome, file) {
            // Nothing is in it that could be gone on with.
            (Err(error), Some(file)) if self.is_new && self.written == 0 => {
                let _ = std::fs::remove_file(file);
                Err(error)
            }
            (Err(error), Some(file)) => {
                let name = file.display();
                Err(error.context(format!("{name} is not complete; the same command with --resume goes on")))
            }
            (outcome, _) => outcome,
        }
    }
}

//! `rookery import`: events from a file or standard input into a relay; may be cut short at any
//! moment, and goes on where it was.

mod ledger;
mod upload;

use std::{
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::bail;
use clap::Args;
use tokio::select;

pub use self::ledger::{Ledger, Ticket, Verdict};
use self::{ledger::progress_file, upload::Upload};
use super::{
    client::{Endpoint, RelayFlag},
    folder::{DataFlag, FolderSink},
    lines::Lines,
    progress::Progress,
    run_async,
    secret::KeyFlags,
    watch::interrupted,
};

#[derive(Debug, Args)]
#[command(after_help = "\
FILE holds one event in JSON a line, as `rookery export` writes it; gzip and zstd are recognised.
What was answered is kept in FILE.rookery-progress until all is, so an import that was cut short goes
on where it was: run the same command again. Events that the relay has already do no harm.

Example:  rookery import events.jsonl.zst --relay ws://127.0.0.1:7777 --rejects rejected.tsv
          zcat dump.gz | rookery import --data ./rookery-data   (while no relay runs on it)")]
pub struct ImportArgs {
    /// File to read; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Begin at the first line, whatever earlier runs did
    #[arg(long)]
    restart: bool,
    /// Write what is refused to this file: line number, reason and line, separated by tabs
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Most events on their way without an answer
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    window: u16,
    #[command(flatten)]
    data: DataFlag,
    #[command(flatten)]
    relay: RelayFlag,
    #[command(flatten)]
    key: KeyFlags,
}

/// Where the lines go.
enum Sink {
    Relay { endpoint: Endpoint, window: usize },
    Folder { sink: FolderSink, name: String },
}

impl Sink {
    /// By which name the progress file knows it.
    fn name(&self) -> &str {
        match self {
            Self::Relay { endpoint, .. } => &endpoint.url,
            Self::Folder { name, .. } => name,
        }
    }

    /// Takes all lines; each gets its verdict in the ledger. `tick` wants to be called twice a second.
    async fn take(
        self,
        lines: Lines,
        ledger: &mut Ledger,
        tick: &mut dyn FnMut(&mut Ledger) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Relay { endpoint, window } => {
                Upload::new(endpoint, window, ledger, tick).run(lines.read_ahead()).await
            }
            Self::Folder { sink, .. } => sink.take(lines.read_ahead(), ledger, tick).await,
        }
    }
}

pub fn run(args: ImportArgs) -> anyhow::Result<()> {
    let file = (args.file != Path::new("-")).then_some(args.file.as_path());
    let sink = match &args.data.data {
        Some(folder) => Sink::Folder { sink: FolderSink::open(folder)?, name: folder.display().to_string() },
        None => {
            let endpoint = Endpoint { url: args.relay.relay, keys: args.key.load()? };
            Sink::Relay { endpoint, window: args.window.into() }
        }
    };
    if let Some(rejects) = &args.rejects
        && Some(rejects.as_path()) == file
    {
        bail!("--rejects would overwrite the input");
    }
    let mut ledger = Ledger::open(file, sink.name(), args.restart, args.rejects.as_deref())?;
    let lines = Lines::open(&args.file, ledger.done())?;
    if ledger.done().line > 0 {
        eprintln!("going on after line {}; --restart begins at the first", ledger.done().line);
    }

    let mut progress = Progress::new("imported", lines.size());
    let read = lines.read();
    let mut tick = |ledger: &mut Ledger| {
        let refused = format!(", {} refused", ledger.refused());
        progress.update(read.load(Ordering::Relaxed), ledger.answered(), &refused);
        ledger.save()
    };
    let outcome = run_async(async {
        select! {
            outcome = sink.take(lines, &mut ledger, &mut tick) => outcome,
            pressed = interrupted() => {
                pressed?;
                bail!("interrupted; run the same command again to go on")
            }
        }
    });
    progress.finish();
    eprintln!("{}", ledger.report(progress.elapsed()));
    if outcome.is_err() {
        ledger.save()?;
        if let Some(file) = file.filter(|_| ledger.done().line > 0) {
            let (line, kept) = (ledger.done().line, progress_file(file));
            eprintln!("answered up to line {line}, as {} says", kept.display());
        }
        return outcome;
    }
    ledger.finish()?;
    if ledger.refused() > 0 && ledger.accepted() + ledger.duplicates() == 0 {
        bail!("no event was accepted");
    }
    Ok(())
}

//! `rookery import`: events from a file or standard input into a relay; may be cut short at any
//! moment, and goes on where it was.

mod bookmark;
mod folder;
mod ledger;
mod upload;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use tokio::{select, sync::mpsc};

use self::{
    bookmark::{Doubt, Notes, beside},
    upload::Upload,
};
pub use self::{folder::FolderSink, ledger::Ledger};
use super::{
    bookmark::Bookmark,
    folder::{DataFlag, folder_name},
    holder::Holder,
    interrupt::interrupted,
    lines::{Line, Lines},
    progress::Progress,
    relay_flag::RelayFlag,
    run_async,
    secret::KeyFlags,
    source::EventSource,
};
use crate::{
    client::{ClientError, Endpoint},
    protocol::{
        Filter, Tags, event,
        filter::sorted,
        kind::{self, Class},
    },
};

#[derive(Debug, Args)]
#[command(after_help = "\
FILE holds one event in JSON a line, as `rookery export` writes it; gzip and zstd are recognised. \
What was answered is kept in FILE.rookery-progress until all is, so an import that was cut short goes \
on where it was: run the same command again. Events that the relay has already do no harm. What is \
refused is counted at the end; the exit code is 1 only if nothing was accepted, or it could not go on.

Example:  rookery import events.jsonl.zst --relay ws://127.0.0.1:7777 --rejects rejected.tsv
          zcat dump.gz | rookery import --data ./rookery-data   (while no relay runs on it)")]
pub struct ImportArgs {
    /// File to read; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Begin at the first line, whatever earlier runs did
    #[arg(long)]
    restart: bool,
    /// With --data: the URL of the relay whose folder it is, for requests to vanish that name it
    #[arg(long, requires = "data")]
    url: Option<String>,
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
pub enum Sink {
    Relay { endpoint: Box<Endpoint>, window: usize },
    Folder { sink: Box<FolderSink>, name: String },
}

impl Sink {
    /// What is known of the target before it is asked.
    pub fn target(&self) -> Holder {
        match self {
            Self::Relay { endpoint, .. } => Holder { name: endpoint.url.clone(), store: None },
            Self::Folder { sink, name } => Holder { name: name.clone(), store: Some(sink.identity()) },
        }
    }

    /// The target, if it is the one that was noted, and has what it took then.
    ///
    /// # Errors
    /// A [`Doubt`], or what is in the way of the import itself.
    async fn confirm(&self, noted: &Notes) -> anyhow::Result<Holder> {
        let ids = sorted(noted.witnesses.clone());
        let filter = Filter { ids: Some(ids), ..Filter::default() };
        let expect = |target: &Holder| {
            ensure!(noted.target.is(target), Doubt::OtherTarget(noted.target.clone()));
            Ok(())
        };
        let (target, has_any) = match self {
            Self::Folder { sink, .. } => {
                let target = self.target();
                expect(&target)?;
                (target, sink.has_any(filter).await?)
            }
            Self::Relay { endpoint, .. } => {
                let endpoint = Endpoint { verify: false, ..Endpoint::clone(endpoint) };
                let mut pages = EventSource::relay(endpoint, filter, noted.witnesses.len());
                let target = pages.holder().await?;
                expect(&target)?;
                let page = pages.next_page().await;
                pages.close().await;
                match page {
                    Ok(page) => (target, page.is_some()),
                    // Whoever can not be reached takes no events either; who takes them need not answer.
                    Err(error) if is_away(&error) => return Err(error),
                    Err(_) => (target, false),
                }
            }
        };
        ensure!(has_any, Doubt::Forgotten(target));
        Ok(target)
    }

    /// Takes all lines; each gets its verdict in the ledger. `tick` wants to be called twice a second.
    pub async fn take(
        &self,
        lines: mpsc::Receiver<io::Result<Vec<Line>>>,
        ledger: &mut Ledger,
        tick: &mut dyn FnMut(&mut Ledger) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Relay { endpoint, window } => {
                Upload::new(Endpoint::clone(endpoint), *window, ledger, tick).run(lines).await
            }
            Self::Folder { sink, .. } => sink.take(lines, ledger, tick).await,
        }
    }
}

fn is_away(error: &anyhow::Error) -> bool {
    use ClientError::{AuthRefused, NoKey, NoRelay, UnknownHost, Unreachable};
    let error = error.downcast_ref();
    matches!(error, Some(Unreachable { .. } | UnknownHost { .. } | NoRelay { .. } | NoKey | AuthRefused(_)))
}

/// Whether anybody may ask for such an event, as long as nobody deletes it.
pub fn is_witness(kind: u16, tags: &Tags) -> bool {
    kind::class(kind) != Class::Ephemeral && !kind::is_private(kind) && event::expiration(tags).is_none()
}

/// Goes to where an earlier run was, if it can be known that nothing would be missing.
///
/// # Errors
/// A [`Doubt`], or what is in the way of the import itself.
fn resume(bookmark: &Bookmark, sink: &Sink, lines: &mut Lines) -> anyhow::Result<Option<Notes>> {
    let Some(notes) = Notes::load(bookmark)? else { return Ok(None) };
    let is_there = lines.skip_to(notes.done).context("cannot read what was imported before")?;
    ensure!(is_there, Doubt::OtherFile);
    let target = run_async(sink.confirm(&notes))?;
    Ok(Some(Notes { target, ..notes }))
}

pub fn run(args: ImportArgs) -> anyhow::Result<()> {
    let file = (args.file != Path::new("-")).then_some(args.file.as_path());
    ensure!(
        file.is_some() || !io::stdin().is_terminal(),
        "there is nothing to read but the terminal: name a FILE, or give it events on standard input"
    );
    let mut knows_url = true;
    let sink = match &args.data.data {
        Some(folder) => {
            let mut config = args.data.load()?;
            if let Some(url) = args.url {
                config.general.url = url;
            }
            config.validate()?;
            knows_url = !config.general.url.is_empty();
            let sink = Box::new(FolderSink::open(folder, &config)?);
            Sink::Folder { sink, name: folder_name(folder) }
        }
        None => {
            let endpoint = args.relay.endpoint(args.key.load()?)?;
            Sink::Relay { endpoint: endpoint.into(), window: args.window.into() }
        }
    };
    if let Some(rejects) = &args.rejects
        && Some(rejects.as_path()) == file
    {
        bail!("--rejects would overwrite the input");
    }
    let mut lines = Lines::open(&args.file)?;
    // What is no file can not be read again.
    let bookmark = file.filter(|_| lines.size().is_some()).map(beside);
    let earlier = match &bookmark {
        Some(bookmark) if !args.restart => resume(bookmark, &sink, &mut lines).or_else(|error| {
            let doubt: Doubt = error.downcast()?;
            eprintln!(
                "{} does not count, so this begins at the first line: {doubt}",
                bookmark.path().display()
            );
            lines = Lines::open(&args.file)?;
            anyhow::Ok(None)
        })?,
        _ => None,
    };
    if let Some(Notes { done, .. }) = &earlier {
        eprintln!("going on after line {}; --restart begins at the first", done.line);
    }
    let mut ledger = Ledger::open(sink.target(), bookmark, earlier, args.rejects.as_deref())?;

    let mut progress = Progress::new("imported", lines.size());
    let read = lines.read();
    let mut tick = |ledger: &mut Ledger| {
        let refused = format!(", {} refused", ledger.refused());
        progress.update(read.load(Ordering::Relaxed), ledger.answered(), &refused);
        ledger.save()
    };
    let outcome = run_async(async {
        select! {
            outcome = sink.take(lines.read_ahead(), &mut ledger, &mut tick) => outcome,
            pressed = interrupted() => {
                pressed?;
                bail!("interrupted; run the same command again to go on")
            }
        }
    });
    progress.finish();
    eprintln!("{}", ledger.report(progress.elapsed()));
    if !knows_url && ledger.refused() > 0 {
        eprintln!("without --url, requests to vanish that name one relay are refused");
    }
    if outcome.is_err() {
        ledger.save()?;
        if let Some(kept) = ledger.bookmark() {
            eprintln!("answered up to line {}, as {} says", ledger.done().line, kept.display());
        }
        return outcome;
    }
    let nothing_accepted = ledger.refused() > 0 && ledger.accepted() + ledger.duplicates() == 0;
    ledger.finish()?;
    ensure!(!nothing_accepted, "no event was accepted");
    Ok(())
}

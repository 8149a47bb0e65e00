//! `rookery watch`: events as they happen, through lost connections.

use std::{
    io,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use lru::LruCache;
use tokio::{select, time::sleep};

use super::{
    backoff::Backoff,
    client::{ClientError, Connection, Endpoint, RelayFlag},
    filter_flags::FilterFlags,
    interrupt::interrupted,
    output::{Printer, reader_gone},
    pages::RelayPages,
    run_async,
    secret::KeyFlags,
    source::Source,
    terminal::shown,
    time,
};
use crate::protocol::{Event, EventId, Filter, Reply, reply, verify::Verifier};

const SUBSCRIPTION: &str = "watch";
/// Ids remembered so that an event is shown once, whatever is sent again after a lost connection.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(19_999);
/// Authors whose decoded keys are kept.
const HOT_AUTHORS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);
/// How far back a new connection asks: a dead one is noticed after 50 s, and clocks differ.
const OVERLAP_SECONDS: u64 = 120;
/// How often a name is asked for at most: many new authors at once are shown by their keys.
const ASK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = "\
Shows what is published from now on; --limit or --since show stored events first. A lost connection \
is opened again, and what was published meanwhile is shown (unless its author dated it back).

Example:  rookery watch --kind 1 --tag t=nostr --limit 10
          rookery watch --author npub1… | jq .content")]
pub struct WatchArgs {
    /// Show this many stored events first [default: 0, or all from --since on]
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Print JSON, one event a line; so it is anyway where the output is no terminal
    #[arg(long)]
    json: bool,
    /// End when the connection is lost
    #[arg(long)]
    no_reconnect: bool,
    #[command(flatten)]
    relay: RelayFlag,
    #[command(flatten)]
    key: KeyFlags,
    #[command(flatten)]
    filter: FilterFlags,
}

struct Watch {
    endpoint: Endpoint,
    filter: Filter,
    printer: Printer,
    shown: LruCache<EventId, ()>,
    verifier: Verifier,
    /// All stored events that were wanted are here.
    is_live: bool,
    backoff: Backoff,
    /// When an author's name was asked for.
    asked: Option<Instant>,
}

/// Why a connection is no longer used.
enum End {
    Lost(ClientError),
    /// Nobody reads the output any more.
    Unread,
}

pub fn run(args: WatchArgs) -> anyhow::Result<()> {
    let keys = args.key.load()?;
    let mut filter = args.filter.filter();
    let wants_stored = filter.since.is_some() || filter.until.is_some() || filter.ids.is_some();
    filter.limit = args.limit.or((!wants_stored).then_some(0));
    let mut watch = Watch {
        endpoint: Endpoint { url: args.relay.relay, keys },
        filter,
        printer: Printer::new(args.json),
        shown: LruCache::new(REMEMBERED),
        verifier: Verifier::new(HOT_AUTHORS),
        is_live: false,
        backoff: Backoff::default(),
        asked: None,
    };
    run_async(async {
        select! {
            ended = watch.run(!args.no_reconnect) => ended,
            ended = interrupted() => Ok(ended?),
            () = reader_gone() => Ok(()),
        }
    })
}

impl Watch {
    async fn run(&mut self, reconnect: bool) -> anyhow::Result<()> {
        // The first connection stands, or the user is told why not.
        let mut connected = self.endpoint.connect_identified().await;
        if let Err(error) = connected {
            return Err(error.into());
        }
        loop {
            let error = match connected {
                Ok(connection) => match self.listen(connection).await? {
                    End::Unread => return Ok(()),
                    End::Lost(error) => error,
                },
                Err(error) => error,
            };
            if !reconnect || !error.is_passing() {
                return Err(error.into());
            }
            let wait = self.backoff.next();
            eprintln!("{error}; trying again in {:.1} s", wait.as_secs_f32());
            sleep(wait).await;
            connected = self.endpoint.connect_identified().await;
        }
    }

    /// Shows what one connection brings.
    async fn listen(&mut self, mut connection: Connection) -> anyhow::Result<End> {
        let lost = |error| Ok(End::Lost(error));
        let request = format!(r#"["REQ","{SUBSCRIPTION}",{}]"#, serde_json::to_string(&self.filter)?);
        let (mut unsaid, mut authenticated) = (true, false);
        loop {
            if std::mem::take(&mut unsaid)
                && let Err(error) = connection.send(request.as_str()).await
            {
                return lost(error);
            }
            let text = match connection.receive().await {
                Ok(text) => text,
                Err(error) => {
                    self.resume_from_now();
                    return lost(error);
                }
            };
            match connection.read(&text) {
                Some(Reply::Event { subscription, event: Ok(event) }) if subscription == SUBSCRIPTION => {
                    if let Ok(event) = self.verifier.verify(*event)
                        && !self.show(&event).await?
                    {
                        return Ok(End::Unread);
                    }
                }
                Some(Reply::Eose { subscription, .. }) if subscription == SUBSCRIPTION => {
                    self.is_live = true;
                    self.backoff.reset();
                }
                Some(Reply::Closed { subscription, reason }) if subscription == SUBSCRIPTION => {
                    match reply::prefix(&reason) {
                        "auth-required" if !authenticated => {
                            if let Err(error) = connection.authenticate().await {
                                return lost(error);
                            }
                            (unsaid, authenticated) = (true, true);
                        }
                        "error" | "rate-limited" => {
                            self.resume_from_now();
                            return lost(ClientError::Busy(closed(&reason)));
                        }
                        _ => bail!(closed(&reason)),
                    }
                }
                _ => {}
            }
        }
    }

    /// Says whether anyone still reads.
    async fn show(&mut self, event: &Event) -> io::Result<bool> {
        if !self.filter.matches(event) || self.shown.put(event.id(), ()).is_some() {
            return Ok(true);
        }
        if self.printer.wants_name_of(event) && self.asked.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
            self.asked = Some(Instant::now());
            let endpoint = self.endpoint.clone();
            let profile = |filter| Source::Relay(Box::new(RelayPages::new(endpoint, filter, 1, true)));
            self.printer.look_up(std::slice::from_ref(event), profile).await;
        }
        self.printer.print(event)
    }

    /// The next connection asks for what this one may have missed, if it got beyond the stored events.
    fn resume_from_now(&mut self) {
        if self.is_live {
            self.filter.since = self.filter.since.max(Some(time::now().saturating_sub(OVERLAP_SECONDS)));
            self.filter.limit = None;
            self.is_live = false;
        }
    }
}

fn closed(reason: &str) -> String {
    format!("the relay ended the subscription: {}", shown(reason))
}

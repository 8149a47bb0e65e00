//! `rookery watch`: events as they happen, through lost connections.

use std::{
    io,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use clap::Args;
use lru::LruCache;
use tokio::{select, time::sleep};

use super::{
    filter_flags::FilterFlags,
    interrupt::interrupted,
    output::{Printer, reader_gone},
    relay_flag::RelayFlag,
    run_async,
    secret::KeyFlags,
    source::EventSource,
};
use crate::{
    client::{Arrival, Backoff, ClientError, Connection, Endpoint},
    clock,
    protocol::{Event, EventId, Filter},
};

/// Ids remembered so that an event is shown once, whatever is sent again after a lost connection.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(19_999);
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
    /// All stored events that were wanted are here.
    is_live: bool,
    backoff: Backoff,
    /// When an author's name was last asked for.
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
    let endpoint = args.relay.endpoint(keys)?;
    let mut watch = Watch {
        backoff: endpoint.backoff(),
        endpoint,
        filter,
        printer: Printer::new(args.json),
        shown: LruCache::new(REMEMBERED),
        is_live: false,
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
            let wait = self.backoff.fail();
            self.endpoint.observer.retry(&error, wait);
            sleep(wait).await;
            connected = self.endpoint.connect_identified().await;
        }
    }

    /// Shows what one connection brings.
    async fn listen(&mut self, mut connection: Connection) -> io::Result<End> {
        let mut subscription = connection.subscribe(&self.filter);
        loop {
            match subscription.next().await {
                Ok(Arrival::Event(event)) => {
                    if !self.show(&event).await? {
                        return Ok(End::Unread);
                    }
                }
                Ok(Arrival::EndOfStored(_)) => {
                    self.is_live = true;
                    self.backoff.succeed();
                }
                Ok(Arrival::Unusable | Arrival::Again) => {}
                Err(error) => {
                    self.resume_from_now();
                    return Ok(End::Lost(error));
                }
            }
        }
    }

    /// Says whether anyone still reads.
    async fn show(&mut self, event: &Event) -> io::Result<bool> {
        if self.shown.put(event.id(), ()).is_some() {
            return Ok(true);
        }
        if self.printer.wants_name_of(event) && self.asked.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
            self.asked = Some(Instant::now());
            let endpoint = self.endpoint.clone();
            let profile = |filter| EventSource::relay(endpoint, filter, 1);
            self.printer.look_up(std::slice::from_ref(event), profile).await;
        }
        self.printer.print(event)
    }

    /// The next connection asks for what this one may have missed, if it got beyond the stored events.
    fn resume_from_now(&mut self) {
        if self.is_live {
            self.filter.since = self.filter.since.max(Some(clock::now().saturating_sub(OVERLAP_SECONDS)));
            self.filter.limit = None;
            self.is_live = false;
        }
    }
}

//! Lines into a relay: a window of unanswered events over one connection, and over the next one if
//! that is lost. Whatever has no answer is sent again; relays take an event twice without harm.

use std::{
    collections::VecDeque,
    io,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    select,
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    is_witness,
    ledger::{Ledger, Ticket, Verdict},
};
use crate::{
    cli::lines::{Line, event_json},
    client::{Backoff, ClientError, Connection, Endpoint, Step, shown},
    protocol::{EventId, ParsedEvent, Reply, fields, reply},
};

/// Most bytes of unanswered events, beyond which not even one more is taken.
const WINDOW_BYTES: usize = 16 << 20;
/// How often progress is shown and written down.
const TICK: Duration = Duration::from_millis(500);
/// Failures in a row, without one answer in between, after which a relay counts as gone.
const MAX_ATTEMPTS: u32 = 10;
/// How often an event is sent that the relay answers with `error`.
const MAX_TRIES: u32 = 5;
/// How often a connection may end while an event is the only one on its way, before the event is
/// taken for the cause.
const MAX_LOSSES: u32 = 3;

/// Events in a row that the relay may stumble over.
const MAX_SET_ASIDE: usize = 16;

const PREFIX: &str = r#"["EVENT","#;

/// An event without a final answer.
#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    id: EventId,
    message: Utf8Bytes,
    sent_at: Instant,
    /// Whether the relay may be asked for it later.
    is_witness: bool,
    tries: u32,
    losses: u32,
}

impl Pending {
    fn line(&self) -> &str {
        &self.message[PREFIX.len()..self.message.len() - 1]
    }
}

pub struct Upload<'a> {
    endpoint: Endpoint,
    ledger: &'a mut Ledger,
    tick: &'a mut dyn FnMut(&mut Ledger) -> anyhow::Result<()>,
    max_window: usize,
    /// Grows and shrinks with how fast the relay lets us.
    window: usize,
    /// Lines read and not looked at yet.
    lines: VecDeque<Line>,
    /// To be sent, first to last.
    queue: VecDeque<Pending>,
    /// Sent and unanswered, in this order.
    sent: VecDeque<Pending>,
    /// Events that the relay seems to stumble over, and why. Refused once another gets through,
    /// which shows that the fault is not the relay's.
    set_aside: Vec<(Pending, String)>,
    /// After a lost connection these many events go one by one, to find out which it was.
    suspects: usize,
    bytes: usize,
    auth: Auth,
    backoff: Backoff,
    /// When the relay, asked to wait, may be asked again.
    resume_at: Option<tokio::time::Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Auth {
    No,
    /// Sent, with this id.
    Asked(EventId),
    Yes,
}

impl<'a> Upload<'a> {
    /// `tick` is called now and then, to show progress and to write it down.
    pub fn new(
        endpoint: Endpoint,
        window: usize,
        ledger: &'a mut Ledger,
        tick: &'a mut dyn FnMut(&mut Ledger) -> anyhow::Result<()>,
    ) -> Self {
        Self {
            backoff: endpoint.backoff(),
            endpoint,
            ledger,
            tick,
            max_window: window,
            window,
            lines: VecDeque::new(),
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            set_aside: Vec::new(),
            suspects: 0,
            bytes: 0,
            auth: Auth::No,
            resume_at: None,
        }
    }

    /// Sends all lines. Dropping the future at any moment leaves the ledger right.
    pub async fn run(mut self, mut input: mpsc::Receiver<io::Result<Vec<Line>>>) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let mut input_ended = false;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.take_lines()?;
            let is_at_end = input_ended && self.lines.is_empty();
            if self.queue.is_empty() && self.sent.is_empty() && (is_at_end || !self.has_room()) {
                break;
            }
            let wants_lines = !input_ended && self.lines.is_empty() && self.has_room();
            let may_send = self.may_send();
            let resume_at = self.resume_at;
            let stepped = select! {
                step = connection.step(may_send) => step,
                batch = input.recv(), if wants_lines => {
                    match batch.unwrap_or_else(|| Ok(Vec::new())).context("cannot read on")? {
                        batch if batch.is_empty() => input_ended = true,
                        batch => self.lines.extend(batch),
                    }
                    continue;
                }
                () = sleep_until(resume_at.unwrap_or_else(tokio::time::Instant::now)), if resume_at.is_some() => {
                    self.resume_at = None;
                    continue;
                }
                _ = ticks.tick() => {
                    (self.tick)(self.ledger)?;
                    if !self.is_overdue() {
                        continue;
                    }
                    Err(ClientError::Silent("answer an event"))
                }
            };
            let handled = match stepped {
                Ok(Step::Room) => self.send(&mut connection),
                Ok(Step::Text(text)) => self.hear(&mut connection, &text)?,
                Err(error) => Err(error),
            };
            if let Err(error) = handled {
                connection = self.reconnect(error).await?;
            }
        }
        connection.close().await;
        if let Some((_, reason)) = self.set_aside.first() {
            bail!(
                "the relay does not take event after event ({} now): {}. Run the same command again to go on",
                self.set_aside.len(),
                shown(reason)
            );
        }
        Ok(())
    }

    /// Connects to the store that has what was answered so far, or to none.
    async fn connect(&mut self) -> Result<Connection, ClientError> {
        let connection = self.endpoint.connect_identified().await?;
        connection.note_store(self.ledger.store())?;
        Ok(connection)
    }

    fn window(&self) -> usize {
        if self.suspects > 0 { 1 } else { self.window }
    }

    /// Whether another event may be taken from the input.
    fn has_room(&self) -> bool {
        let held = self.queue.len() + self.sent.len();
        held < self.max_window && self.bytes < WINDOW_BYTES && self.set_aside.len() < MAX_SET_ASIDE
    }

    fn may_send(&self) -> bool {
        let is_free = !matches!(self.auth, Auth::Asked(_)) && self.resume_at.is_none();
        is_free && !self.queue.is_empty() && self.sent.len() < self.window()
    }

    fn is_overdue(&self) -> bool {
        self.sent.front().is_some_and(|first| first.sent_at.elapsed() > self.endpoint.bounds.answer)
    }

    /// Turns lines into events to send, as many as there is room for. What is no event by shape is
    /// refused here.
    fn take_lines(&mut self) -> io::Result<()> {
        while self.has_room()
            && let Some(line) = self.lines.pop_front()
        {
            let ticket = self.ledger.enter(&line);
            let text = match &line.text {
                Ok(text) => event_json(text),
                Err(bad) => {
                    self.ledger.settle(ticket, Verdict::Refused(format!("unreadable: {bad}")), "")?;
                    continue;
                }
            };
            if text.is_empty() {
                self.ledger.settle(ticket, Verdict::Empty, "")?;
                continue;
            }
            match serde_json::from_str::<ParsedEvent>(text) {
                Ok(event) => {
                    self.bytes += text.len();
                    self.queue.push_back(Pending {
                        ticket,
                        id: event.id,
                        is_witness: is_witness(event.kind, &event.tags),
                        message: format!("{PREFIX}{text}]").into(),
                        sent_at: Instant::now(),
                        tries: 0,
                        losses: 0,
                    });
                }
                Err(error) => {
                    let reason = format!("unreadable: no event: {}", fields::told(&error));
                    self.ledger.settle(ticket, Verdict::Refused(reason), text)?;
                }
            }
        }
        Ok(())
    }

    /// Sends as much as the window allows.
    fn send(&mut self, connection: &mut Connection) -> Result<(), ClientError> {
        while self.may_send()
            && let Some(mut pending) = self.queue.pop_front()
        {
            let message = pending.message.clone();
            pending.sent_at = Instant::now();
            self.sent.push_back(pending);
            connection.queue(message)?;
        }
        Ok(())
    }

    /// Acts on a message. The inner result says whether the connection is still good.
    fn hear(&mut self, connection: &mut Connection, text: &str) -> anyhow::Result<Result<(), ClientError>> {
        let Some(Reply::Ok { id: Some(id), accepted, reason }) = connection.read(text) else {
            return Ok(Ok(()));
        };
        if self.auth == Auth::Asked(id) {
            if !accepted {
                return Err(ClientError::AuthRefused(reason.into_owned()).into());
            }
            self.auth = Auth::Yes;
            return Ok(Ok(()));
        }
        let Some(at) = self.sent.iter().position(|pending| pending.id == id) else {
            return Ok(Ok(()));
        };
        let Some(pending) = self.sent.remove(at) else {
            return Ok(Ok(()));
        };
        match reply::prefix(&reason) {
            "duplicate" if accepted => self.settle(pending, Verdict::Duplicate)?,
            _ if accepted => self.settle(pending, Verdict::Accepted)?,
            "auth-required" if self.auth != Auth::Yes => {
                self.queue.push_front(pending);
                if self.auth == Auth::No {
                    let Some((auth, message)) = connection.auth_message()? else {
                        bail!("the relay demands authentication, but sent no challenge");
                    };
                    self.auth = Auth::Asked(auth);
                    return Ok(connection.queue(message));
                }
            }
            "rate-limited" => {
                self.queue.push_back(pending);
                self.pause(&reason)?;
            }
            "error" => self.try_again(pending, &reason)?,
            _ => self.settle(pending, Verdict::Refused(reason.into_owned()))?,
        }
        Ok(Ok(()))
    }

    /// Notes a final answer, which also shows that the relay is well.
    fn settle(&mut self, pending: Pending, verdict: Verdict) -> io::Result<()> {
        self.backoff.succeed();
        self.suspects = self.suspects.saturating_sub(1);
        self.window = self.max_window.min(self.window + 1);
        if pending.is_witness && matches!(verdict, Verdict::Accepted | Verdict::Duplicate) {
            self.ledger.witness(pending.id);
        }
        self.finish(&pending, verdict)?;
        for (pending, reason) in std::mem::take(&mut self.set_aside) {
            self.finish(&pending, Verdict::Refused(reason))?;
        }
        Ok(())
    }

    fn finish(&mut self, pending: &Pending, verdict: Verdict) -> io::Result<()> {
        self.bytes -= pending.line().len();
        self.ledger.settle(pending.ticket, verdict, pending.line())
    }

    /// Sends nothing for a while, as the relay asks.
    fn pause(&mut self, reason: &str) -> anyhow::Result<()> {
        if self.resume_at.is_some() {
            return Ok(());
        }
        if self.backoff.attempts() >= MAX_ATTEMPTS {
            bail!("the relay takes nothing: {}. Run the same command again to go on later", shown(reason));
        }
        self.window = (self.window / 2).max(1);
        self.resume_at = Some(tokio::time::Instant::now() + self.backoff.fail());
        Ok(())
    }

    fn try_again(&mut self, mut pending: Pending, reason: &str) -> anyhow::Result<()> {
        pending.tries += 1;
        if pending.tries < MAX_TRIES {
            self.queue.push_back(pending);
        } else {
            self.set_aside.push((pending, reason.to_owned()));
        }
        self.pause(reason)
    }

    /// Makes a new connection, over which everything unanswered is sent again.
    async fn reconnect(&mut self, mut error: ClientError) -> anyhow::Result<Connection> {
        self.suspect(&error);
        loop {
            if !error.is_passing() {
                return Err(error.into());
            }
            if self.backoff.attempts() >= MAX_ATTEMPTS {
                return Err(error).context("gave up; run the same command again to go on");
            }
            let wait = self.backoff.fail();
            (self.tick)(self.ledger)?;
            self.endpoint.observer.retry(&error, wait);
            sleep(wait).await;
            match self.connect().await {
                Ok(connection) => return Ok(connection),
                Err(next) => error = next,
            }
        }
    }

    /// Takes every event on its way for a possible cause of the lost connection: they are sent one by one next.
    fn suspect(&mut self, error: &ClientError) {
        self.auth = Auth::No;
        if let [only] = self.sent.make_contiguous() {
            only.losses += 1;
        }
        while let Some(pending) = self.sent.pop_back() {
            self.queue.push_front(pending);
        }
        if self.queue.front().is_some_and(|first| first.losses >= MAX_LOSSES)
            && let Some(first) = self.queue.pop_front()
        {
            self.set_aside.push((first, format!("unanswered: {error}, whenever it was sent")));
        }
        self.suspects = self.queue.len();
    }
}

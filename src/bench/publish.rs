//! Publishes events over many connections and keeps the ledger: when each was sent, what the relay
//! said, how long that took.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    Bench,
    message::{self, IdKey, Said},
    pace::{Schedule, Timer},
    report::{Latencies, Problems},
    wire::{Lost, Wire},
};
use crate::protocol::Event;

/// How often a run looks whether answers still come.
const LOOK: Duration = Duration::from_millis(250);

/// How events are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As fast as the relay answers, with so many unanswered events a connection.
    Window(usize),
    /// So many a second over all connections, whether the relay answers or not.
    Rate(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Unsent,
    Sent,
    Stored,
    /// The relay had it before.
    AlreadyStored,
    Refused,
}

/// What became of each event of a run.
pub struct Ledger {
    pub events: Rc<Vec<Event>>,
    index: HashMap<IdKey, u32, foldhash::fast::RandomState>,
    fates: Vec<Cell<Fate>>,
    /// When sent; in paced mode when due.
    sent: Vec<Cell<Option<Instant>>>,
    next: Cell<usize>,
    answered: Cell<usize>,
    stored: Cell<usize>,
    already_stored: Cell<usize>,
    latencies: RefCell<Latencies>,
    /// Told of each event that is stored.
    on_stored: Box<dyn Fn(&Event)>,
}

impl Ledger {
    pub fn new(events: Rc<Vec<Event>>, on_stored: impl Fn(&Event) + 'static) -> Rc<Self> {
        let index =
            events.iter().enumerate().map(|(at, event)| (message::key_of(&event.id()), at as u32)).collect();
        Rc::new(Self {
            index,
            fates: vec![Cell::new(Fate::Unsent); events.len()],
            sent: vec![Cell::new(None); events.len()],
            next: Cell::new(0),
            answered: Cell::new(0),
            stored: Cell::new(0),
            already_stored: Cell::new(0),
            latencies: RefCell::new(Latencies::new()),
            on_stored: Box::new(on_stored),
            events,
        })
    }

    /// The place of an event.
    pub fn find(&self, id: IdKey) -> Option<usize> {
        self.index.get(&id).map(|&at| at as usize)
    }

    pub fn fate(&self, event: usize) -> Fate {
        self.fates[event].get()
    }

    #[cfg(test)]
    pub fn set_fate(&self, event: usize, fate: Fate) {
        self.fates[event].set(fate);
    }

    /// When it was sent or due.
    pub fn sent(&self, event: usize) -> Option<Instant> {
        self.sent[event].get()
    }

    pub fn stored(&self) -> usize {
        self.stored.get()
    }

    pub fn already_stored(&self) -> usize {
        self.already_stored.get()
    }

    /// From sending, or from when it was due, to `OK`.
    pub fn latencies(&self) -> std::cell::Ref<'_, Latencies> {
        self.latencies.borrow()
    }

    fn queue(&self, connection: &mut Wire, event: usize, since: Instant) {
        connection.queue(&["[\"EVENT\",", self.events[event].json(), "]"]);
        self.sent[event].set(Some(since));
        self.fates[event].set(Fate::Sent);
    }

    /// Notes an `OK`; whether it was for an event that had none yet.
    fn answer(&self, id: IdKey, accepted: bool, reason: &[u8], problems: &RefCell<Problems>) -> bool {
        let Some(event) = self.find(id).filter(|&event| self.fate(event) == Fate::Sent) else { return false };
        self.answered.set(self.answered.get() + 1);
        if let Some(sent) = self.sent(event) {
            self.latencies.borrow_mut().record(sent.elapsed());
        }
        let fate = match accepted {
            // strfry and others say so with either truth value.
            _ if reason.starts_with(b"duplicate") => Fate::AlreadyStored,
            true => Fate::Stored,
            false => Fate::Refused,
        };
        self.fates[event].set(fate);
        match fate {
            Fate::Stored => {
                self.stored.set(self.stored.get() + 1);
                (self.on_stored)(&self.events[event]);
            }
            Fate::AlreadyStored => self.already_stored.set(self.already_stored.get() + 1),
            _ => {
                let mut problems = problems.borrow_mut();
                problems.refused += 1;
                problems.example(|| format!("an event was refused: {}", String::from_utf8_lossy(reason)));
            }
        }
        true
    }
}

/// Sends all events of the ledger and waits for all answers, as long as any come. Returns the
/// connections, so that closing them is nobody's measured time.
pub async fn publish(bench: &Bench, connections: Vec<Wire>, ledger: &Rc<Ledger>, pace: Pace) -> Vec<Wire> {
    let mut tasks = JoinSet::new();
    let count = connections.len();
    let start = Instant::now();
    for (number, mut connection) in connections.into_iter().enumerate() {
        let ledger = Rc::clone(ledger);
        let problems = Rc::clone(&bench.problems);
        tasks.spawn_local(async move {
            let result = match pace {
                Pace::Window(window) => windowed(&mut connection, &ledger, window, &problems).await,
                Pace::Rate(rate) => {
                    let schedule = Schedule::new(start, rate);
                    paced(&mut connection, &ledger, schedule, (number, count), &problems).await
                }
            };
            match result {
                Ok(()) => Some(connection),
                Err(lost) => {
                    note_lost(&problems, "publishing", &lost);
                    None
                }
            }
        });
    }
    let mut kept = Vec::with_capacity(count);
    let all = async {
        while let Some(task) = tasks.join_next().await {
            kept.extend(task.ok().flatten());
        }
    };
    let progress = || (ledger.next.get() + ledger.answered.get()) as u64;
    if !while_progress(bench.patience, progress, all).await {
        bench.problems.borrow_mut().example(|| {
            format!("no more answers to events within {} s (--patience)", bench.patience.as_secs())
        });
    }
    let unanswered = ledger.events.len() - ledger.answered.get();
    bench.problems.borrow_mut().unanswered += unanswered as u64;
    kept
}

async fn windowed(
    connection: &mut Wire,
    ledger: &Ledger,
    window: usize,
    problems: &RefCell<Problems>,
) -> Result<(), Lost> {
    let mut in_flight = 0;
    loop {
        while in_flight < window && ledger.next.get() < ledger.events.len() {
            let event = ledger.next.replace(ledger.next.get() + 1);
            ledger.queue(connection, event, Instant::now());
            in_flight += 1;
        }
        if in_flight == 0 {
            return Ok(());
        }
        connection.exchange(|text| in_flight -= heard(text, ledger, problems)).await?;
    }
}

/// Sends every `step`th event from `first` on when it is due.
async fn paced(
    connection: &mut Wire,
    ledger: &Ledger,
    schedule: Schedule,
    (first, step): (usize, usize),
    problems: &RefCell<Problems>,
) -> Result<(), Lost> {
    let timer = Timer::new()?;
    let mut in_flight = 0;
    let mut next = first;
    loop {
        let more = next < ledger.events.len();
        if !more && in_flight == 0 {
            return Ok(());
        }
        tokio::select! {
            biased;
            at = timer.until(schedule.due(next)), if more => {
                at?;
                ledger.queue(connection, next, schedule.due(next));
                ledger.next.set(ledger.next.get() + 1);
                in_flight += 1;
                next += step;
            }
            lost = connection.exchange(|text| in_flight -= heard(text, ledger, problems)) => lost?,
        }
    }
}

/// Takes one message to a publisher; how many events it answers.
fn heard(text: &[u8], ledger: &Ledger, problems: &RefCell<Problems>) -> usize {
    match message::read(text) {
        Said::Ok { id, accepted, reason } => usize::from(ledger.answer(id, accepted, reason, problems)),
        said => {
            note(problems, &said);
            0
        }
    }
}

/// Counts a `NOTICE` or `CLOSED`.
pub fn note(problems: &RefCell<Problems>, said: &Said<'_>) {
    let (what, text) = match said {
        Said::Notice { text } => ("NOTICE", text),
        Said::Closed { reason, .. } => ("CLOSED", reason),
        _ => return,
    };
    let mut problems = problems.borrow_mut();
    *(if what == "NOTICE" { &mut problems.notices } else { &mut problems.closed }) += 1;
    problems.example(|| format!("{what}: {}", String::from_utf8_lossy(text)));
}

/// Counts a lost connection.
pub fn note_lost(problems: &RefCell<Problems>, whose: &str, lost: &Lost) {
    let mut problems = problems.borrow_mut();
    problems.evicted += 1;
    problems.example(|| format!("a {whose} connection was lost: {lost}"));
}

/// Runs `work` to its end, or until `progress` has stood still for `patience`; whether it ended.
pub async fn while_progress(
    patience: Duration,
    progress: impl Fn() -> u64,
    work: impl Future<Output = ()>,
) -> bool {
    let mut work = std::pin::pin!(work);
    let mut seen = (progress(), Instant::now());
    loop {
        if tokio::time::timeout(LOOK, &mut work).await.is_ok() {
            return true;
        }
        if progress() != seen.0 {
            seen = (progress(), Instant::now());
        } else if seen.1.elapsed() > patience {
            return false;
        }
    }
}

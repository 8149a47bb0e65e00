//! What `Origins` and `Interest` conclude, against a world that knows everything: processes that come, write, leave,
//! die, are held up and lose their links; a node that listens to them and is held up and cut off itself. Whatever
//! happens, no acknowledged event is unheard, none is heard twice, and nobody is told of a gap.
//!
//! Time is a number here. Everything happens in an order that a story and its random numbers give.

mod months;
mod node;
mod process;
mod story;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use proptest::test_runner::{Config, TestRunner};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::{
    node::{Message, Node, Wanting},
    process::Process,
    story::{Deed, story},
};
use super::{
    channel::{Channel, channels},
    origins::{Begun, Due, Times},
};
use crate::{
    clock::Moment,
    protocol::PublicKey,
    route::key::RoutingKey,
    store::log::{Heartbeat, Origin, Sequence},
};

/// Milliseconds.
type Time = u64;

const OWN: Origin = 1;
const KEYS: usize = 2;
const PRIMARIES: usize = 2;
/// As the nodes have it by default.
const WATERMARK: Time = 1_000;
const PATIENCE: Time = 3 * WATERMARK;
const DEADLINE: Time = 5_000;
const SETTLES: Time = 2 * DEADLINE;
const ACKNOWLEDGE: Time = 500;
const LINGER: Time = 1_000;
/// The most that a message takes from Redis to the node.
const ON_ITS_WAY: Time = 500;
/// Rows of the log, and of the table of processes.
const ROW_LIVES: Time = 3_600_000;
const PROCESS_LIVES: Time = 2 * ROW_LIVES;
const KEPT: Time = ROW_LIVES - 60_000;

const TIMES: Times = Times {
    patience: Duration::from_millis(PATIENCE),
    settles_in: Duration::from_millis(SETTLES),
    kept_for: Duration::from_millis(KEPT),
};

struct Event {
    key: usize,
    committed: Option<Time>,
    acknowledged: bool,
}

type EventNumber = usize;

struct Row {
    origin: Origin,
    sequence: Sequence,
    event: EventNumber,
    written: Time,
}

/// What comes to pass.
enum Step {
    Deed(Deed),
    /// A process notes, commits and answers.
    Commit {
        process: usize,
        event: EventNumber,
        sequence: Sequence,
        begun: Time,
    },
    Answer {
        process: usize,
        event: EventNumber,
        sequence: Sequence,
        begun: Time,
    },
    /// Watermarks and heartbeats of a process.
    Tick {
        process: usize,
    },
    /// To the node.
    Arrive {
        link: u64,
        primary: usize,
        message: Message,
    },
    LinkLost {
        link: u64,
    },
    LinkUp {
        node: u64,
        link: u64,
        missing: Vec<Channel>,
    },
    /// Redis takes a subscription, and says so.
    Taken {
        link: u64,
        key: usize,
    },
    Acknowledged {
        node: u64,
        link: u64,
        key: usize,
        subscription: usize,
        asked: Time,
    },
    GivenUp {
        node: u64,
        key: usize,
        subscription: usize,
    },
    Begin {
        node: u64,
        subscription: usize,
    },
    NodeTick {
        node: u64,
    },
    /// The parts of a pass over the logs.
    List {
        node: u64,
        begun: Begun,
        asked: Time,
    },
    Read {
        node: u64,
        begun: Begun,
        due: Due,
    },
    Fetch {
        node: u64,
        begun: Begun,
        due: Due,
        end: Sequence,
        wanted: Vec<EventNumber>,
        more: bool,
    },
}

struct World {
    now: Time,
    order: u64,
    steps: BTreeMap<(Time, u64), Step>,
    random: StdRng,
    events: Vec<Event>,
    log: Vec<Row>,
    heartbeats: HashMap<Origin, (Heartbeat, Time)>,
    processes: Vec<Process>,
    store_away: Time,
    /// For how long the node may have been held up since nobody had missed anything.
    troubles: Time,
    node: Node,
}

fn at(time: Time) -> Moment {
    Moment::new(Duration::from_millis(1_000_000 + time))
}

fn channel(key: usize) -> Channel {
    channels(RoutingKey::By(PublicKey([key as u8; 32])))[0]
}

fn primary_of(key: usize) -> usize {
    key % PRIMARIES
}

impl World {
    fn new(seed: u64) -> Self {
        let node = Node::new(0, &[], 0);
        let mut world = Self {
            now: 0,
            order: 0,
            steps: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed),
            events: Vec::new(),
            log: Vec::new(),
            heartbeats: HashMap::new(),
            processes: Vec::new(),
            store_away: 0,
            troubles: 0,
            node,
        };
        world.after(0, Step::NodeTick { node: 0 });
        world.connect(10);
        (0..2).for_each(|_| world.start());
        world
    }

    fn after(&mut self, time: Time, step: Step) {
        self.at(self.now + time, step);
    }

    fn at(&mut self, time: Time, step: Step) {
        self.order += 1;
        self.steps.insert((time, self.order), step);
    }

    fn some(&mut self, most: Time) -> Time {
        self.random.random_range(1..=most)
    }

    /// How long the store takes for an answer.
    fn answers_in(&mut self) -> Time {
        let most = if self.random.random_ratio(1, 5) { 3_000 } else { 40 };
        self.some(most)
    }

    /// Lives until then.
    fn run(&mut self, until: Time) {
        while let Some(entry) = self.steps.first_entry()
            && entry.key().0 <= until
        {
            let ((time, _), step) = entry.remove_entry();
            self.now = time;
            self.step(step);
        }
        self.now = self.now.max(until);
    }

    fn step(&mut self, step: Step) {
        // Who stands still does everything afterwards, in the order in which it came; but a node finds its timers
        // and its sockets in any order.
        let held = match &step {
            Step::Answer { process, .. } | Step::Tick { process } => self.processes[*process].paused,
            Step::Deed(_) | Step::Commit { .. } | Step::Taken { .. } => 0,
            _ => self.node.paused,
        };
        if held > self.now {
            let jitter = matches!(step, Step::NodeTick { .. } | Step::List { .. } | Step::Fetch { .. });
            let later = if jitter { self.some(5) } else { 1 };
            return self.at(held + later, step);
        }
        match step {
            Step::Deed(deed) => self.deed(deed),
            Step::Commit { process, event, sequence, begun } => {
                // It had been sent to the store, or was only to be sent.
                let Process { gone, paused, .. } = self.processes[process];
                if (gone || paused > self.now) && event % 2 == 0 {
                    if !gone {
                        self.at(paused, Step::Commit { process, event, sequence, begun });
                    }
                    return;
                }
                self.events[event].committed.get_or_insert(self.now);
                self.after(0, Step::Answer { process, event, sequence, begun });
            }
            Step::Answer { process, event, sequence, begun } => self.answer(process, event, sequence, begun),
            Step::Tick { process } => self.tick(process),
            Step::Arrive { link, primary, message } => self.arrive(link, primary, message),
            Step::LinkLost { link } => self.link_lost(link),
            Step::LinkUp { node, link, missing } => self.link_up(node, link, &missing),
            Step::Taken { link, key } => {
                if self.carries(link) {
                    self.node.taken.insert(key);
                }
            }
            Step::Acknowledged { node, link, key, subscription, asked } => {
                if node != self.node.number {
                    return;
                }
                let given_up = Step::GivenUp { node, key, subscription };
                if self.node.link != Some(link) {
                    self.after(0, given_up);
                } else if !self.node.taken.contains(&key) {
                    self.at(self.now.max(asked + ACKNOWLEDGE), given_up);
                } else {
                    self.node.interest.acknowledge(&[channel(key)]);
                    if self.now - asked < ACKNOWLEDGE {
                        self.begin(subscription);
                    }
                }
            }
            Step::GivenUp { node, key, subscription } => {
                if node == self.node.number {
                    self.node.interest.give_up(&[channel(key)]);
                    self.node.origins.doubt();
                    self.begin(subscription);
                }
            }
            Step::Begin { node, subscription } => {
                if node == self.node.number {
                    self.begin(subscription);
                }
            }
            Step::NodeTick { node } => self.node_tick(node),
            Step::List { node, begun, asked } => self.list(node, begun, asked),
            Step::Read { node, begun, due } => self.read(node, begun, due),
            Step::Fetch { node, begun, due, end, wanted, more } => {
                if node == self.node.number {
                    let there = |event: &EventNumber| self.events[*event].committed.is_some();
                    wanted
                        .into_iter()
                        .filter(there)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .for_each(|event| self.route(event));
                    if more {
                        let due = Due { after: end, ..due };
                        let took = self.answers_in();
                        return self.after(took, Step::Read { node, begun, due });
                    }
                    self.node.origins.read(due.origin, end, begun, at(self.now));
                    self.node.reading -= 1;
                }
            }
        }
    }

    /// Nobody has missed anything.
    fn check(&mut self) {
        // All that was done to the world is over, and some time goes by.
        let over = self.processes.iter().map(|process| process.paused.max(process.cut_off));
        let over = over.chain([self.now, self.store_away, self.node.paused, self.node.cut_until]).max();
        self.run(over.unwrap_or_default() + 3 * (PATIENCE + SETTLES));
        self.troubles = 0;
        for (nth, subscription) in self.node.subscriptions.iter().enumerate() {
            let Some(Wanting { key, begun: Some(begun), stored, heard }) = subscription else {
                continue;
            };
            for (number, event) in self.events.iter().enumerate() {
                let due =
                    event.acknowledged && event.key == *key && event.committed.is_some_and(|at| at > *begun);
                assert!(
                    !due || heard.contains(&number) || stored.contains(&number),
                    "subscription {nth} of {begun} does not hear of {number}, committed {:?}",
                    event.committed
                );
            }
        }
        assert!(self.node.origins.certainty().is_some(), "something stays in doubt");
    }
}

fn tell((seed, deeds): (u64, Vec<(Time, Deed)>)) {
    let mut world = World::new(seed);
    let mut then = 1_000;
    for (gap, deed) in deeds {
        then = (then + gap).max(world.now);
        world.at(then, Step::Deed(deed));
        world.run(then);
    }
    world.check();
}

#[test]
fn nobody_misses_an_event_or_is_told_of_a_gap_whatever_happens() {
    /// How many stories are told unless `PROPTEST_CASES` says otherwise.
    const CASES: u32 = 100;
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let told = TestRunner::new(config).run(&story(), |story| {
        tell(story);
        Ok(())
    });
    if let Err(failure) = told {
        panic!("{failure}");
    }
}

//! What `Origins` and `Interest` conclude, against a world that knows everything: processes that come, write, leave,
//! die, are held up and lose their links; a node that listens to them and is held up and cut off itself. Whatever
//! happens, no acknowledged event is unheard, none is heard twice, and nobody is told of a gap.
//!
//! Time is a number here. Everything happens in an order that a story and its random numbers give.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, HashSet},
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestRunner};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    channel::{Channel, channels},
    echoes::Echoes,
    envelope::Fence,
    interest::Interest,
    origins::{Begun, Due, Origins, Times},
};
use crate::{
    clock::Moment,
    protocol::PublicKey,
    route::key::RoutingKey,
    store::log::{Beat, Origin, Sequence},
};

/// Milliseconds.
type Time = u64;

const OWN: Origin = 1;
const KEYS: usize = 2;
const PRIMARIES: usize = 2;
/// As the nodes have it by default.
const FENCE: Time = 1_000;
const PATIENCE: Time = 3 * FENCE;
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

/// What somebody does to the world.
#[derive(Debug, Clone)]
enum Deed {
    /// A process starts.
    Start,
    /// A process writes; an event may be noted in the log for so long before it is committed.
    Write {
        process: usize,
        key: usize,
        takes: Time,
    },
    /// It dies, and what it has sent to the store may be carried out all the same.
    Kill {
        process: usize,
    },
    Leave {
        process: usize,
    },
    Pause {
        process: usize,
        time: Time,
    },
    CutOff {
        process: usize,
        time: Time,
    },
    /// Its queue to Redis is full for the next batch.
    Lose {
        process: usize,
    },
    /// The node's link ends, noticed at once or not.
    CutNode {
        time: Time,
        noticed: bool,
    },
    PauseNode {
        time: Time,
    },
    /// The store does not answer to the node.
    StoreAway {
        time: Time,
    },
    Subscribe {
        key: usize,
        acknowledged_in: Time,
    },
    Unsubscribe {
        nth: usize,
    },
    /// The node starts anew.
    Restart,
}

fn deed() -> impl Strategy<Value = Deed> {
    let process = 0..4_usize;
    let short = || prop_oneof![3 => 0..3_000_u64, 2 => 3_000..20_000_u64, 1 => 20_000..1_200_000_u64];
    prop_oneof![
        2 => Just(Deed::Start),
        25 => (process.clone(), 0..KEYS, prop_oneof![4 => 0..50_u64, 1 => 50..DEADLINE - 100])
            .prop_map(|(process, key, takes)| Deed::Write { process, key, takes }),
        1 => process.clone().prop_map(|process| Deed::Kill { process }),
        1 => process.clone().prop_map(|process| Deed::Leave { process }),
        1 => (process.clone(), short()).prop_map(|(process, time)| Deed::Pause { process, time }),
        1 => (process.clone(), short()).prop_map(|(process, time)| Deed::CutOff { process, time }),
        1 => process.prop_map(|process| Deed::Lose { process }),
        1 => (short(), any::<bool>()).prop_map(|(time, noticed)| Deed::CutNode { time, noticed }),
        1 => short().prop_map(|time| Deed::PauseNode { time }),
        1 => short().prop_map(|time| Deed::StoreAway { time }),
        4 => (0..KEYS, prop_oneof![2 => 0..100_u64, 1 => 400..4_000_u64])
            .prop_map(|(key, acknowledged_in)| Deed::Subscribe { key, acknowledged_in }),
        2 => (0..8_usize).prop_map(|nth| Deed::Unsubscribe { nth }),
        1 => Just(Deed::Restart),
    ]
}

/// How long it takes until the next deed, and that.
fn story() -> impl Strategy<Value = (u64, Vec<(Time, Deed)>)> {
    let gap = prop_oneof![30 => 0..300_u64, 10 => 300..10_000_u64, 1 => 10_000..4_500_000_u64];
    (any::<u64>(), prop::collection::vec((gap, deed()), 1..100))
}

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

#[derive(Default)]
struct Process {
    origin: Origin,
    gone: bool,
    leaving: bool,
    /// Until when it stands still, and has no link.
    paused: Time,
    cut_off: Time,
    loses: bool,
    last: Sequence,
    published: Sequence,
    lost: u64,
    beats: u64,
    /// To be written, and whether one is being written.
    waiting: Vec<(usize, Time)>,
    writing: bool,
    /// Not published yet.
    unsent: Vec<(Sequence, EventNumber)>,
}

struct Subscription {
    key: usize,
    begun: Option<Time>,
    stored: HashSet<EventNumber>,
    heard: HashSet<EventNumber>,
}

/// What a primary of Redis sends to the node.
#[derive(Clone, Copy)]
enum Message {
    Event(EventNumber),
    Fence(Fence),
    Own,
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
    /// Fences and beats of a process.
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
    beats: HashMap<Origin, (Beat, Time)>,
    processes: Vec<Process>,
    store_away: Time,
    /// For how long the node may have been held up since nobody had missed anything.
    troubles: Time,
    node: Node,
}

/// The one that listens.
struct Node {
    number: u64,
    origins: Origins,
    interest: Interest,
    echoes: Echoes,
    seen: HashSet<EventNumber>,
    /// The link, if there is one, as the node sees it.
    link: Option<u64>,
    links: u64,
    /// From when on Redis sends nothing through it.
    cut: Time,
    cut_until: Time,
    /// What Redis has been asked for on this link.
    taken: HashSet<usize>,
    /// When the last message through each primary arrives.
    last: [Time; PRIMARIES],
    paused: Time,
    reading: usize,
    subscriptions: Vec<Option<Subscription>>,
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
            beats: HashMap::new(),
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

    fn deed(&mut self, deed: Deed) {
        // The last ones that started are those that deeds are done to.
        let count = self.processes.len();
        let number = |process: usize| count.checked_sub(1 + process % 4).filter(|_| count > process % 4);
        match deed {
            Deed::Start => self.start(),
            Deed::Write { process, key, takes } => {
                if let Some(process) = number(process)
                    && !self.processes[process].gone
                    && !self.processes[process].leaving
                {
                    self.processes[process].waiting.push((key, takes));
                    self.write_next(process);
                }
            }
            Deed::Kill { process } => {
                if let Some(process) = number(process) {
                    self.processes[process].gone = true;
                }
            }
            Deed::Leave { process } => {
                if let Some(process) = number(process) {
                    self.processes[process].leaving = true;
                }
            }
            Deed::Pause { process, time } => {
                if let Some(process) = number(process) {
                    let paused = &mut self.processes[process].paused;
                    *paused = (self.now + time).max(*paused);
                }
            }
            Deed::CutOff { process, time } => {
                if let Some(process) = number(process) {
                    let cut_off = &mut self.processes[process].cut_off;
                    *cut_off = (self.now + time).max(*cut_off);
                }
            }
            Deed::Lose { process } => {
                if let Some(process) = number(process) {
                    self.processes[process].loses = true;
                }
            }
            // The log reaches so far and no further.
            Deed::CutNode { time, .. } | Deed::PauseNode { time } | Deed::StoreAway { time }
                if self.troubles + time > KEPT - 120_000 => {}
            Deed::CutNode { time, noticed } => {
                self.troubles += time;
                let now = self.now;
                self.node.cut = self.node.cut.min(now);
                self.node.cut_until = self.node.cut_until.max(now + time);
                if let (true, Some(link)) = (noticed, self.node.link) {
                    // What was on its way may be lost with it.
                    let noticed = self.some(50);
                    self.after(noticed, Step::LinkLost { link });
                }
            }
            Deed::PauseNode { time } => {
                self.troubles += time;
                // All that is on its way arrives meanwhile, and what follows after it.
                self.node.paused = (self.now + time.max(ON_ITS_WAY)).max(self.node.paused);
                let after = self.node.paused + 2;
                self.node.last.iter_mut().for_each(|last| *last = after.max(*last));
            }
            Deed::StoreAway { time } => {
                self.troubles += time;
                self.store_away = (self.now + time).max(self.store_away);
            }
            Deed::Subscribe { key, acknowledged_in } => self.subscribe(key, acknowledged_in),
            Deed::Unsubscribe { nth } => {
                let open: Vec<usize> = (0..self.node.subscriptions.len())
                    .filter(|&nth| self.node.subscriptions[nth].is_some())
                    .collect();
                if let Some(&nth) = open.get(nth % open.len().max(1)) {
                    self.close(nth);
                }
            }
            Deed::Restart => {
                let (number, links) = (self.node.number + 1, self.node.links);
                let beats = self.beats();
                self.node = Node::new(number, &beats, self.now);
                self.node.links = links;
                self.after(0, Step::NodeTick { node: number });
                self.connect(10);
            }
        }
    }

    fn start(&mut self) {
        let origin = OWN + 1 + self.processes.len() as Origin;
        self.processes.push(Process { origin, ..Process::default() });
        self.after(0, Step::Tick { process: self.processes.len() - 1 });
    }

    /// One batch at a time, each of one event.
    fn write_next(&mut self, number: usize) {
        let process = &mut self.processes[number];
        if process.writing || process.waiting.is_empty() {
            return;
        }
        process.writing = true;
        process.last += 1;
        let (key, takes) = process.waiting.remove(0);
        let (origin, sequence, event, now) = (process.origin, process.last, self.events.len(), self.now);
        self.events.push(Event { key, committed: None, acknowledged: false });
        self.log.push(Row { origin, sequence, event, written: now });
        self.after(takes, Step::Commit { process: number, event, sequence, begun: now });
    }

    fn answer(&mut self, number: usize, event: EventNumber, sequence: Sequence, begun: Time) {
        let now = self.now;
        let process = &mut self.processes[number];
        if process.gone {
            return;
        }
        let mut sequence = sequence;
        if now - begun >= DEADLINE {
            process.last += 1;
            sequence = process.last;
            self.log.push(Row { origin: process.origin, sequence, event, written: now });
        }
        self.events[event].acknowledged = true;
        process.writing = false;
        match std::mem::take(&mut process.loses) {
            true => process.lost += 1,
            false => process.unsent.push((sequence, event)),
        }
        self.publish(number);
        self.write_next(number);
    }

    /// Gives Redis what waits.
    fn publish(&mut self, number: usize) {
        if self.processes[number].cut_off > self.now {
            return;
        }
        for (sequence, event) in std::mem::take(&mut self.processes[number].unsent) {
            self.processes[number].published = sequence.max(self.processes[number].published);
            let key = self.events[event].key;
            if self.node.taken.contains(&key) {
                self.send(primary_of(key), Message::Event(event));
            }
        }
    }

    fn tick(&mut self, number: usize) {
        let process = &mut self.processes[number];
        if process.gone {
            return;
        }
        process.beats += 1;
        let Process { origin, last: head, beats: count, .. } = *process;
        self.beats.insert(origin, (Beat { origin, count, head }, self.now));
        self.publish(number);
        let process = &mut self.processes[number];
        if process.cut_off <= self.now {
            let leaving = process.leaving && !process.writing && process.waiting.is_empty();
            process.gone |= leaving;
            let fence = Fence { origin, sequence: process.published, lost: process.lost, leaving };
            (0..PRIMARIES).for_each(|primary| self.send(primary, Message::Fence(fence)));
        }
        let jitter = self.some(20);
        self.after(FENCE + jitter, Step::Tick { process: number });
    }

    /// Whether Redis sends something through this link of the node.
    fn carries(&self, link: u64) -> bool {
        self.node.link == Some(link) && self.node.cut > self.now
    }

    /// From Redis to the node, behind all that was sent before through that primary.
    fn send(&mut self, primary: usize, message: Message) {
        let Some(link) = self.node.link.filter(|&link| self.carries(link)) else { return };
        let most = if self.random.random_ratio(1, 5) { ON_ITS_WAY } else { 30 };
        let arrives = (self.now + self.some(most)).max(self.node.last[primary]);
        self.node.last[primary] = arrives;
        self.at(arrives, Step::Arrive { link, primary, message });
    }

    fn arrive(&mut self, link: u64, primary: usize, message: Message) {
        if self.node.link != Some(link) {
            return;
        }
        match message {
            Message::Event(event) => self.route(event),
            Message::Own => self.node.echoes.come(primary, at(self.now)),
            Message::Fence(fence) => {
                let proves = self.node.echoes.prove(primary).unwrap();
                self.node.origins.fence(primary, &fence, proves, at(self.now));
            }
        }
    }

    fn connect(&mut self, after: Time) {
        self.node.link = None;
        self.node.taken.clear();
        self.node.links += 1;
        let (node, link) = (self.node.number, self.node.links);
        self.after(after, Step::LinkUp { node, link, missing: self.node.interest.missing() });
    }

    fn link_lost(&mut self, link: u64) {
        if self.node.link == Some(link) {
            self.node.origins.link_down();
            self.node.interest.lose();
            let pause = self.some(200);
            self.connect(pause);
        }
    }

    fn link_up(&mut self, node: u64, link: u64, missing: &[Channel]) {
        if node != self.node.number || link != self.node.links {
            return;
        }
        if self.node.cut_until > self.now {
            let pause = self.some(500);
            return self.connect(pause);
        }
        self.node.link = Some(link);
        self.node.cut = Time::MAX;
        self.node.taken = (0..KEYS).filter(|&key| missing.contains(&channel(key))).collect();
        self.node.last = [self.now; PRIMARIES];
        self.node.interest.acknowledge(missing);
        self.node.origins.link_up(PRIMARIES, at(self.now));
        self.node.echoes = Echoes::new(PRIMARIES, at(self.now));
    }

    fn subscribe(&mut self, key: usize, acknowledged_in: Time) {
        let subscription = Subscription { key, begun: None, stored: HashSet::new(), heard: HashSet::new() };
        self.node.subscriptions.push(Some(subscription));
        let (node, subscription) = (self.node.number, self.node.subscriptions.len() - 1);
        if !self.node.interest.add(channel(key)) {
            return self.after(1, Step::Begin { node, subscription });
        }
        match self.node.link {
            None => self.after(0, Step::GivenUp { node, key, subscription }),
            Some(link) => {
                let taken = self.random.random_range(0..=acknowledged_in);
                let asked = self.now;
                self.after(taken, Step::Taken { link, key });
                self.after(acknowledged_in, Step::Acknowledged { node, link, key, subscription, asked });
                if acknowledged_in >= ACKNOWLEDGE {
                    self.after(ACKNOWLEDGE, Step::GivenUp { node, key, subscription });
                }
            }
        }
    }

    /// Asks the store. Everything that is committed from now on is to be heard.
    fn begin(&mut self, nth: usize) {
        let Some(subscription) = &mut self.node.subscriptions[nth] else { return };
        subscription.begun = Some(self.now);
        let stored = self.events.iter().enumerate();
        let stored = stored.filter(|(_, event)| event.key == subscription.key && event.committed.is_some());
        subscription.stored = stored.map(|(event, _)| event).collect();
    }

    fn close(&mut self, nth: usize) {
        if let Some(subscription) = self.node.subscriptions[nth].take() {
            self.node.interest.remove(channel(subscription.key), at(self.now));
        }
    }

    fn route(&mut self, event: EventNumber) {
        assert!(self.events[event].committed.is_some(), "what is not committed is routed");
        let key = self.events[event].key;
        if !self.node.seen.insert(event) || !self.node.interest.is_wanted(&channel(key)) {
            return;
        }
        for subscription in self.node.subscriptions.iter_mut().flatten().filter(|it| it.key == key) {
            assert!(subscription.heard.insert(event), "heard twice");
        }
    }

    /// What the tasks of the bus do once in a fence.
    fn node_tick(&mut self, number: u64) {
        if number != self.node.number {
            return;
        }
        let now = at(self.now);
        if let Some(link) = self.node.link {
            if self.node.echoes.last().is_some_and(|last| now.since(last) > TIMES.patience) {
                self.link_lost(link);
            } else {
                self.node.echoes.send(now);
                (0..PRIMARIES).for_each(|primary| self.send(primary, Message::Own));
            }
        }
        if self.node.link.is_some() {
            let again = self.node.interest.given_up();
            let cut = self.node.cut <= self.now;
            // It may take Redis a while.
            if !again.is_empty() && !cut && self.random.random_ratio(1, 4) {
                self.node.taken.extend((0..KEYS).filter(|&key| again.contains(&channel(key))));
                self.node.interest.acknowledge(&again);
            }
            let left = self.node.interest.take_left(now);
            self.node.taken.retain(|&key| !left.contains(&channel(key)));
        }
        self.node.origins.forget(now);
        self.node.origins.notice_silence(now);
        if self.node.reading == 0 {
            self.node.reading = 1;
            let begun = self.node.origins.begin(!self.node.interest.was_given_up(), now);
            let took = self.answers_in();
            self.after(took, Step::List { node: number, begun, asked: self.now });
        }
        assert!(!self.node.origins.is_beyond_help(now), "a gap is told that was none");
        if let (true, Some(link)) = (self.node.origins.suspects_the_link(now), self.node.link) {
            self.link_lost(link);
        }
        self.after(FENCE, Step::NodeTick { node: number });
    }

    fn beats(&mut self) -> Vec<Beat> {
        let now = self.now;
        self.beats.retain(|_, (_, at)| now - *at < PROCESS_LIVES);
        self.log.retain(|row| now - row.written < ROW_LIVES);
        self.beats.values().map(|(beat, _)| *beat).collect()
    }

    fn list(&mut self, node: u64, begun: Begun, asked: Time) {
        if node != self.node.number {
            return;
        }
        self.node.reading -= 1;
        if self.store_away > self.now {
            return;
        }
        let beats = self.beats();
        self.node.origins.list(&beats, at(asked), at(self.now));
        for due in self.node.origins.due() {
            self.node.reading += 1;
            let took = self.answers_in();
            self.after(took, Step::Read { node, begun, due });
        }
    }

    /// Some of a log, as it stands now.
    fn read(&mut self, node: u64, begun: Begun, due: Due) {
        if node != self.node.number {
            return;
        }
        if self.store_away > self.now {
            self.node.reading -= 1;
            return;
        }
        let rows = self.log.iter().filter(|row| row.origin == due.origin && row.sequence > due.after);
        let mut rows: Vec<(Sequence, EventNumber)> = rows.map(|row| (row.sequence, row.event)).collect();
        rows.sort_unstable();
        rows.truncate(2);
        let end = rows.last().map_or(due.after, |(sequence, _)| *sequence);
        let digests = self.node.interest.digests();
        let wanted = rows.iter().map(|(_, event)| *event).filter(|event| {
            digests.contains(&channel(self.events[*event].key).digest()) && !self.node.seen.contains(event)
        });
        let (wanted, more) = (wanted.collect(), !rows.is_empty());
        let took = self.answers_in();
        self.after(took, Step::Fetch { node, begun, due, end, wanted, more });
    }

    /// Nobody has missed anything.
    fn check(&mut self) {
        // All that was done to the world is over, and some time goes by.
        let over = self.processes.iter().map(|process| process.paused.max(process.cut_off));
        let over = over.chain([self.now, self.store_away, self.node.paused, self.node.cut_until]).max();
        self.run(over.unwrap_or_default() + 3 * (PATIENCE + SETTLES));
        self.troubles = 0;
        for (nth, subscription) in self.node.subscriptions.iter().enumerate() {
            let Some(Subscription { key, begun: Some(begun), stored, heard }) = subscription else {
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

impl Node {
    fn new(number: u64, beats: &[Beat], now: Time) -> Self {
        Self {
            number,
            origins: Origins::new(OWN, TIMES, Some(beats), at(now)),
            interest: Interest::new(Duration::from_millis(LINGER)),
            echoes: Echoes::new(PRIMARIES, at(now)),
            seen: HashSet::new(),
            link: None,
            links: 0,
            cut: Time::MAX,
            cut_until: 0,
            taken: HashSet::new(),
            last: [now; PRIMARIES],
            paused: 0,
            reading: 0,
            subscriptions: Vec::new(),
        }
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
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let told = TestRunner::new(config).run(&story(), |story| {
        tell(story);
        Ok(())
    });
    if let Err(failure) = told {
        panic!("{failure}");
    }
}

/// Processes come and go for months beside a node. With a log some of them die, and the link is lost now and then.
#[test]
fn a_node_lives_for_months_beside_others_that_come_and_go() {
    [true, false].into_iter().for_each(live_for_months);
}

fn live_for_months(has_log: bool) {
    // A fence a minute, so that months take a second.
    const STEP: u64 = 60;
    const DAY: u64 = 86_400;
    let times = Times { patience: Duration::from_secs(3 * STEP), ..TIMES };
    let mut origins = Origins::new(OWN, times, has_log.then_some(&[]), at(0));
    let mut random = StdRng::seed_from_u64(7);
    let mut living: Vec<(Origin, u64, bool)> = Vec::new();
    let mut gone: BinaryHeap<Reverse<(u64, Origin)>> = BinaryHeap::new();
    let (mut next, mut most, mut second) = (OWN + 1, 0, 0);
    origins.link_up(1, at(0));
    while second < 90 * DAY {
        second += STEP;
        let now = at(second * 1_000);
        if second % 1_800 == 0 {
            let leaves = !has_log || random.random_bool(0.5);
            living.push((next, second + random.random_range(60..4 * 3_600), leaves));
            next += 1;
        }
        if has_log && random.random_ratio(1, 200) {
            origins.link_down();
            origins.link_up(1, now);
        }
        let listed = |origin, count| Beat { origin, count, head: 0 };
        let mut beats: Vec<Beat> = gone.iter().map(|Reverse((_, origin))| listed(*origin, 1)).collect();
        living.retain(|&(origin, until, leaves)| {
            let ends = second >= until;
            if !ends || leaves {
                let fence = Fence { origin, sequence: 0, lost: 0, leaving: ends };
                origins.fence(0, &fence, now, now);
            }
            beats.push(listed(origin, if ends { 1 } else { second }));
            if ends {
                gone.push(Reverse((second + PROCESS_LIVES / 1_000, origin)));
            }
            !ends
        });
        while gone.peek().is_some_and(|Reverse((until, _))| *until <= second) {
            gone.pop();
        }
        if has_log {
            let begun = origins.begin(true, now);
            origins.list(&beats, now, now);
            for due in origins.due() {
                origins.read(due.origin, due.after, begun, now);
            }
        }
        origins.forget(now);
        let silent = origins.notice_silence(now);
        assert!(has_log || (silent == 0 && !origins.is_in_doubt()), "in doubt on day {}", second / DAY);
        assert!(!origins.is_beyond_help(now), "told on day {}", second / DAY);
        most = most.max(origins.count());
    }
    // Those of the last hours, not those of months.
    assert!(next > 4_000 && most < 40, "{most} of {next}");
}

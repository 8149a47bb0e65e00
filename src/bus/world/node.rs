//! The node that listens: its link, its subscriptions, and how it reads the logs.

use std::{collections::HashSet, time::Duration};

use rand::RngExt;

use super::{
    ACKNOWLEDGE, EventNumber, KEYS, LINGER, ON_ITS_WAY, OWN, PRIMARIES, PROCESS_LIVES, ROW_LIVES, Step,
    TIMES, Time, WATERMARK, World, at, channel,
};
use crate::{
    bus::{
        channel::Channel,
        echoes::Echoes,
        envelope::Watermark,
        interest::Interest,
        origins::{Begun, Due, Origins},
    },
    store::log::{Heartbeat, Sequence},
};

pub struct Wanting {
    pub key: usize,
    pub begun: Option<Time>,
    pub stored: HashSet<EventNumber>,
    pub heard: HashSet<EventNumber>,
}

/// What a primary of Redis sends to the node.
#[derive(Clone, Copy)]
pub enum Message {
    Event(EventNumber),
    Watermark(Watermark),
    Own,
}

/// The one that listens.
pub struct Node {
    pub number: u64,
    pub origins: Origins,
    pub interest: Interest,
    pub echoes: Echoes,
    pub seen: HashSet<EventNumber>,
    /// The link, if there is one, as the node sees it.
    pub link: Option<u64>,
    pub links: u64,
    /// From when on Redis sends nothing through it.
    pub cut: Time,
    pub cut_until: Time,
    /// What Redis has been asked for on this link.
    pub taken: HashSet<usize>,
    /// When the last message through each primary arrives.
    pub last: [Time; PRIMARIES],
    pub paused: Time,
    pub reading: usize,
    pub subscriptions: Vec<Option<Wanting>>,
}

impl Node {
    pub fn new(number: u64, heartbeats: &[Heartbeat], now: Time) -> Self {
        Self {
            number,
            origins: Origins::new(OWN, TIMES, Some(heartbeats), at(now)),
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

impl World {
    /// Whether Redis sends something through this link of the node.
    pub fn carries(&self, link: u64) -> bool {
        self.node.link == Some(link) && self.node.cut > self.now
    }

    /// From Redis to the node, behind all that was sent before through that primary.
    pub fn send(&mut self, primary: usize, message: Message) {
        let Some(link) = self.node.link.filter(|&link| self.carries(link)) else { return };
        let most = if self.random.random_ratio(1, 5) { ON_ITS_WAY } else { 30 };
        let arrives = (self.now + self.some(most)).max(self.node.last[primary]);
        self.node.last[primary] = arrives;
        self.at(arrives, Step::Arrive { link, primary, message });
    }

    pub fn arrive(&mut self, link: u64, primary: usize, message: Message) {
        if self.node.link != Some(link) {
            return;
        }
        match message {
            Message::Event(event) => self.route(event),
            Message::Own => self.node.echoes.come(primary, at(self.now)),
            Message::Watermark(watermark) => {
                let proves = self.node.echoes.prove(primary).unwrap();
                self.node.origins.hear(primary, &watermark, proves, at(self.now));
            }
        }
    }

    pub fn connect(&mut self, after: Time) {
        self.node.link = None;
        self.node.taken.clear();
        self.node.links += 1;
        let (node, link) = (self.node.number, self.node.links);
        self.after(after, Step::LinkUp { node, link, missing: self.node.interest.missing() });
    }

    pub fn link_lost(&mut self, link: u64) {
        if self.node.link == Some(link) {
            self.node.origins.link_down();
            self.node.interest.lose();
            let pause = self.some(200);
            self.connect(pause);
        }
    }

    pub fn link_up(&mut self, node: u64, link: u64, missing: &[Channel]) {
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

    pub fn subscribe(&mut self, key: usize, acknowledged_in: Time) {
        let subscription = Wanting { key, begun: None, stored: HashSet::new(), heard: HashSet::new() };
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
    pub fn begin(&mut self, nth: usize) {
        let Some(subscription) = &mut self.node.subscriptions[nth] else { return };
        subscription.begun = Some(self.now);
        let stored = self.events.iter().enumerate();
        let stored = stored.filter(|(_, event)| event.key == subscription.key && event.committed.is_some());
        subscription.stored = stored.map(|(event, _)| event).collect();
    }

    pub fn close(&mut self, nth: usize) {
        if let Some(subscription) = self.node.subscriptions[nth].take() {
            self.node.interest.remove(channel(subscription.key), at(self.now));
        }
    }

    pub fn route(&mut self, event: EventNumber) {
        assert!(self.events[event].committed.is_some(), "what is not committed is routed");
        let key = self.events[event].key;
        if !self.node.seen.insert(event) || !self.node.interest.is_wanted(&channel(key)) {
            return;
        }
        for subscription in self.node.subscriptions.iter_mut().flatten().filter(|it| it.key == key) {
            assert!(subscription.heard.insert(event), "heard twice");
        }
    }

    /// What the tasks of the bus do between two watermarks.
    pub fn node_tick(&mut self, number: u64) {
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
        self.after(WATERMARK, Step::NodeTick { node: number });
    }

    pub fn heartbeats(&mut self) -> Vec<Heartbeat> {
        let now = self.now;
        self.heartbeats.retain(|_, (_, at)| now - *at < PROCESS_LIVES);
        self.log.retain(|row| now - row.written < ROW_LIVES);
        self.heartbeats.values().map(|(heartbeat, _)| *heartbeat).collect()
    }

    pub fn list(&mut self, node: u64, begun: Begun, asked: Time) {
        if node != self.node.number {
            return;
        }
        self.node.reading -= 1;
        if self.store_away > self.now {
            return;
        }
        let heartbeats = self.heartbeats();
        self.node.origins.list(&heartbeats, at(asked), at(self.now));
        for due in self.node.origins.due() {
            self.node.reading += 1;
            let took = self.answers_in();
            self.after(took, Step::Read { node, begun, due });
        }
    }

    /// Some of a log, as it stands now.
    pub fn read(&mut self, node: u64, begun: Begun, due: Due) {
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
}

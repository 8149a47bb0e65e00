//! The processes of the world: they write one event after the other, and tell of themselves.

use super::{
    DEADLINE, Event, EventNumber, OWN, PRIMARIES, Row, Step, Time, WATERMARK, World, node::Message,
    primary_of,
};
use crate::{
    bus::envelope::Watermark,
    store::log::{Heartbeat, Origin, Sequence},
};

#[derive(Default)]
pub struct Process {
    pub origin: Origin,
    pub gone: bool,
    pub leaving: bool,
    /// Until when it stands still, and has no link.
    pub paused: Time,
    pub cut_off: Time,
    pub loses: bool,
    pub last: Sequence,
    pub published: Sequence,
    pub lost: u64,
    pub heartbeats: u64,
    /// To be written, and whether one is being written.
    pub waiting: Vec<(usize, Time)>,
    pub writing: bool,
    /// Not published yet.
    pub unsent: Vec<(Sequence, EventNumber)>,
}

impl World {
    pub fn start(&mut self) {
        let origin = OWN + 1 + self.processes.len() as Origin;
        self.processes.push(Process { origin, ..Process::default() });
        self.after(0, Step::Tick { process: self.processes.len() - 1 });
    }

    /// One batch at a time, each of one event.
    pub fn write_next(&mut self, number: usize) {
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

    pub fn answer(&mut self, number: usize, event: EventNumber, sequence: Sequence, begun: Time) {
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
    pub fn publish(&mut self, number: usize) {
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

    pub fn tick(&mut self, number: usize) {
        let process = &mut self.processes[number];
        if process.gone {
            return;
        }
        process.heartbeats += 1;
        let Process { origin, last: head, heartbeats: count, .. } = *process;
        self.heartbeats.insert(origin, (Heartbeat { origin, count, head }, self.now));
        self.publish(number);
        let process = &mut self.processes[number];
        if process.cut_off <= self.now {
            let leaving = process.leaving && !process.writing && process.waiting.is_empty();
            process.gone |= leaving;
            let watermark = Watermark { origin, sequence: process.published, lost: process.lost, leaving };
            (0..PRIMARIES).for_each(|primary| self.send(primary, Message::Watermark(watermark)));
        }
        let jitter = self.some(20);
        self.after(WATERMARK + jitter, Step::Tick { process: number });
    }
}

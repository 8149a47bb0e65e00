//! What somebody does to the world, and a random story of it.

use proptest::prelude::*;

use super::{DEADLINE, KEPT, KEYS, ON_ITS_WAY, Step, Time, World, node::Node};

/// What somebody does to the world.
#[derive(Debug, Clone)]
pub enum Deed {
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
pub fn story() -> impl Strategy<Value = (u64, Vec<(Time, Deed)>)> {
    let gap = prop_oneof![30 => 0..300_u64, 10 => 300..10_000_u64, 1 => 10_000..4_500_000_u64];
    (any::<u64>(), prop::collection::vec((gap, deed()), 1..100))
}

impl World {
    pub fn deed(&mut self, deed: Deed) {
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
                let heartbeats = self.heartbeats();
                self.node = Node::new(number, &heartbeats, self.now);
                self.node.links = links;
                self.after(0, Step::NodeTick { node: number });
                self.connect(10);
            }
        }
    }
}

//! Subscribing: who must hear what, and that it comes once.

use std::{
    collections::HashSet,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures_util::SinkExt;
use rand::{RngExt, rngs::StdRng};
use serde_json::json;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

use super::{AUTHORS, End, Heard, LATEST, World, hear};
use common::Client;

impl World {
    /// Subscribes again and again, to what was stored or to what comes only.
    pub(super) async fn subscribe(&self, mut random: StdRng) {
        while !self.is_ending() {
            let Some(mut client) = self.connect(&mut random).await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let authors: HashSet<usize> =
                (0..random.random_range(1..5)).map(|_| random.random_range(0..AUTHORS)).collect();
            let live_only = random.random_bool(0.5);
            let stay = Duration::from_millis(random.random_range(500..15_000));
            match (Subscription { world: self, authors, live_only }).run(&mut client, stay).await {
                Ended::Whole => &self.tally.whole,
                Ended::CutOff => &self.tally.cut_off,
                Ended::NotBegun => &self.tally.not_begun,
                Ended::Told => &self.tally.told,
            }
            .fetch_add(1, Ordering::Relaxed);
        }
    }
}

enum Ended {
    Whole,
    CutOff,
    NotBegun,
    Told,
}

struct Subscription<'w> {
    world: &'w World,
    authors: HashSet<usize>,
    live_only: bool,
}

impl Subscription<'_> {
    /// Stays for a while, and then until everything acknowledged by then has come.
    async fn run(&self, client: &mut Client, stay: Duration) -> Ended {
        let authors: Vec<_> =
            self.authors.iter().map(|author| self.world.authors[*author].public_key()).collect();
        let limit = if self.live_only { 0 } else { 5_000 };
        let request = json!(["REQ", "s", { "authors": authors, "limit": limit }]).to_string();
        if client.socket.send(Message::text(request)).await.is_err() {
            return Ended::CutOff;
        }
        let mut heard: HashSet<String> = HashSet::new();
        let mut stored_at = None;
        let begun = Instant::now();
        // What must have come before it may end.
        let mut due: Option<Vec<String>> = None;
        let asked = self.world.calm.now();
        let mut due_since = asked;
        loop {
            match hear(client, Duration::from_millis(100)).await {
                Heard::End => return Ended::CutOff,
                Heard::Nothing => {}
                Heard::Message(message) => match message[0].as_str() {
                    Some("EVENT") => {
                        let id = message[2]["id"].as_str().unwrap().to_owned();
                        self.world.tally.delivered.fetch_add(1, Ordering::Relaxed);
                        assert!(self.wants(&id), "{id} was not asked for");
                        assert!(heard.insert(id.clone()), "{id} came twice");
                    }
                    Some("EOSE") => stored_at = Some(Instant::now()),
                    Some("CLOSED") => {
                        let reason = message[2].as_str().unwrap();
                        assert!(reason.starts_with("error: "), "{message}");
                        return if stored_at.is_some() { Ended::Told } else { Ended::NotBegun };
                    }
                    _ => {}
                },
            }
            let Some(stored_at) = stored_at else {
                assert!(self.world.calm.now() - asked < LATEST, "a REQ has no answer");
                continue;
            };
            if due.is_none() && (begun.elapsed() > stay || self.world.is_ending()) {
                due = Some(self.due(stored_at));
                due_since = self.world.calm.now();
            }
            if let Some(due) = &mut due {
                due.retain(|id| !heard.contains(id) && self.world.stays(id));
                if due.is_empty() {
                    return Ended::Whole;
                }
                let ways = if self.live_only { "live only" } else { "stored and live" };
                assert!(self.world.calm.now() - due_since < LATEST, "lost ({ways}): {due:?}");
            }
        }
    }

    fn wants(&self, id: &str) -> bool {
        self.world.events.lock().unwrap().get(id).is_some_and(|known| self.authors.contains(&known.author))
    }

    /// Everything acknowledged that it must hear, if it got its EOSE then.
    fn due(&self, stored_at: Instant) -> Vec<String> {
        let events = self.world.events.lock().unwrap();
        let due = events.iter().filter(|(_, known)| {
            let is_live = known.begun > stored_at;
            let is_there = known.acknowledged && known.end == End::Stays;
            is_there && self.authors.contains(&known.author) && (is_live || !self.live_only)
        });
        due.map(|(id, _)| id.clone()).collect()
    }
}

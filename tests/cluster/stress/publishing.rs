//! Publishing: one event after the other until it is acknowledged, and more at once than the store takes.

use std::{
    future::ready,
    pin::pin,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt, future::join};
use rand::{RngExt, rngs::StdRng};
use rookery::protocol::{Event, Tags, kind};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::{AUTHORS, End, FLOODER, Heard, Known, LATEST, World, hear};
use common::{Client, fresh, now};

/// Events of a flood, more than the store takes in the time.
const FLOOD: usize = 1_000;

impl World {
    /// Publishes events one after the other, each until it is acknowledged or deleted.
    pub(super) async fn publish(&self, mut random: StdRng) {
        let mut client = None;
        while !self.is_ending() {
            let author = random.random_range(0..AUTHORS);
            match random.random_range(0..100) {
                0..4 => self.publish_list(&mut client, author, &mut random).await,
                4..8 => self.publish_expiring(&mut client, &mut random).await,
                _ => self.publish_note(&mut client, author, &mut random).await,
            }
            sleep(Duration::from_millis(random.random_range(0..40))).await;
        }
    }

    /// A note; some are deleted once they are acknowledged, some because they are not.
    async fn publish_note(&self, client: &mut Option<Client>, author: usize, random: &mut StdRng) {
        let event = fresh(&self.authors[author], "");
        // Whoever gives it up does not know what is written of it.
        let patience = if random.random_bool(0.5) { LATEST } else { Duration::ZERO };
        let acknowledged = self.insist(client, author, &event, patience, random).await;
        if !acknowledged || random.random_bool(0.05) {
            let id = event.id().to_hex();
            self.change(&id, |known| known.end = End::MayBeGone);
            let tags = Tags::from_iter([["e", &id]]);
            let request = self.authors[author].sign(now(), kind::DELETION, tags, "");
            self.insist(client, author, &request, LATEST, random).await;
            self.change(&id, |known| known.end = End::Gone);
            self.tally.deleted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A note that expires after the test, though a clock may say that it has.
    async fn publish_expiring(&self, client: &mut Option<Client>, random: &mut StdRng) {
        let expiration = (now() + 3_600).to_string();
        let tags = Tags::from_iter([["expiration", &expiration]]);
        let event = self.authors[FLOODER].sign(now(), 1, tags, &random.random::<u64>().to_string());
        self.insist(client, FLOODER, &event, LATEST, random).await;
    }

    /// A contact list, which supersedes the one before it.
    async fn publish_list(&self, client: &mut Option<Client>, author: usize, random: &mut StdRng) {
        let contacts = (0..random.random_range(1..300)).map(|_| hex::encode(random.random::<[u8; 32]>()));
        let tags: Tags = contacts.map(|contact| ["p".to_owned(), contact]).collect();
        let event = {
            let mut lists = self.lists.lock().unwrap();
            let before = lists.remove(&author);
            let created_at = before.as_ref().map_or(0, |(at, _)| at + 1).max(now());
            let event = self.authors[author].sign(created_at, kind::FOLLOW_LIST, tags, "");
            if let Some((_, before)) = before {
                self.change(&before, |known| known.end = End::MayBeGone);
            }
            lists.insert(author, (created_at, event.id().to_hex()));
            event
        };
        self.insist(client, author, &event, LATEST, random).await;
        self.tally.lists.fetch_add(1, Ordering::Relaxed);
    }

    /// Publishes an event until it is acknowledged, or refused and out of patience.
    async fn insist(
        &self,
        client: &mut Option<Client>,
        author: usize,
        event: &Event,
        patience: Duration,
        random: &mut StdRng,
    ) -> bool {
        let id = event.id().to_hex();
        let (begun, waits_since) = (Instant::now(), self.calm.now());
        let known = Known { author, begun, acknowledged: false, end: End::Stays };
        self.events.lock().unwrap().insert(id.clone(), known);
        while !self.try_publish(client, event, random).await {
            self.tally.refused.fetch_add(1, Ordering::Relaxed);
            // Elsewhere, as it may be this node that is at fault.
            *client = None;
            if patience.is_zero() {
                return false;
            }
            assert!(self.calm.now() - waits_since < 2 * patience, "an event is never taken");
            sleep(Duration::from_millis(100)).await;
        }
        self.change(&id, |known| known.acknowledged = true);
        self.tally.acknowledged.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Publishes more at once than the store takes. Whatever is accepted must be there in the end.
    pub(super) async fn flood(&self, random: &mut StdRng) -> String {
        let Some(client) = self.connect(random).await else { return "a flood that nobody let in".into() };
        let keys = &self.authors[FLOODER];
        let events: Vec<Event> = (0..FLOOD).map(|_| fresh(keys, "flood")).collect();
        let (mut sink, stream) = client.socket.split();
        let sending = async {
            for event in &events {
                let message = format!(r#"["EVENT",{}]"#, event.json());
                if sink.send(Message::text(message)).await.is_err() {
                    break;
                }
            }
        };
        let hearing = async {
            let oks = stream.take_while(|message| ready(message.is_ok())).filter_map(async |message| {
                let ok: Value = serde_json::from_str(message.ok()?.to_text().ok()?).ok()?;
                (ok[0] == "OK").then_some(ok)
            });
            let mut accepted = 0;
            let mut oks = pin!(oks.take(events.len()));
            while let Some(ok) = oks.next().await {
                if ok[2] == true {
                    let known =
                        Known { author: FLOODER, begun: Instant::now(), acknowledged: true, end: End::Stays };
                    self.events.lock().unwrap().insert(ok[1].as_str().unwrap().to_owned(), known);
                    accepted += 1;
                }
            }
            accepted
        };
        let (_, accepted) = timeout(LATEST, join(sending, hearing)).await.expect("a flood has no answer");
        format!("a flood of {FLOOD} events, {accepted} accepted")
    }

    async fn try_publish(&self, client: &mut Option<Client>, event: &Event, random: &mut StdRng) -> bool {
        if client.is_none() {
            *client = self.connect(random).await;
        }
        let Some(client) = client else { return false };
        let message = format!(r#"["EVENT",{}]"#, event.json());
        if client.socket.send(Message::text(message)).await.is_err() {
            return false;
        }
        /// A node may stand still for as long as it is frozen, and then takes its time as ever.
        const ANSWERED: Duration = Duration::from_secs(30);
        loop {
            match hear(client, ANSWERED).await {
                Heard::Message(ok) if ok[0] == "OK" && ok[1] == event.id().to_hex() => {
                    let reason = ok[3].as_str().unwrap();
                    // Of two lists at once the older one may come too late.
                    let superseded = event.kind() == kind::FOLLOW_LIST && reason.starts_with("duplicate: ");
                    let expired = event.expiration().is_some() && reason.starts_with("invalid: ");
                    assert!(ok[2] == true || superseded || expired || reason.starts_with("error: "), "{ok}");
                    return ok[2] == true || superseded;
                }
                Heard::Message(_) => {}
                Heard::Nothing => panic!("an EVENT has no answer"),
                Heard::End => return false,
            }
        }
    }
}

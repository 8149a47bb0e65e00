//! What is in the store in the end.

use std::{collections::HashSet, time::Instant};

use futures_util::SinkExt;
use rand::{SeedableRng, rngs::StdRng};
use rookery::protocol::kind;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{AUTHORS, End, Heard, Known, LATEST, World, hear};

impl World {
    /// Every acknowledged event is found, unless it is deleted or superseded. What was deleted is not.
    pub(super) async fn check_store(&self) {
        let mut random = StdRng::seed_from_u64(0);
        let ids = |is_meant: &dyn Fn(&Known) -> bool| -> Vec<String> {
            let events = self.events.lock().unwrap();
            events.iter().filter(|(_, known)| is_meant(known)).map(|(id, _)| id.clone()).collect()
        };
        for ids in ids(&|known| known.acknowledged && known.end == End::Stays).chunks(100) {
            let found = self.found(json!({ "ids": ids }), &mut random).await;
            assert_eq!(found.len(), ids.len(), "acknowledged events are not in the store");
        }
        let gone = ids(&|known| known.end == End::Gone);
        for ids in gone.chunks(100) {
            let found = self.found(json!({ "ids": ids }), &mut random).await;
            assert_eq!(found, [""; 0], "deleted, and found by id");
        }
        let gone: HashSet<String> = gone.into_iter().collect();
        let lists = self.lists.lock().unwrap().clone();
        for (author, keys) in self.authors[..AUTHORS].iter().enumerate() {
            let authors = [keys.public_key()];
            let found = self.found(json!({ "authors": authors, "limit": 5_000 }), &mut random).await;
            let still: Vec<_> = found.iter().filter(|id| gone.contains(*id)).collect();
            assert!(still.is_empty(), "deleted, and found by author: {still:?}");
            if let Some((_, list)) = lists.get(&author) {
                let found = self
                    .found(json!({ "authors": authors, "kinds": [kind::FOLLOW_LIST] }), &mut random)
                    .await;
                assert_eq!(&found, std::slice::from_ref(list), "a contact list that is not the newest");
            }
        }
    }

    /// Ids of what is stored, as soon as the store answers.
    async fn found(&self, filter: Value, random: &mut StdRng) -> Vec<String> {
        let begun = Instant::now();
        loop {
            if let Some(found) = self.find(&filter, random).await {
                return found;
            }
            assert!(begun.elapsed() < LATEST, "the store does not come back");
        }
    }

    /// Ids of what is stored, if the store answers.
    async fn find(&self, filter: &Value, random: &mut StdRng) -> Option<Vec<String>> {
        let mut client = self.connect(random).await?;
        client.socket.send(Message::text(json!(["REQ", "s", filter]).to_string())).await.ok()?;
        let mut found = Vec::new();
        loop {
            match hear(&mut client, LATEST).await {
                Heard::Message(message) if message[0] == "EVENT" => {
                    found.push(message[2]["id"].as_str().unwrap().to_owned());
                }
                Heard::Message(message) if message[0] == "EOSE" => return Some(found),
                Heard::Message(message) if message[0] == "AUTH" => {}
                Heard::Message(_) | Heard::Nothing | Heard::End => return None,
            }
        }
    }
}

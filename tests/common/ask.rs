//! What these tests ask of a relay again and again, and how they see that nothing more comes.

use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::{Value, json};

use crate::{Client, now};

/// An event with tags.
pub fn event(keys: &Keys, at: u64, kind: u16, tags: &[&[&str]], content: &str) -> Event {
    keys.sign(at, kind, Tags::from_iter(tags.iter().map(|tag| tag.iter())), content)
}

/// The id as clients write it.
pub fn id(event: &Event) -> String {
    event.id().to_hex()
}

pub fn ids<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    events.into_iter().map(id).collect()
}

/// The machine-readable word before the colon.
pub fn prefix(text: &str) -> &str {
    text.split_once(": ").map_or("", |(prefix, _)| prefix)
}

/// Subscription and event id of each EVENT; other messages stay what they are.
pub fn delivered(messages: &[Value]) -> Vec<(String, String)> {
    let deliveries = messages.iter().map(|message| {
        assert_eq!(message[0], "EVENT", "{message}");
        (message[1].as_str().unwrap().to_owned(), message[2]["id"].as_str().unwrap().to_owned())
    });
    deliveries.collect()
}

impl Client {
    /// Publishes what is stored or routed without a remark.
    pub async fn put(&mut self, event: &Event) {
        assert_eq!(self.publish(event).await, (true, String::new()), "{event:?}");
    }

    /// Publishes all at once, and hears an OK for each.
    pub async fn put_all(&mut self, events: &[Event]) {
        for event in events {
            self.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
        }
        let mut missing = ids(events);
        for _ in events {
            let ok = self.hear().await;
            assert_eq!((&ok[0], &ok[2], &ok[3]), (&json!("OK"), &json!(true), &json!("")), "{ok}");
            let at = missing.iter().position(|id| ok[1] == *id).unwrap_or_else(|| panic!("not asked: {ok}"));
            missing.swap_remove(at);
        }
    }

    /// Publishes what is refused; the prefix of the answer.
    pub async fn refused(&mut self, event: &Event) -> String {
        let (accepted, text) = self.publish(event).await;
        assert!(!accepted, "{event:?}");
        prefix(&text).to_owned()
    }

    /// Ids of the stored events that match, in order.
    pub async fn find(&mut self, filter: Value) -> Vec<String> {
        self.find_any(&[filter]).await.0
    }

    /// Ids of the stored events that match any of the filters, in order, and the hint.
    pub async fn find_any(&mut self, filters: &[Value]) -> (Vec<String>, Option<String>) {
        let answer = self.request("find", filters).await;
        self.say(json!(["CLOSE", "find"])).await;
        answer
    }

    /// Opens a subscription for which nothing is stored.
    pub async fn watch(&mut self, subscription: &str, filter: Value) {
        assert_eq!(self.request(subscription, &[filter]).await.0, [] as [&str; 0]);
    }

    /// The body of the answer to a COUNT.
    pub async fn count(&mut self, filters: &[Value]) -> Value {
        let mut message = vec![json!("COUNT"), json!("count")];
        message.extend_from_slice(filters);
        self.say(Value::Array(message)).await;
        let mut answer = self.hear().await;
        assert_eq!((&answer[0], &answer[1]), (&json!("COUNT"), &json!("count")), "{answer}");
        answer[2].take()
    }

    /// The text of the CLOSED that answers a REQ or COUNT.
    pub async fn closed(&mut self, verb: &str, subscription: &str, filter: Value) -> String {
        self.say(json!([verb, subscription, filter])).await;
        let closed = self.hear().await;
        assert_eq!((&closed[0], &closed[1]), (&json!("CLOSED"), &json!(subscription)), "{closed}");
        closed[2].as_str().unwrap().to_owned()
    }

    /// What has come by now, and nothing more is under way: whatever was published before has been
    /// delivered when an event published after it has.
    pub async fn heard(&mut self, publisher: &mut Self) -> Vec<Value> {
        const MARK: &str = "mark";
        let keys = Keys::generate();
        let mark = event(&keys, now(), 20_000, &[], MARK);
        let mut heard = Vec::new();
        self.say(json!(["REQ", MARK, { "authors": [keys.public_key()], "limit": 0 }])).await;
        self.hear_until(&mut heard, |message| message[0] == "EOSE" && message[1] == MARK).await;
        publisher.put(&mark).await;
        self.hear_until(&mut heard, |message| message[0] == "EVENT" && message[1] == MARK).await;
        // The mark may also match another subscription; that copy came in the same delivery, as those
        // of others' marks came in theirs.
        self.say(json!(["CLOSE", MARK])).await;
        self.say(json!(["COUNT", MARK, { "ids": [] }])).await;
        self.hear_until(&mut heard, |message| message[0] == "COUNT" && message[1] == MARK).await;
        heard.retain(|message| message[2]["content"] != MARK);
        heard
    }

    /// What comes, up to the last that is awaited, and without it.
    pub async fn hear_until(&mut self, heard: &mut Vec<Value>, last: impl Fn(&Value) -> bool) {
        loop {
            let message = self.hear().await;
            if last(&message) {
                return;
            }
            heard.push(message);
        }
    }
}

//! A client that says and hears JSON.

use futures_util::{SinkExt, StreamExt};
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, handshake::client::Request},
};

use crate::{PATIENCE, now, watch};

/// A connection to a relay.
pub struct Client {
    pub socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// What the relay sent on connecting.
    pub challenge: String,
}

impl Client {
    pub async fn connect(request: Request) -> Self {
        watch::begin();
        // Without Nagle's algorithm, or a message after an unanswered one waits for 40 ms.
        let connected = tokio_tungstenite::connect_async_with_config(request, None, true);
        let (socket, _) = timeout(PATIENCE, connected).await.unwrap().unwrap();
        let mut client = Self { socket, challenge: String::new() };
        let auth = client.hear().await;
        assert_eq!(auth[0], "AUTH");
        client.challenge = auth[1].as_str().unwrap().to_owned();
        client
    }

    pub async fn say(&mut self, message: Value) {
        self.say_text(message.to_string()).await;
    }

    pub async fn say_text(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    /// The next message of the relay.
    pub async fn hear(&mut self) -> Value {
        match self.hear_frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).unwrap(),
            other => panic!("a text message was expected, not {other:?}"),
        }
    }

    /// The next frame that is neither ping nor pong; `None` at the end of the connection.
    pub async fn hear_frame(&mut self) -> Option<Message> {
        // One for all that comes: pings come for ever.
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.socket.next()).await.expect("the relay says nothing")? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return Some(message),
                Err(_) => return None,
            }
        }
    }

    /// The code of the close frame that ends the connection, whatever is said before.
    pub async fn hear_close(&mut self) -> u16 {
        loop {
            match self.hear_frame().await {
                Some(Message::Close(Some(frame))) => return frame.code.into(),
                Some(Message::Text(_)) => {}
                other => panic!("a close frame was expected, not {other:?}"),
            }
        }
    }

    /// Publishes and hears the OK: whether it was accepted, and the text.
    pub async fn publish(&mut self, event: &Event) -> (bool, String) {
        self.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
        self.hear_ok(&event.id().to_hex()).await
    }

    pub async fn hear_ok(&mut self, id: &str) -> (bool, String) {
        let ok = self.hear().await;
        assert_eq!((ok[0].as_str(), ok[1].as_str()), (Some("OK"), Some(id)), "{ok}");
        (ok[2].as_bool().unwrap(), ok[3].as_str().unwrap().to_owned())
    }

    /// Asks, and hears the stored events and the EOSE: ids in order, and the hint.
    pub async fn request(&mut self, id: &str, filters: &[Value]) -> (Vec<String>, Option<String>) {
        let mut message = vec![json!("REQ"), json!(id)];
        message.extend_from_slice(filters);
        self.say(Value::Array(message)).await;
        self.hear_stored(id).await
    }

    /// Hears the stored events of a subscription and the EOSE: ids in order, and the hint.
    pub async fn hear_stored(&mut self, id: &str) -> (Vec<String>, Option<String>) {
        let mut ids = Vec::new();
        loop {
            let message = self.hear().await;
            assert_eq!(message[1], id, "{message}");
            match message[0].as_str() {
                Some("EVENT") => ids.push(message[2]["id"].as_str().unwrap().to_owned()),
                Some("EOSE") => return (ids, message[2][0].as_str().map(str::to_owned)),
                _ => panic!("{message}"),
            }
        }
    }

    /// Proves a key (NIP-42).
    pub async fn authenticate(&mut self, keys: &Keys, relay: &str) -> (bool, String) {
        let tags = Tags::from_iter([["relay", relay], ["challenge", &self.challenge]]);
        let event = keys.sign(now(), 22_242, tags, "");
        self.say_text(format!(r#"["AUTH",{}]"#, event.json())).await;
        self.hear_ok(&event.id().to_hex()).await
    }
}

//! Signs a note and publishes it: `cargo run --example send -- ws://127.0.0.1:7777 'hello nostr'`.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use rookery::{
    client::{Endpoint, shown},
    protocol::{EventId, Tags, sign::Keys},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (url, text) = arguments.next().zip(arguments.next()).context("usage: send URL TEXT")?;
    println!("accepted {}", send(&url, &text).await?);
    Ok(())
}

pub async fn send(url: &str, text: &str) -> anyhow::Result<EventId> {
    // A program for people keeps its key: see `Keys::from_secret`.
    let keys = Keys::generate();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let note = keys.sign(now, 1, Tags::from_iter([["t", "nostr"]]), text);
    // With the key it can authenticate, should the relay want that.
    let endpoint = Endpoint { keys: Some(keys), ..Endpoint::new(url) };
    let receipt = endpoint.connect().await?.publish(&note).await?;
    ensure!(receipt.accepted, "the relay refused it: {}", shown(&receipt.reason));
    Ok(note.id())
}

//! Prints the newest notes of a relay, and new ones as they come: `cargo run --example watch -- ws://127.0.0.1:7777`.

use anyhow::Context;
use rookery::{
    client::{Arrival, ClientError, Endpoint},
    protocol::Filter,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).context("usage: watch URL")?;
    Ok(watch(&url, |text| println!("{text}")).await?)
}

/// Ends with an error when the connection is lost; `Endpoint::backoff` says when to come again.
pub async fn watch(url: &str, mut print: impl FnMut(&str)) -> Result<(), ClientError> {
    let notes = Filter { kinds: Some([1].into()), limit: Some(10), ..Filter::default() };
    let mut relay = Endpoint::new(url).connect().await?;
    let mut subscription = relay.subscribe(&notes);
    loop {
        match subscription.next().await? {
            Arrival::Event(note) => print(note.json()),
            Arrival::EndOfStored(_) => print("what follows is new"),
            Arrival::Unusable | Arrival::Again => {}
        }
    }
}

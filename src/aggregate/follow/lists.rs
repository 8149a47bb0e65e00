//! What people have published of whom they follow (kind 3, NIP-02) and where they write (kind 10002, NIP-65).

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::{super::upstream::RelayUrl, people::Indexer, plan::MAX_PLACES};
use crate::{
    client::{Endpoint, Pages, shown},
    clock,
    protocol::{Event, Fields, Filter, ParsedEvent, PublicKey, Viewer, filter::sorted, kind},
    store::{Content, Cursor, Limit, Query, Store, StoreError},
};

/// People who are asked for at once.
const AT_ONCE: usize = 200;
/// For all that an indexer is asked.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of a message of an indexer: a follow list is as long as an event may be.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Longest URL of a relay in a list.
const MAX_URL_BYTES: usize = 128;
/// By how many seconds a list may be dated ahead.
const AHEAD: u64 = 3_600;

/// The newest list of each kind of each person, of those that were found.
#[derive(Default)]
pub struct Lists(HashMap<(PublicKey, u16), Event>);

impl Lists {
    /// Looks for the lists of this kind in the store, and at relays that have those of many.
    ///
    /// # Errors
    /// The store fails.
    pub async fn find(
        &mut self,
        store: &Arc<dyn Store>,
        indexers: &[Endpoint],
        people: &[PublicKey],
        of_kind: u16,
    ) -> Result<Vec<Indexer>, StoreError> {
        for some in people.chunks(AT_ONCE) {
            for event in stored(store, wanted(some, of_kind)).await? {
                self.take(event);
            }
        }
        let answers = indexers.iter().map(async |endpoint| {
            let mut found = Vec::new();
            let asked = timeout(PATIENCE, ask(endpoint, people, of_kind, &mut found)).await;
            let error = match asked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("it has not answered within {} s", PATIENCE.as_secs())),
            };
            (endpoint, found, error)
        });
        let mut told = Vec::new();
        for (endpoint, found, error) in join_all(answers).await {
            let lists = found.into_iter().filter(|event| self.take(event.clone())).count();
            let error = error.map(|error| shown(&error).chars().take(200).collect());
            told.push(Indexer { url: endpoint.url.clone(), lists, error });
        }
        Ok(told)
    }

    /// Takes a list, where it is one: it may be older than the one that is there.
    fn take(&mut self, event: Event) -> bool {
        if event.created_at() > clock::now().saturating_add(AHEAD) {
            return false;
        }
        // Of two of one second the one with the lower id stands (NIP-01).
        let rank = |event: &Event| (event.created_at(), Reverse(event.id()));
        let at = (event.pubkey(), event.kind());
        if self.0.get(&at).is_none_or(|there| rank(there) < rank(&event)) {
            self.0.insert(at, event);
        }
        true
    }

    pub fn has(&self, who: PublicKey, of_kind: u16) -> bool {
        self.0.contains_key(&(who, of_kind))
    }

    /// Whom somebody follows, in the order of their list.
    pub fn follows(&self, who: PublicKey) -> Vec<PublicKey> {
        let list = self.0.get(&(who, kind::FOLLOW_LIST));
        list.map_or(Vec::new(), |list| list.tags().values("p").filter_map(PublicKey::from_hex).collect())
    }

    /// Where somebody writes; `None`: no list of them was found.
    pub fn places(&self, who: PublicKey) -> Option<Vec<RelayUrl>> {
        let list = self.0.get(&(who, kind::RELAY_LIST))?;
        Some(places(list.tags().iter().filter(|tag| tag.name() == "r").filter_map(|tag| {
            let writes = tag.get(2).is_none_or(|marker| marker.is_empty() || marker == "write");
            tag.value().filter(|_| writes)
        })))
    }
}

/// The relays that these name, as far as they count.
fn places<'u>(urls: impl Iterator<Item = &'u str>) -> Vec<RelayUrl> {
    let mut seen = HashSet::new();
    urls.filter(|url| url.len() <= MAX_URL_BYTES)
        .filter_map(|url| RelayUrl::parse(url).ok())
        .filter(|url| seen.insert(url.clone()))
        .take(MAX_PLACES)
        .collect()
}

fn wanted(people: &[PublicKey], of_kind: u16) -> Filter {
    Filter { kinds: Some([of_kind].into()), authors: Some(sorted(people.to_vec())), ..Filter::default() }
}

async fn ask(
    endpoint: &Endpoint,
    people: &[PublicKey],
    of_kind: u16,
    found: &mut Vec<Event>,
) -> Result<(), crate::client::ClientError> {
    let mut endpoint = endpoint.clone();
    endpoint.bounds.message_bytes = MAX_MESSAGE_BYTES;
    let mut pages = Pages::new(endpoint, Filter::default(), AT_ONCE);
    for some in people.chunks(AT_ONCE) {
        let filter = wanted(some, of_kind);
        pages = pages.again(filter.clone());
        let mut seen = HashSet::new();
        while let Some(page) = pages.next_page().await? {
            // One of each is what a relay has; one that has more is asked no longer.
            found.extend(
                page.into_iter()
                    .filter(|event| filter.matches(event) && seen.insert(Fields::pubkey(event).to_owned())),
            );
            if seen.len() >= some.len() {
                break;
            }
        }
    }
    pages.close().await;
    Ok(())
}

async fn stored(store: &Arc<dyn Store>, filter: Filter) -> Result<Vec<Event>, StoreError> {
    let filters = vec![(filter, Limit::exactly(AT_ONCE))];
    let query =
        Arc::new(Query { filters, viewer: Viewer::Operator, now: clock::now(), content: Content::Events });
    let (mut cursor, mut events) = (Cursor::start(&query), Vec::new());
    loop {
        let page = store.query(Arc::clone(&query), cursor).await?;
        // The store has it, so it is one.
        let parsed = page.iter().filter_map(|entry| serde_json::from_str::<ParsedEvent<'_>>(entry.json).ok());
        events.extend(parsed.map(ParsedEvent::trust));
        match page.next {
            Some(next) => cursor = next,
            None => return Ok(events),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Tags, sign::Keys};

    fn list(keys: &Keys, at: u64, urls: &[&[&str]]) -> Event {
        let tags: Tags =
            urls.iter().map(|tag| tag.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>()).collect();
        keys.sign(at, kind::RELAY_LIST, tags, "")
    }

    #[test]
    fn the_newest_list_tells_where_somebody_writes() {
        let keys = Keys::generate();
        let mut lists = Lists::default();
        assert_eq!(lists.places(keys.public_key()), None);
        let newest = [
            &["r", "wss://both.example"][..],
            &["r", "wss://reads.example", "read"],
            &["r", "wss://writes.example/", "write"],
            &["r", "https://no.example"],
            &["r", "wss://both.example:443"],
            &["p", "wss://other.example"],
        ];
        lists.take(list(&keys, 2, &newest));
        lists.take(list(&keys, 1, &[&["r", "wss://old.example"]]));
        // Dated far ahead, by a wrong clock: it would stand for ever.
        assert!(!lists.take(list(&keys, clock::now() + 2 * AHEAD, &[&["r", "wss://ahead.example"]])));
        let places = lists.places(keys.public_key()).unwrap();
        let places: Vec<&str> = places.iter().map(RelayUrl::as_str).collect();
        assert_eq!(places, ["wss://both.example", "wss://writes.example"]);
    }

    #[test]
    fn a_list_without_end_counts_for_little() {
        let long = format!("wss://{}.example", "a".repeat(MAX_URL_BYTES));
        let urls: Vec<String> = (0..1_000).map(|n| format!("wss://r{n}.example")).collect();
        let named = places(std::iter::once(long.as_str()).chain(urls.iter().map(String::as_str)));
        assert_eq!(named.len(), MAX_PLACES);
        assert_eq!(named[0].as_str(), "wss://r0.example");
    }
}

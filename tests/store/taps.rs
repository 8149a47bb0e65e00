//! Taps: what they are told of, by whom it was written, and when.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{FutureExt, future::BoxFuture};
use rookery::{
    protocol::{Event, EventId, Filter},
    store::{
        Content, Cursor, Limit, Moment, Page, Query, Removed, Store, StoreError, Viewer,
        memory::Memory,
        tap::{Tap, Taps, WrittenBy},
    },
};

use crate::{
    feeds::Scripted,
    subject::{NOW, delete, event, note, soon, user},
};

#[derive(Debug, PartialEq)]
enum Told {
    Stored(Vec<EventId>, WrittenBy),
    Removed(Vec<EventId>),
    Doubted(Vec<EventId>),
}

/// In place of every moment when something was heard.
const BEGINNING: Moment = Moment::of_millis(0);

/// A tap that notes what it is told, and where the store's head stood then.
#[derive(Default)]
struct Noted {
    told: Mutex<Vec<Told>>,
    heads: Mutex<Vec<u64>>,
    /// The store with this tap.
    store: OnceLock<Arc<dyn Store>>,
    knows_all: AtomicBool,
}

impl Noted {
    fn on(store: impl Store) -> (Arc<Self>, Arc<dyn Store>, Taps) {
        let noted = Arc::new(Self::default());
        let taps = Taps::from_iter([Arc::clone(&noted) as Arc<dyn Tap>]);
        let store = taps.clone().on(Arc::new(store));
        let _ = noted.store.set(Arc::clone(&store));
        (noted, store, taps)
    }

    fn note(&self, told: Told) {
        self.told.lock().unwrap().push(told);
        self.heads.lock().unwrap().extend(self.store.get().map(|store| store.head()));
    }

    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

fn ids<'a>(events: impl IntoIterator<Item = &'a Arc<Event>>) -> Vec<EventId> {
    events.into_iter().map(|event| event.id()).collect()
}

impl Tap for Noted {
    fn stored(&self, events: &[&Arc<Event>], writer: WrittenBy) {
        let writer = match writer {
            WrittenBy::Elsewhere { .. } => WrittenBy::Elsewhere { heard_at: BEGINNING },
            here @ WrittenBy::Here(_) => here,
        };
        self.note(Told::Stored(ids(events.iter().copied()), writer));
    }

    fn removed(&self, removed: &Removed) {
        self.note(Told::Removed(removed.ids.clone()));
    }

    fn doubted(&self, events: &[Arc<Event>]) {
        self.note(Told::Doubted(ids(events)));
    }

    fn answer(&self, _: &Arc<Query>, _: &Cursor) -> Option<BoxFuture<'_, Result<Page, StoreError>>> {
        self.knows_all.load(Ordering::Relaxed).then(|| std::future::ready(Ok(Page::new())).boxed())
    }
}

#[tokio::test]
async fn a_tap_is_told_what_is_stored_and_removed_before_the_head_moves() {
    let (noted, store, _) = Noted::on(Memory::new());
    let keys = user(1);
    let (first, second) = (note(&keys, 10, "first"), note(&keys, 11, "second"));
    let batch = [Arc::clone(&first), Arc::clone(&first), Arc::clone(&second)];
    store.write(batch.into(), NOW, soon()).await.unwrap();
    assert_eq!(
        noted.take(),
        [
            Told::Stored(ids([&first, &second]), WrittenBy::Here(store.head())),
            Told::Stored(ids([&first]), WrittenBy::Elsewhere { heard_at: BEGINNING }),
        ]
    );
    // Whoever subscribes now asks afterwards: then the tap had been told.
    assert_eq!(noted.heads.lock().unwrap()[..], [0, 0]);
    assert!(store.head() > 0);
    let request = delete(&keys, 12, &first);
    store.write([Arc::clone(&request)].into(), NOW, soon()).await.unwrap();
    assert_eq!(
        noted.take(),
        [Told::Stored(ids([&request]), WrittenBy::Here(store.head())), Told::Removed(ids([&first])),]
    );
    // What is refused is not stored.
    store.write([first].into(), NOW, soon()).await.unwrap();
    assert_eq!(noted.take(), []);
}

#[tokio::test]
async fn a_tap_is_told_when_nobody_knows_what_became_of_a_batch() {
    let scripted = Scripted::new();
    scripted.fails.store(true, Ordering::Relaxed);
    let (noted, store, _) = Noted::on(scripted);
    let lost = note(&user(1), 10, "lost");
    assert!(store.write([Arc::clone(&lost)].into(), NOW, soon()).await.is_err());
    assert_eq!((noted.take(), store.head()), (vec![Told::Doubted(ids([&lost]))], 0));
}

#[tokio::test]
async fn a_tap_hears_what_other_nodes_store_and_nothing_that_is_in_no_store() {
    let (noted, _, taps) = Noted::on(Memory::new());
    let keys = user(1);
    let (kept, ephemeral) = (note(&keys, 10, "kept"), event(&keys, 10, 20_001, &[], ""));
    taps.heard(&[Arc::clone(&kept), Arc::clone(&ephemeral)]);
    taps.heard(&[ephemeral]);
    assert_eq!(noted.take(), [Told::Stored(ids([&kept]), WrittenBy::Elsewhere { heard_at: BEGINNING })]);
}

#[tokio::test]
async fn a_tap_that_knows_the_answer_is_asked_first() {
    let (noted, store, _) = Noted::on(Memory::new());
    store.write([note(&user(1), 10, "")].into(), NOW, soon()).await.unwrap();
    let filters = vec![(Filter::default(), Limit::exactly(10))];
    let query = Arc::new(Query { filters, viewer: Viewer::Operator, now: NOW, content: Content::Events });
    for (knows_all, found) in [(false, 1), (true, 0)] {
        noted.knows_all.store(knows_all, Ordering::Relaxed);
        let page = store.query(Arc::clone(&query), Cursor::start(&query)).await.unwrap();
        assert_eq!(page.iter().count(), found);
    }
}

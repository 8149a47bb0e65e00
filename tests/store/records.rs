//! Small records of the relay itself, each changed only by whoever has seen its last version.

use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::{join, join_all};
use rookery::store::records::{
    MAX_KEY_BYTES, MAX_VALUE_BYTES, PAGE_BYTES, Race, Record, RecordKind, Records, Unfit, Version,
};

use crate::{
    cql_server::{nodes, patient},
    subject::{Open, Subject},
};

use RecordKind::{Cursor, ListEntry, Name, Setting};

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

impl Subject {
    fn records(&self) -> &dyn Records {
        self.store().records()
    }

    /// Reads it in both ways.
    fn get(&self, kind: RecordKind, key: &str) -> Option<Record> {
        let found = self.block_on(self.records().get(kind, key)).unwrap();
        assert_eq!(found, self.block_on(self.records().get_decided(kind, key)).unwrap());
        found
    }

    fn value(&self, kind: RecordKind, key: &str) -> Option<Vec<u8>> {
        self.get(kind, key).map(|record| record.value)
    }

    fn try_put(&self, kind: RecordKind, key: &str, expected: Option<Version>, value: &[u8]) -> Race {
        self.block_on(self.records().put(kind, key, expected, value.to_vec(), None)).unwrap()
    }

    fn make(&self, kind: RecordKind, key: &str, value: &[u8]) -> Version {
        won(self.try_put(kind, key, None, value))
    }

    /// One that is gone after a second.
    fn make_short(&self, kind: RecordKind, key: &str) -> Version {
        won(self.block_on(self.records().put(kind, key, None, b"short".to_vec(), SECOND)).unwrap())
    }

    fn remove(&self, kind: RecordKind, key: &str, expected: Version) -> Race {
        self.block_on(self.records().remove(kind, key, expected))
    }

    /// All keys, by pages.
    fn keys(&self, kind: RecordKind, prefix: &str, from: Option<&str>, limit: usize) -> Vec<String> {
        let (mut keys, mut after) = (Vec::new(), from.map(str::to_owned));
        loop {
            let page = self.block_on(self.records().list(kind, prefix, after.as_deref(), limit)).unwrap();
            assert!(page.records.len() <= limit);
            keys.extend(page.records.into_iter().map(|record| record.key));
            match page.next {
                Some(next) => {
                    assert_eq!(Some(&next), keys.last(), "it goes on after what was listed");
                    after = Some(next);
                }
                None => return keys,
            }
        }
    }

    fn until_gone(&self, kind: RecordKind, key: &str) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.block_on(self.records().get(kind, key)).unwrap().is_some() {
            assert!(Instant::now() < deadline, "{key} does not expire");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[track_caller]
fn won(race: Race) -> Version {
    race.won().unwrap_or_else(|| panic!("{race:?}"))
}

/// What is there instead.
#[track_caller]
fn overtaken(race: Race) -> Option<Record> {
    match race {
        Race::Overtaken(found) => found,
        other => panic!("{other:?}"),
    }
}

pub fn are_read_as_they_were_written(open: Open) {
    let store = open();
    assert_eq!(store.get(Setting, "limits.max_tags"), None);
    for (key, value) in [
        ("limits.max_tags", &b"100"[..]),
        ("empty", &[]),
        ("large", &[7; MAX_VALUE_BYTES]),
        ("schlüssel \0", &[0]),
    ] {
        let version = store.make(Setting, key, value);
        let expected = Record { key: key.to_owned(), value: value.to_vec(), version };
        assert_eq!(store.get(Setting, key), Some(expected));
        assert_eq!(store.get(ListEntry, key), None, "of another kind");
    }
}

pub fn are_written_over_the_version_that_was_seen(open: Open) {
    let store = open();
    let first = store.make(Name, "alice", b"1");
    let found = overtaken(store.try_put(Name, "alice", None, b"2")).unwrap();
    assert_eq!((found.version, &*found.value), (first, &b"1"[..]));
    let second = won(store.try_put(Name, "alice", Some(first), b"2"));
    assert!(second.number > first.number && second.write != first.write);
    let found = overtaken(store.try_put(Name, "alice", Some(first), b"3")).unwrap();
    assert_eq!((found.version, &*found.value), (second, &b"2"[..]));
    assert_eq!(overtaken(store.remove(Name, "alice", first)).map(|found| found.version), Some(second));
    assert_eq!(store.value(Name, "alice").as_deref(), Some(&b"2"[..]));
    assert_eq!(overtaken(store.try_put(Name, "bob", Some(second), b"1")), None);
    assert_eq!(store.get(Name, "bob"), None);
}

pub fn are_removed_once(open: Open) {
    let store = open();
    let first = store.make(Name, "alice", b"1");
    won(store.remove(Name, "alice", first));
    assert_eq!(store.get(Name, "alice"), None);
    assert_eq!(overtaken(store.remove(Name, "alice", first)), None);
    assert_eq!(overtaken(store.try_put(Name, "alice", Some(first), b"1")), None);
    // The same again is another one.
    let again = store.make(Name, "alice", b"1");
    assert_ne!(first, again);
    assert_eq!(overtaken(store.remove(Name, "alice", first)).map(|found| found.version), Some(again));
    assert_eq!(store.keys(Name, "", None, 10), ["alice"]);
    won(store.remove(Name, "alice", again));
    assert_eq!(store.keys(Name, "", None, 10), [""; 0]);
}

pub fn are_listed_in_the_order_of_their_keys(open: Open) {
    let store = open();
    let mut keys: Vec<String> = (0..40).map(|n| format!("ban/{n}")).collect();
    keys.extend(["ban", "bao", "a", "ban/ö", "ban/\u{10ffff}"].map(str::to_owned));
    for key in &keys {
        store.make(ListEntry, key, key.as_bytes());
    }
    store.make(Setting, "ban/of another kind", b"");
    let gone = store.make(ListEntry, "ban/17a", b"");
    won(store.remove(ListEntry, "ban/17a", gone));
    keys.sort();
    for limit in [1, 3, 7, 45, 46] {
        assert_eq!(store.keys(ListEntry, "", None, limit), keys, "by {limit}");
    }
    let those = |keep: &dyn Fn(&str) -> bool| -> Vec<String> {
        keys.iter().filter(|key| keep(key)).cloned().collect()
    };
    assert_eq!(store.keys(ListEntry, "ban/", None, 5), those(&|key| key.starts_with("ban/")));
    assert_eq!(store.keys(ListEntry, "ban/3", None, 100), those(&|key| key.starts_with("ban/3")));
    for after in ["", "a", "ban/", "ban/30", "ban/zz", "c"] {
        let expected = those(&|key| key.starts_with("ban/") && key > after);
        assert_eq!(store.keys(ListEntry, "ban/", Some(after), 5), expected, "after {after:?}");
    }
    assert_eq!(store.keys(ListEntry, "no such", None, 5), [""; 0]);
    let page = store.block_on(store.records().list(ListEntry, "ban/1", None, 1)).unwrap();
    assert_eq!(page.records[0].value, b"ban/1");
}

pub fn that_are_large_are_fewer_a_page(open: Open) {
    const COUNT: usize = PAGE_BYTES / MAX_VALUE_BYTES + 3;
    let store = open();
    let keys: Vec<String> = (0..COUNT).map(|n| format!("{n:02}")).collect();
    for key in &keys {
        store.make(Cursor, key, &[1; MAX_VALUE_BYTES]);
    }
    let page = store.block_on(store.records().list(Cursor, "", None, 1_000)).unwrap();
    assert!((1..COUNT).contains(&page.records.len()), "{}", page.records.len());
    assert_eq!(store.keys(Cursor, "", None, 1_000), keys);
}

pub fn expire(open: Open) {
    let store = open();
    store.make(Name, "stays", b"");
    let first = store.make_short(Name, "goes");
    // A slow store may take so long that it is gone before.
    let kept = std::iter::repeat_with(|| store.make_short(Name, "is kept"))
        .find_map(|short| store.try_put(Name, "is kept", Some(short), b"for ever").won());
    let kept = kept.unwrap();
    store.until_gone(Name, "goes");
    assert_eq!(store.keys(Name, "", None, 10), ["is kept", "stays"]);
    assert_eq!(overtaken(store.try_put(Name, "goes", Some(first), b"")), None);
    assert_eq!(overtaken(store.remove(Name, "goes", first)), None);
    let second = store.make_short(Name, "goes");
    assert_ne!(first, second);
    store.until_gone(Name, "goes");
    // What is swept later than it was written again stays.
    let third = store.make(Name, "goes", b"third");
    let later = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    // Some of it: the other tests have left events at times of their own, years before.
    for _ in 0..10 {
        store.block_on(store.maintain_some(later)).unwrap();
    }
    assert_eq!(store.get(Name, "goes").map(|record| record.version), Some(third));
    assert_eq!(store.get(Name, "is kept").map(|record| record.version), Some(kept));
    assert_eq!(store.keys(Name, "", None, 10), ["goes", "is kept", "stays"]);
}

pub fn that_do_not_fit_are_refused(open: Open) {
    let store = open();
    let put = |key: &str, bytes: usize, expires_in| {
        store.block_on(store.records().put(Setting, key, None, vec![0; bytes], expires_in)).unwrap_err()
    };
    assert_eq!(put("k", MAX_VALUE_BYTES + 1, None), Unfit::Value(MAX_VALUE_BYTES + 1));
    assert_eq!(put("", 0, None), Unfit::Key(0));
    assert_eq!(put(&"k".repeat(MAX_KEY_BYTES + 1), 0, None), Unfit::Key(MAX_KEY_BYTES + 1));
    assert_eq!(put("k", 0, Some(Duration::ZERO)), Unfit::Expiry(Duration::ZERO));
    assert_eq!(store.keys(Setting, "", None, 10), [""; 0]);
    let longest = "k".repeat(MAX_KEY_BYTES);
    store.make(RecordKind::DeadLetters, &longest, b"");
    assert_eq!(store.keys(RecordKind::DeadLetters, "k", None, 10), [longest]);
}

/// Of many who change the same record at once, each having seen the same version, one has won.
pub fn are_won_by_one_at_a_time(open: Open) {
    const ROUNDS: usize = 4;
    const WRITERS: u8 = 8;
    let store = open();
    let mut before = None;
    for _ in 0..ROUNDS {
        let puts = (0..WRITERS).map(|writer| store.records().put(Name, "k", before, vec![writer], None));
        let races = store.block_on(join_all(puts)).into_iter().map(Result::unwrap);
        let wins: Vec<(usize, Version)> =
            races.enumerate().filter_map(|(writer, race)| Some((writer, race.won()?))).collect();
        let [(writer, version)] = wins[..] else { panic!("{wins:?}") };
        let expected = Record { key: "k".to_owned(), value: vec![writer as u8], version };
        assert_eq!(store.get(Name, "k"), Some(expected));
        before = Some(version);
    }
    let removals = (0..WRITERS).map(|_| store.records().remove(Name, "k", before.unwrap()));
    let races = store.block_on(join_all(removals));
    assert_eq!(races.iter().filter(|race| race.won().is_some()).count(), 1, "{races:?}");
    assert_eq!(store.get(Name, "k"), None);
}

/// Two nodes count one up, each as often as it can. Nothing is counted twice, and nothing is lost.
#[test]
fn of_two_nodes_are_the_same() {
    const EACH: u64 = 10;
    let [a, b] = nodes(patient());
    a.block_on(join(count(a.records(), EACH), count(b.records(), EACH)));
    assert_eq!(a.get(Setting, "count"), b.get(Setting, "count"));
    let record = a.get(Setting, "count").unwrap();
    assert_eq!((record.value, record.version.number), ((2 * EACH).to_be_bytes().to_vec(), 2 * EACH));
}

async fn count(records: &dyn Records, times: u64) {
    for _ in 0..times {
        let mut seen = records.get(Setting, "count").await.unwrap();
        loop {
            let (count, expected) = match seen {
                Some(seen) => (u64::from_be_bytes(seen.value[..].try_into().unwrap()), Some(seen.version)),
                None => (0, None),
            };
            let put = records.put(Setting, "count", expected, (count + 1).to_be_bytes().to_vec(), None);
            match put.await.unwrap() {
                Race::Won(_) => break,
                Race::Overtaken(found) => seen = found,
                Race::Unknown(error) => panic!("{}", error.detail()),
            }
        }
    }
}

//! A data folder that an older version has made is brought to the format of this one, whenever that is cut off, and
//! loses nothing.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use common::rookery;
use rookery::{
    config,
    protocol::{Event, Timestamp},
    store::{
        lmdb::{Access, FolderError, Lmdb, OpenError},
        memory::Memory,
        records::RecordKind,
    },
};
use tempfile::TempDir;

use crate::subject::{Subject, delete, event, filter, gift_wrap, hex, note, query, user, vanish};

/// When the story of the folder begins.
const THEN: Timestamp = 1_700_000_000;

/// When it is looked at: before what expires at all.
const NOW: Timestamp = THEN + 100_000;

/// What the folder was given, in this order and in one batch: something for each of its tables.
fn story() -> Vec<Arc<Event>> {
    let [alice, bob, carol] = [1, 2, 3].map(user);
    let mut story: Vec<Arc<Event>> = (0..60).map(|n| note(&alice, THEN + n, &format!("note {n}"))).collect();
    story.extend((0..20).map(|n| event(&bob, THEN + n, 1, &[&["t", "rookery"], &["p", &hex(&alice)]], "")));
    story.extend((0..5).map(|n| event(&bob, THEN + n, 0, &[], &format!("profile {n}"))));
    story.extend((0..5).map(|n| event(&bob, THEN + n, 30_023, &[&["d", &format!("{}", n % 2)]], "")));
    let expires = (NOW + 10_000_000_000).to_string();
    story.push(event(&bob, THEN + 30, 1, &[&["expiration", &expires]], "for three centuries"));
    story.push(delete(&alice, THEN + 100, &story[3]));
    story.push(gift_wrap(&bob, THEN + 40, &carol, "to one who vanishes"));
    story.extend((0..10).map(|n| note(&carol, THEN + n, "gone")));
    story.push(vanish(&carol, THEN + 200));
    story
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/fixtures/format-1.mdb.zst")
}

/// Makes the folder, with a program of the version before: `ROOKERY_TEST_BEFORE` says which. Commit 320eecd was the
/// last one of format 1.
#[test]
#[ignore = "makes the fixture, once"]
fn make_a_folder_of_format_1() {
    let folder = TempDir::new().unwrap();
    let (data, lines) = (folder.path().join("data"), folder.path().join("story.jsonl"));
    fs::write(&lines, story().iter().map(|event| format!("{}\n", event.json())).collect::<String>()).unwrap();
    let mut import = Command::new(env::var_os("ROOKERY_TEST_BEFORE").unwrap());
    import.arg("import").arg(lines).arg("--data").arg(&data);
    assert!(import.status().unwrap().success());
    assert_eq!(fs::read_to_string(data.join("FORMAT")).unwrap(), FORMAT_1);
    let packed = zstd::encode_all(&*fs::read(data.join("data.mdb")).unwrap(), 19).unwrap();
    fs::write(fixture(), packed).unwrap();
}

const FORMAT_1: &str = "Rookery data folder, format 1\n";

/// Puts the folder down as it was.
fn put_down(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("FORMAT"), FORMAT_1).unwrap();
    fs::write(path.join("data.mdb"), zstd::decode_all(&*fs::read(fixture()).unwrap()).unwrap()).unwrap();
}

fn format(path: &Path) -> String {
    fs::read_to_string(path.join("FORMAT")).unwrap()
}

/// Opens it, and compares what is in it with what the model makes of the story.
fn is_whole(path: &Path) -> Subject {
    let store = Subject::new(Lmdb::open(path, &config::Lmdb::default(), Access::Exclusive).unwrap());
    let model = Subject::new(Memory::new());
    model.write_at(NOW, &story());
    let author = |n| hex(&user(n));
    let questions = [
        "{}".to_owned(),
        r#"{"kinds":[1]}"#.to_owned(),
        r##"{"#t":["rookery"]}"##.to_owned(),
        format!(r#"{{"authors":["{}"]}}"#, author(1)),
        format!(r#"{{"authors":["{}"],"kinds":[0,30023]}}"#, author(2)),
        format!(r##"{{"#p":["{}","{}"]}}"##, author(1), author(3)),
    ];
    for _ in 0..2 {
        for question in &questions {
            let [found, expected] = [&store, &model].map(|store| {
                store.answer(rookery::store::Query { now: NOW, ..query([filter(question)]) }).json
            });
            assert!(!expected.is_empty());
            assert_eq!(found, expected, "{question}");
        }
        // And once more when what was left to do is done.
        store.maintain(NOW);
    }
    assert_eq!(store.store().head(), model.store().head());
    store
}

#[test]
fn a_folder_of_format_1_is_brought_to_this_one() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data");
    put_down(&path);
    let read_only = || Lmdb::open(&path, &config::Lmdb::default(), Access::Shared).map(drop);
    // Who only reads changes nothing.
    let refused = read_only().unwrap_err();
    assert!(matches!(refused, OpenError::Folder(FolderError::Older(_))), "{refused}");
    assert_eq!(format(&path), FORMAT_1);

    let store = is_whole(&path);
    assert_eq!(format(&path), "Rookery data folder, format 2\n");
    let records = store.store().records();
    let put = records.put(RecordKind::Setting, "key", None, b"value".to_vec(), None);
    assert!(store.block_on(put).unwrap().won().is_some());
    drop(store);
    read_only().unwrap();
    let store = is_whole(&path);
    assert!(store.block_on(store.store().records().get(RecordKind::Setting, "key")).unwrap().is_some());
}

/// `kill -9` of a relay that starts on it, whenever.
#[test]
fn a_start_that_is_killed_loses_nothing() {
    const KILLS: u32 = 12;
    let folder = TempDir::new().unwrap();
    for nth in 0..KILLS {
        let path = folder.path().join(nth.to_string());
        put_down(&path);
        for _ in 0..2 {
            let mut relay =
                rookery(&["relay", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data"]);
            let mut relay = relay.arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // Over the time that a start takes, on a machine that has other things to do.
            thread::sleep(Duration::from_millis(8) * nth);
            relay.kill().unwrap();
            relay.wait().unwrap();
        }
        is_whole(&path);
    }
}

#[test]
fn a_folder_of_a_newer_format_is_refused() {
    let folder = TempDir::new().unwrap();
    put_down(folder.path());
    fs::write(folder.path().join("FORMAT"), "Rookery data folder, format 3\n").unwrap();
    for access in [Access::Exclusive, Access::Shared] {
        let refused = Lmdb::open(folder.path(), &config::Lmdb::default(), access).map(drop).unwrap_err();
        let found = match &refused {
            OpenError::Folder(FolderError::Version { found, .. }) => found,
            other => panic!("{other}"),
        };
        assert_eq!(found, "3");
    }
}

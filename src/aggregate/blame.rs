//! Upstreams whose events end the process.
//!
//! A fault of this program that an event of an upstream finds ends the process. The cursor is before that event, so the
//! next process would read it again, and end too, for ever, with all that its clients do. So the last thing that such a
//! process does is to write down whose event it was at; an upstream that stands there twice within ten minutes is not
//! read for an hour. A process that is killed writes nothing: that says nothing about an upstream.

use std::{
    cell::Cell,
    collections::HashMap,
    fs::{self, OpenOptions},
    io::Write,
    panic,
    path::Path,
};

use super::upstream::UpstreamId;
use crate::{clock, protocol::Timestamp};

/// So often …
const TIMES: usize = 2;
/// … in so many seconds …
const WITHIN: u64 = 10 * 60;
/// … and it is not read for so many.
pub const REST: u64 = 60 * 60;
/// What is larger was not written here.
const MAX_FILE_BYTES: u64 = 1 << 20;

thread_local! {
    /// Whose event this thread is at.
    static AT_WORK: Cell<Option<UpstreamId>> = const { Cell::new(None) };
}

/// Works at an event of an upstream.
pub fn at_work<T>(upstream: UpstreamId, work: impl FnOnce() -> T) -> T {
    AT_WORK.set(Some(upstream));
    let done = work();
    AT_WORK.set(None);
    done
}

/// From now on, a panic of a thread that is at work is written to this file, before anything else is done about it.
pub fn watch(file: &Path) {
    let (file, before) = (file.to_owned(), panic::take_hook());
    panic::set_hook(Box::new(move |panic| {
        if let Some(upstream) = AT_WORK.get() {
            note(&file, upstream, clock::now());
        }
        before(panic);
    }));
}

fn note(file: &Path, upstream: UpstreamId, now: Timestamp) {
    // The process ends: nobody could be told that it can not be written.
    let opened = OpenOptions::new().create(true).append(true).open(file);
    let _ = opened.and_then(|mut file| writeln!(file, "{upstream} {now}").and_then(|()| file.sync_all()));
}

/// Those that are not to be read by now, and until when.
pub fn blamed(file: &Path, now: Timestamp) -> HashMap<UpstreamId, Timestamp> {
    let is_ours = fs::metadata(file).is_ok_and(|found| found.len() <= MAX_FILE_BYTES);
    let text = if is_ours { fs::read_to_string(file).unwrap_or_default() } else { String::new() };
    let mut moments: HashMap<UpstreamId, Vec<Timestamp>> = HashMap::new();
    for line in text.lines() {
        let Some((upstream, moment)) = line.split_once(' ') else { continue };
        if let (Ok(upstream), Ok(moment)) = (upstream.parse(), moment.parse()) {
            moments.entry(upstream).or_default().push(moment);
        }
    }
    let until = |moments: Vec<Timestamp>| {
        let close = moments.windows(TIMES).filter(|some| some[TIMES - 1].saturating_sub(some[0]) <= WITHIN);
        close.map(|some| some[TIMES - 1] + REST).max().filter(|until| *until > now)
    };
    moments.into_iter().filter_map(|(upstream, moments)| Some((upstream, until(moments)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::upstream::RelayUrl;

    fn upstream(host: &str) -> UpstreamId {
        RelayUrl::parse(&format!("ws://{host}")).unwrap().id()
    }

    #[test]
    fn twice_within_ten_minutes_is_once_too_often() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("blame");
        let (a, b, c) = (upstream("a"), upstream("b"), upstream("c"));
        assert!(blamed(&file, 0).is_empty());
        for (upstream, moment) in [(a, 1_000), (b, 1_001), (c, 1_002), (a, 1_600), (b, 1_602)] {
            note(&file, upstream, moment);
        }
        assert_eq!(blamed(&file, 1_700), HashMap::from([(a, 1_600 + REST)]));
        assert!(blamed(&file, 1_600 + REST).is_empty());
        // Half a line, of a process that ended amid it, and what was never written here.
        fs::write(&file, format!("{a} 10\n{a} 20\nnonsense\n{b} x\n{c}")).unwrap();
        assert_eq!(blamed(&file, 30), HashMap::from([(a, 20 + REST)]));
    }

    #[test]
    fn a_panic_is_noted_of_whom_it_was_at() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("blame");
        watch(&file);
        let panics = |work: fn()| std::thread::spawn(work).join().unwrap_err();
        panics(|| at_work(upstream("a"), || panic!("planted")));
        panics(|| at_work(upstream("a"), || panic!("planted")));
        panics(|| {
            at_work(upstream("b"), || ());
            panic!("planted, at nobody's event")
        });
        assert_eq!(blamed(&file, clock::now()).into_keys().collect::<Vec<_>>(), [upstream("a")]);
    }
}

//! Instructions that the hot paths take, counted by Callgrind: the same on a busy machine as on an
//! idle one, so that a change of one percent shows. What the kernel and the disk do
//! is not in them, and long copies (`rep movs`) count by the byte, which is far too much.
//!
//! `cargo bench --bench instructions [-- NAME…]` counts; it needs `valgrind`. Each operation runs in
//! a process of its own. Its profile stays in the target folder, `tmp/callgrind.NAME`, for
//! `callgrind_annotate --threshold=100` (the functions that counting began in are listed whole).

#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on is to stop")]

mod population;
mod traced;

use std::{
    env, fs,
    hint::black_box,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::Arc,
};

use population::{
    Embedded, Population, filter, home_feed_request, home_feeds, question, questions, signed_note,
    subscriptions_of_kind_1, user,
};
use rookery::{
    protocol::{ClientMessage, Event, Filter, ParsedEvent, verify::Verifier},
    route::index::Index,
    session::Outbox,
};
use traced::{BATCH, RATIOS, Way};

/// What the store holds: less than in the other benchmarks, as it is copied often.
const EVENTS: usize = 20_000;
/// Events that are written to it.
const FRESH_EVENTS: usize = 8_000;

type Operation = Box<dyn FnMut()>;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let [name, times, folder] = &arguments[..]
        && let Ok(times) = times.parse::<usize>()
    {
        let mut operation = prepare(name, &Inputs(folder.into()));
        measured(times, &mut operation);
        // Counting ends here: to let go of inputs, stores and threads takes more than some operations.
        process::exit(0);
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        return println!("instructions are not counted: valgrind is not installed");
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let inputs = Inputs(folder.path().into());
    for (name, times) in inputs.make() {
        if arguments.is_empty() || arguments.contains(&name) {
            println!("{name:<28} {:>12} instructions", count(&name, times, &inputs) / times as u64);
        }
    }
}

/// Counting begins here.
#[inline(never)]
fn measured(times: usize, operation: &mut Operation) {
    (0..times).for_each(|_| operation());
}

/// Runs an operation so many times under Callgrind; the instructions of all threads together.
fn count(name: &str, times: usize, inputs: &Inputs) -> u64 {
    inputs.renew_store();
    let profile = format!("{}/callgrind.{name}", env!("CARGO_TARGET_TMPDIR"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--zero-before=*measured*"])
        .arg(format!("--callgrind-out-file={profile}"))
        .arg(env::current_exe().unwrap())
        .args([name, &times.to_string()])
        .arg(&inputs.0)
        .output()
        .unwrap();
    let profile = fs::read_to_string(profile).unwrap_or_default();
    let totals = profile.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    let Some(totals) = totals.filter(|_| output.status.success()) else {
        panic!("{}", String::from_utf8_lossy(&output.stderr))
    };
    totals.trim().parse().unwrap()
}

/// Makes one operation ready, with everything that is not to be counted per turn.
fn prepare(name: &str, inputs: &Inputs) -> Operation {
    let message = |text: String| -> Operation {
        Box::new(move || assert!(ClientMessage::parse(black_box(&text)).is_ok()))
    };
    match name {
        "parse_event" => message(format!(r#"["EVENT",{}]"#, signed_note(&user(1), 1).json())),
        "parse_req_of_500_authors" => message(home_feed_request(500)),
        "verify_hot_key" => verify(1),
        "verify_cold_key" => verify(2),
        "match_2000_home_feeds" => find(home_feeds(2_000, 50)),
        "match_500_of_kind_1" => find(subscriptions_of_kind_1(500)),
        "splice_event" => {
            let outbox = Outbox::default();
            let event = signed_note(&user(1), 1);
            Box::new(move || {
                outbox.event(black_box("\"subscription\""), event.json());
                assert!(outbox.take(1 << 14).is_some());
            })
        }
        _ => match name.split_once('_') {
            Some(("trace", name)) => {
                let (_, ratio) = RATIOS.into_iter().find(|(known, _)| *known == name).unwrap();
                let way = Way::new(ratio, Population::new().take(BATCH).map(Arc::new).collect());
                Box::new(move || black_box(&way).run())
            }
            Some(("write", size)) => {
                let embedded = Embedded::open(&inputs.store());
                let size = size.parse().unwrap();
                let events = inputs.fresh_events();
                let mut batches = events.chunks(size).map(Arc::from).collect::<Vec<_>>().into_iter();
                Box::new(move || embedded.write(batches.next().unwrap()))
            }
            Some(("query", name)) => {
                let embedded = Embedded::open(&inputs.store());
                let query = Arc::new(question(inputs.filter(name)));
                Box::new(move || {
                    black_box(embedded.ask(&query));
                })
            }
            _ => panic!("unknown operation {name}"),
        },
    }
}

/// Verifies events of so many authors in turn, with room for one decoded key.
fn verify(authors: u64) -> Operation {
    let mut verifier = Verifier::new(NonZeroUsize::MIN);
    let texts: Vec<String> = (0..authors).map(|nth| signed_note(&user(nth), 1).json().to_owned()).collect();
    let mut turn = 0;
    Box::new(move || {
        turn = (turn + 1) % texts.len();
        let parsed: ParsedEvent = serde_json::from_str(&texts[turn]).unwrap();
        assert!(verifier.verify(parsed).is_ok());
    })
}

fn find(subscriptions: Vec<Box<[Filter]>>) -> Operation {
    let mut index = Index::default();
    for (owner, filters) in subscriptions.into_iter().enumerate() {
        index.insert(owner, filters);
    }
    let events: Vec<Event> = Population::new().take(500).collect();
    let mut turn = 0;
    Box::new(move || {
        turn = (turn + 1) % events.len();
        index.matches(&events[turn], |owner| {
            black_box(owner);
        });
    })
}

/// The folder with what the counted processes work on.
struct Inputs(PathBuf);

impl Inputs {
    /// Writes everything down; the names of all operations, and how often they are to run.
    fn make(&self) -> Vec<(String, usize)> {
        let mut population = Population::new();
        let embedded = Embedded::open(&self.0.join("filled"));
        embedded.fill(&mut population, EVENTS);
        drop(embedded);
        let mut names: Vec<(String, usize)> = [
            ("parse_event", 1_000),
            ("parse_req_of_500_authors", 100),
            ("verify_hot_key", 100),
            ("verify_cold_key", 100),
            ("match_2000_home_feeds", 2_000),
            ("match_500_of_kind_1", 2_000),
            ("splice_event", 1_000),
            ("trace_off", 1_000),
            ("trace_1_percent", 1_000),
            ("trace_100_percent", 1_000),
            ("write_1", 60),
            ("write_64", 55),
            ("write_1000", 4),
            ("write_4000", 1),
        ]
        .map(|(name, times)| (name.to_owned(), times))
        .into();
        for (name, filter) in questions(&population) {
            names.push((format!("query_{name}"), 20));
            fs::write(self.0.join(name), serde_json::to_string(&filter).unwrap()).unwrap();
        }
        let fresh: Vec<String> = population.take(FRESH_EVENTS).map(|event| event.json().to_owned()).collect();
        fs::write(self.0.join("fresh"), fresh.join("\n")).unwrap();
        names
    }

    /// Where the store is that an operation works on.
    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// Makes it what it was.
    fn renew_store(&self) {
        fs::create_dir_all(self.store()).unwrap();
        for file in fs::read_dir(self.0.join("filled")).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), self.store().join(file.file_name())).unwrap();
        }
    }

    fn filter(&self, name: &str) -> Filter {
        filter(serde_json::from_str(&read(&self.0.join(name))).unwrap())
    }

    fn fresh_events(&self) -> Vec<Arc<Event>> {
        let event = |line| Arc::new(serde_json::from_str::<ParsedEvent>(line).unwrap().trust());
        read(&self.0.join("fresh")).lines().map(event).collect()
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

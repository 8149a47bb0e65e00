//! Instructions that the hot paths take, counted by Callgrind: the same on a busy machine as on an
//! idle one, so that a change of one percent shows. (What the kernel and the disk do is not in them.)
//!
//! `cargo bench --bench instructions [-- NAME…]` counts; it needs `valgrind`. Each operation runs in
//! a process of its own, once few and once many times, and the difference is what it takes. The
//! profile of the longer run stays in the target folder, `tmp/callgrind.NAME`, for
//! `callgrind_annotate`.

mod population;

use std::{
    env, fs,
    hint::black_box,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::Command,
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
        return (0..times).for_each(|_| operation());
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        return println!("instructions are not counted: valgrind is not installed");
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let inputs = Inputs(folder.path().into());
    let names = inputs.make();
    for (name, [few, many]) in names {
        if arguments.is_empty() || arguments.contains(&name) {
            let difference = count(&name, many, &inputs) - count(&name, few, &inputs);
            println!("{name:<28} {:>12} instructions", difference / (many - few) as u64);
        }
    }
}

/// Runs an operation so many times under Callgrind; the instructions of the whole process.
fn count(name: &str, times: usize, inputs: &Inputs) -> u64 {
    inputs.renew_store();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=no"])
        .arg(format!("--callgrind-out-file={}/callgrind.{name}", env!("CARGO_TARGET_TMPDIR")))
        .arg(env::current_exe().unwrap())
        .args([name, &times.to_string()])
        .arg(&inputs.0)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected : "));
    let Some((_, count)) = collected.filter(|_| output.status.success()) else { panic!("{text}") };
    count.trim().parse().unwrap()
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
    fn make(&self) -> Vec<(String, [usize; 2])> {
        let mut population = Population::new();
        let embedded = Embedded::open(&self.0.join("filled"));
        embedded.fill(&mut population, EVENTS);
        drop(embedded);
        let mut names: Vec<(String, [usize; 2])> = [
            ("parse_event", [100, 1_100]),
            ("parse_req_of_500_authors", [10, 110]),
            ("verify_hot_key", [10, 110]),
            ("verify_cold_key", [10, 110]),
            ("match_2000_home_feeds", [500, 2_500]),
            ("match_500_of_kind_1", [500, 2_500]),
            ("splice_event", [100, 1_100]),
            ("write_1", [10, 60]),
            ("write_64", [5, 55]),
            ("write_1000", [2, 6]),
            ("write_4000", [1, 2]),
        ]
        .map(|(name, runs)| (name.to_owned(), runs))
        .into();
        for (name, filter) in questions(&population) {
            names.push((format!("query_{name}"), [5, 25]));
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

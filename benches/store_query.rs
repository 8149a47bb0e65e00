//! Whole answers of the embedded store, one index each, from 50,000 events that lie in memory.
//! `nothing` is what the way to the reading thread and back costs.

#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on is to stop")]

mod population;

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use population::{Embedded, Population, question, questions};

const EVENTS: usize = 50_000;

fn query(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let embedded = Embedded::open(folder.path());
    let mut population = Population::new();
    embedded.fill(&mut population, EVENTS);

    let mut group = criterion.benchmark_group("store_query");
    for (name, filter) in questions(&population) {
        let query = Arc::new(question(filter));
        let (events, bytes) = embedded.ask(&query);
        println!("{name}: {events} events, {bytes} bytes");
        group.bench_function(name, |bencher| bencher.iter(|| embedded.ask(black_box(&query))));
    }
}

criterion_group!(benches, query);
criterion_main!(benches);

//! Splicing of events into the outbox of a session, and taking the pieces out.

#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on is to stop")]

mod population;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use population::Population;
use rookery::session::Outbox;

/// What the socket takes at once.
const PIECE: usize = 16 * 1024;

fn splice(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("outbox");
    let events: Vec<String> = Population::new()
        .filter(|event| event.kind() == 1)
        .take(500)
        .map(|event| event.json().to_owned())
        .collect();
    // One event at a time is the live path, 500 are a page of stored ones.
    for count in [1, 500] {
        let outbox = Outbox::default();
        group.bench_function(format!("{count}_events"), |bencher| {
            bencher.iter(|| {
                for event in &events[..count] {
                    outbox.event(black_box("\"subscription\""), event);
                }
                let mut bytes = 0;
                while let Some(piece) = outbox.take(PIECE) {
                    bytes += piece.len();
                }
                bytes
            });
        });
    }
}

criterion_group!(benches, splice);
criterion_main!(benches);

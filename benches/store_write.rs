//! Batches into an embedded store that holds 50,000 events: decide, index, commit, sync. The figures
//! depend on the disk under the target folder.

#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on is to stop")]

mod population;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use population::{Embedded, Population};

const EVENTS: usize = 50_000;

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store_write");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for size in [1, 64, 1_000, 4_000] {
        // Each size begins with the same store; it grows by what is measured.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let embedded = Embedded::open(folder.path());
        let mut population = Population::new();
        embedded.fill(&mut population, EVENTS);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("batch_of_{size}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for _ in 0..iterations {
                    let batch = population.batch(size);
                    let start = Instant::now();
                    embedded.write(batch);
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
}

criterion_group!(benches, write);
criterion_main!(benches);

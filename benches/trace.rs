//! Time that traces add to a batch of 64 events: off, on for one event of a hundred, on for all.

#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on is to stop")]

mod population;
mod traced;

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group, criterion_main};
use population::Population;
use traced::{BATCH, RATIOS, Way};

fn carry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("trace");
    for (name, ratio) in RATIOS {
        let way = Way::new(ratio, Population::new().take(BATCH).map(Arc::new).collect());
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&way).run()));
    }
}

criterion_group!(benches, carry);
criterion_main!(benches);

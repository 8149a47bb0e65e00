//! Reading of messages.

#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on is to stop")]

mod population;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use population::{home_feed_request, signed_note, user};
use rookery::protocol::ClientMessage;

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    let event = format!(r#"["EVENT",{}]"#, signed_note(&user(1), 1_700_000_000).json());
    for (name, text) in [
        ("event", event),
        ("req_of_3_authors", home_feed_request(3)),
        ("req_of_500_authors", home_feed_request(500)),
    ] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| ClientMessage::parse(black_box(&text)).is_ok()));
    }
}

criterion_group!(benches, parse);
criterion_main!(benches);

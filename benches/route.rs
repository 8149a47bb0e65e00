//! Finding the live subscriptions that an event concerns, an event at a time, and keeping the index.

#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on is to stop")]

mod population;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use population::{Population, home_feeds, subscriptions_of_kind_1};
use rookery::{protocol::Event, route::index::Index};

fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    let events: Vec<Event> = Population::new().take(10_000).collect();
    for (name, subscriptions) in
        [("2000_home_feeds", home_feeds(2_000, 50)), ("500_of_kind_1", subscriptions_of_kind_1(500))]
    {
        let mut index = Index::default();
        let mut slots: Vec<_> = subscriptions
            .iter()
            .enumerate()
            .map(|(owner, filters)| index.insert(owner, filters.clone()))
            .collect();
        let mut turn = events.iter().cycle();
        group.bench_function(format!("match_{name}"), |bencher| {
            bencher.iter(|| {
                let mut found = 0;
                index.matches(black_box(next(&mut turn)), |_| found += 1);
                found
            });
        });
        let mut owner = 0;
        group.bench_function(format!("replace_one_of_{name}"), |bencher| {
            bencher.iter(|| {
                owner = (owner + 1) % slots.len();
                index.remove(slots[owner]);
                slots[owner] = index.insert(owner, subscriptions[owner].clone());
            });
        });
    }
    group.finish();
}

fn next<'e>(events: &mut impl Iterator<Item = &'e Event>) -> &'e Event {
    events.next().unwrap()
}

criterion_group!(benches, route);
criterion_main!(benches);

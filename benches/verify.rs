//! Verification of an event: its floor is one SHA-256 and one Schnorr verification, measured beside.

#![allow(clippy::unwrap_used, reason = "a benchmark that can not go on is to stop")]

mod population;

use std::{hint::black_box, num::NonZeroUsize};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use population::{signed_note, user};
use rookery::protocol::{ParsedEvent, verify::Verifier};
use secp256k1::{XOnlyPublicKey, schnorr};
use sha2::{Digest, Sha256};

fn verify(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("verify");
    let event = signed_note(&user(1), 1_700_000_000);
    let parsed: ParsedEvent = serde_json::from_str(event.json()).unwrap();

    let hashed = parsed.serialise().hashed;
    group.bench_function("floor_sha256", |bencher| bencher.iter(|| Sha256::digest(black_box(&hashed))));
    let key = XOnlyPublicKey::from_byte_array(parsed.pubkey.0).unwrap();
    let signature = schnorr::Signature::from_byte_array(parsed.sig.0);
    group.bench_function("floor_schnorr", |bencher| {
        bencher.iter(|| schnorr::verify(black_box(&signature), &parsed.id.0, &key).is_ok());
    });
    group.bench_function("floor_key", |bencher| {
        bencher.iter(|| XOnlyPublicKey::from_byte_array(black_box(parsed.pubkey.0)).is_ok());
    });

    let mut verifier = Verifier::new(NonZeroUsize::MIN);
    group.bench_function("hot_key", |bencher| {
        let event = || parsed.clone();
        bencher.iter_batched(event, |event| verifier.verify(event).unwrap(), BatchSize::SmallInput);
    });

    // Two authors in turn, and room for one key: each is decoded again.
    let other = signed_note(&user(2), 1_700_000_000);
    let other: ParsedEvent = serde_json::from_str(other.json()).unwrap();
    let mut turn = false;
    group.bench_function("cold_key", |bencher| {
        let event = || {
            turn = !turn;
            if turn { parsed.clone() } else { other.clone() }
        };
        bencher.iter_batched(event, |event| verifier.verify(event).unwrap(), BatchSize::SmallInput);
    });

    group.bench_function("parse_and_hot_key", |bencher| {
        bencher.iter(|| {
            let parsed: ParsedEvent = serde_json::from_str(black_box(event.json())).unwrap();
            verifier.verify(parsed).unwrap()
        });
    });
}

criterion_group!(benches, verify);
criterion_main!(benches);

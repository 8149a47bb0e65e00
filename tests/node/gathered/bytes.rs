//! What it costs in bytes to find what is missing.

use common::{Relay, now, proxy::Proxy};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{SETTINGS, bring, in_time, is_finished, notes};
use crate::upstreams::{ids, stored};

/// A hundred thousand are known on both sides, a thousand are missing here: bytes both ways, besides the text of those.
async fn bytes_besides(common: impl Iterator<Item = u64>, missing: impl Iterator<Item = u64>) -> u64 {
    let (there, here) = (Relay::start(&[]), Relay::start(&[]));
    let common = notes(common, 100);
    bring(&there.url(), &common);
    bring(&here.url(), &common);
    let missing = notes(missing, 100);
    bring(&there.url(), &missing);
    let proxy = Proxy::start(there.clients.to_string()).await;
    let url = format!("ws://{}", proxy.address);
    let here = here.restart_after_kill(&[&SETTINGS[..], &["--upstream", &url]].concat());
    in_time("nothing waits", async || is_finished(&here, &url)).await;
    let mut all = ids(&common);
    all.extend(ids(&missing));
    assert!(stored(&here) == all);
    let text: usize = missing.iter().map(|event| event.json().len()).sum();
    let besides = proxy.bytes() - text as u64;
    eprintln!("{} common, {} missing of {text} bytes: {besides} bytes besides", common.len(), missing.len());
    besides
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a hundred thousand events take minutes"]
async fn what_was_missed_in_an_hour_costs_little_besides() {
    let gap = now() - 3_600;
    let besides = bytes_besides((0..100_000).map(|n| gap - n * 60), (0..1_000).map(|n| gap + 3 * n)).await;
    assert!(besides <= 200_000, "{besides}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a hundred thousand events take minutes"]
async fn what_is_missing_all_over_costs_little_besides() {
    let (end, mut random) = (now() - 3_600, StdRng::seed_from_u64(4));
    let missing = (0..1_000).map(|_| end - random.random_range(0..6_000_000));
    let besides = bytes_besides((0..100_000).map(|n| end - n * 60), missing).await;
    assert!(besides <= 2_000_000, "{besides}");
}

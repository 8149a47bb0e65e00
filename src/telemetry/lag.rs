//! How late a thread comes to its work: a timer that measures its own lateness. What a thread is busy
//! with, everything else on it waits for.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use tokio::time::{Instant, sleep_until};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(100);

/// Measures the thread that polls this, as long as it runs.
pub async fn measure_lag(lag: Histogram) {
    loop {
        let due = Instant::now() + PERIOD;
        sleep_until(due).await;
        // A timer of tokio is up to a millisecond late by itself.
        lag.observe(due.elapsed().as_secs_f64());
    }
}

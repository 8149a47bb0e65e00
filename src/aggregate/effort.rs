//! How much of a processor the verification of upstreams' events may take, all together. Beyond, they wait, and clients
//! do not.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What may be saved up while nothing comes, in seconds of the wall.
const SAVED: f64 = 1.0;

/// A budget of processor time.
#[derive(Debug)]
pub struct Effort {
    /// Processors.
    share: f64,
    /// Seconds of a processor that may be spent now.
    left: f64,
    refilled: Instant,
}

impl Effort {
    pub fn new(share: f64, now: Instant) -> Self {
        Self { share, left: share * SAVED, refilled: now }
    }

    /// For how long nothing more may be spent.
    pub fn pause(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.left = (self.left + passed * self.share).min(self.share * SAVED);
        (self.left <= 0.0)
            .then(|| Duration::from_secs_f64(-self.left / self.share) + Duration::from_millis(1))
    }

    /// Does something, and counts what this thread has spent on it.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = on_this_thread();
        let done = work();
        self.spend(on_this_thread().saturating_sub(before));
        done
    }

    fn spend(&mut self, time: Duration) {
        self.left -= time.as_secs_f64();
    }
}

/// Processor time of this thread: what others have of the processor meanwhile is not counted.
fn on_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_its_share_is_spent() {
        let begun = Instant::now();
        let (mut effort, mut now, mut spent) = (Effort::new(0.5, begun), begun, Duration::ZERO);
        let work = Duration::from_millis(10);
        while now < begun + Duration::from_secs(60) {
            match effort.pause(now) {
                Some(pause) => now += pause,
                None => {
                    effort.spend(work);
                    (now, spent) = (now + work, spent + work);
                }
            }
        }
        assert!((29.9..=30.6).contains(&spent.as_secs_f64()), "{spent:?}");
        // What was not spent is not saved for long.
        now += Duration::from_secs(3_600);
        let bursts = (0..)
            .take_while(|_| {
                effort.spend(work);
                effort.pause(now).is_none()
            })
            .count();
        assert!(bursts <= 50, "{bursts}");
    }

    #[test]
    fn it_counts_what_is_spent_and_not_what_is_waited_for() {
        let mut effort = Effort::new(1.0, Instant::now());
        let before = effort.left;
        effort.measure(|| std::thread::sleep(Duration::from_millis(20)));
        assert!(before - effort.left < 0.015);
        effort.measure(|| {
            let begun = on_this_thread();
            while on_this_thread() - begun < Duration::from_millis(20) {}
        });
        assert!(before - effort.left >= 0.02);
    }
}

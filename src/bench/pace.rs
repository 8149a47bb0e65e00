//! When each event is due: an open-loop schedule, kept to some ten microseconds.

use std::time::{Duration, Instant};

/// Event `n` is due `n / rate` seconds after the start, whatever the relay does meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start: Instant,
    /// Events a second.
    rate: f64,
}

impl Schedule {
    pub fn new(start: Instant, rate: f64) -> Self {
        Self { start, rate }
    }

    pub fn due(&self, event: usize) -> Instant {
        self.start + Duration::from_secs_f64(event as f64 / self.rate)
    }
}

/// A timer finer than the runtime's, which wakes up to 2 ms late: more than a relay takes.
pub struct Timer {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Timer {
    #[expect(unsafe_code, reason = "tokio takes no other promise that a descriptor stays its own")]
    pub fn new() -> std::io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // SAFETY: the descriptor is owned by the `AsyncFd`, which nothing takes it out of.
        Ok(Self { timer: unsafe { tokio::io::unix::AsyncFd::register(timer)? } })
    }

    /// Returns at `instant`, or at once if that is past.
    pub async fn until(&self, instant: Instant) -> std::io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

        let left = instant.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let it_value = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Also takes back an expiry that nobody waited for.
        timerfd_settime(
            self.timer.get_ref(),
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval, it_value },
        )?;
        loop {
            let mut ready = self.timer.readable().await?;
            let expired = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            if let Ok(expired) = expired {
                return expired.map(drop);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Returns at `instant`, or at once if that is past.
    pub async fn until(&self, instant: Instant) -> std::io::Result<()> {
        tokio::time::sleep_until(instant.into()).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_does_not_drift() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 300.0);
        assert_eq!(schedule.due(0), start);
        assert_eq!(schedule.due(300 * 3_600), start + Duration::from_secs(3_600));
    }

    #[tokio::test]
    async fn the_timer_is_never_early() {
        let timer = Timer::new().unwrap();
        for micros in [0, 300, 1_500] {
            let instant = Instant::now() + Duration::from_micros(micros);
            timer.until(instant).await.unwrap();
            assert!(Instant::now() >= instant);
        }
    }
}

//! How fast somebody may be.

use std::time::Instant;

/// Fills at a constant rate up to a burst; each message takes one token.
#[derive(Debug)]
pub struct TokenBucket {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    pub fn full(burst: u32, now: Instant) -> Self {
        Self { tokens: burst.into(), at: now }
    }

    /// Takes one token, if there is one. A rate of 0 is no bound.
    pub fn take(&mut self, per_second: u32, burst: u32, now: Instant) -> bool {
        if per_second == 0 {
            return true;
        }
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * f64::from(per_second)).min(burst.into());
        self.at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_allows_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::full(3, start);
        let taken = |bucket: &mut TokenBucket, at| (0..10).filter(|_| bucket.take(2, 3, at)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(1)), 2);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(100)), 3);
        assert_eq!((0..10).filter(|_| bucket.take(0, 3, start)).count(), 10);
    }
}

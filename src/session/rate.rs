//! How fast a client may be: token buckets, one a connection and one an address.

use std::{net::IpAddr, num::NonZeroUsize, time::Instant};

use lru::LruCache;
use parking_lot::Mutex;

use crate::config::{self, network};

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

/// The buckets of all addresses seen lately.
pub struct Rates {
    addresses: Mutex<LruCache<IpAddr, TokenBucket>>,
}

impl Rates {
    pub fn new(max_addresses: usize) -> Self {
        let most = NonZeroUsize::new(max_addresses).unwrap_or(NonZeroUsize::MIN);
        Self { addresses: Mutex::new(LruCache::new(most)) }
    }

    /// The bucket of a new connection; `None` for an address that is exempt.
    pub fn connection(address: IpAddr, config: &config::Rate) -> Option<TokenBucket> {
        let exempt = address.to_canonical().is_loopback() && !config.include_loopback;
        (!exempt).then(|| TokenBucket::full(config.messages_burst, Instant::now()))
    }

    /// Whether a connection, and its address, may send one more message now.
    pub fn allow(
        &self,
        connection: &mut Option<TokenBucket>,
        address: IpAddr,
        config: &config::Rate,
    ) -> bool {
        let Some(bucket) = connection else { return true };
        let now = Instant::now();
        if !bucket.take(config.messages_per_second, config.messages_burst, now) {
            return false;
        }
        if config.address_messages_per_second == 0 {
            return true;
        }
        let mut addresses = self.addresses.lock();
        addresses
            .get_or_insert_mut(network(address), || TokenBucket::full(config.address_messages_burst, now))
            .take(config.address_messages_per_second, config.address_messages_burst, now)
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

    #[test]
    fn connections_of_an_address_share_its_bucket() {
        let config =
            config::Rate { address_messages_per_second: 1, address_messages_burst: 3, ..Default::default() };
        let rates = Rates::new(config.max_addresses);
        let address: IpAddr = "203.0.113.7".parse().unwrap();
        let mut connections = [(); 2].map(|()| Rates::connection(address, &config));
        let allowed = (0..10).filter(|n| rates.allow(&mut connections[n % 2], address, &config)).count();
        assert_eq!(allowed, 3);
        let mut local = Rates::connection("::ffff:127.0.0.1".parse().unwrap(), &config);
        assert!(local.is_none() && rates.allow(&mut local, address, &config));
    }
}

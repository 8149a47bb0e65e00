//! How fast a client may be: a bucket a connection, and one an address.

use std::{net::IpAddr, num::NonZeroUsize, time::Instant};

use lru::LruCache;
use parking_lot::Mutex;

use crate::{
    config::{self, network},
    token_bucket::TokenBucket,
};

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
    use super::*;

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

//! How often somebody may guess. Counted by each node for itself, in memory: a guess costs the store no write.
//!
//! Three buckets: the address, the account from where nobody has signed in to it, and the account from a browser or an
//! address that has. So whoever guesses from elsewhere locks nobody out who is known.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use lru::LruCache;
use parking_lot::Mutex;

use crate::{
    config::{self, network},
    protocol::PublicKey,
};

const HOUR: f64 = 3_600.0;
const DAY: f64 = 86_400.0;

/// What guesses are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    Address(IpAddr),
    /// A name, by its hash, from where nobody has signed in to it.
    Stranger(u64),
    /// An account, from where somebody has signed in to it: a browser or an address, by its hash.
    Known(PublicKey, u64),
    /// Who makes accounts.
    SignUps(IpAddr),
    AllSignUps,
}

impl Bucket {
    /// Which of [`Levels`] it is among.
    fn class(&self) -> usize {
        match self {
            Self::Address(_) => 0,
            Self::Stranger(_) | Self::Known(..) => 1,
            Self::SignUps(_) => 2,
            Self::AllSignUps => 3,
        }
    }
}

/// How much one takes, and how fast it comes back.
struct Bounds {
    most: f64,
    per_second: f64,
}

struct Level {
    left: f64,
    at: Instant,
}

/// Buckets of each kind apart: no number of one pushes out another.
type Levels = [LruCache<Bucket, Level>; 4];

pub struct Guesses {
    levels: Mutex<Levels>,
    /// From where somebody has signed in to which account.
    known: Mutex<LruCache<(PublicKey, IpAddr), ()>>,
    hasher: RandomState,
    config: config::Accounts,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl Guesses {
    pub fn new(config: &config::Accounts) -> Self {
        let most = NonZeroUsize::new(config.guesses_remembered).unwrap_or(NonZeroUsize::MIN);
        Self {
            levels: Mutex::new(std::array::from_fn(|_| LruCache::new(most))),
            known: Mutex::new(LruCache::new(most)),
            hasher: RandomState::new(),
            config: config.clone(),
        }
    }

    /// The bucket of an address; of IPv6, of its network.
    pub fn address(address: IpAddr) -> Bucket {
        Bucket::Address(network(address))
    }

    pub fn sign_ups(address: IpAddr) -> Bucket {
        Bucket::SignUps(network(address))
    }

    pub fn stranger(&self, name: &str) -> Bucket {
        Bucket::Stranger(self.hasher.hash_one(name))
    }

    /// The bucket of a browser that has signed in to the account.
    pub fn browser(&self, account: PublicKey, id: &[u8]) -> Bucket {
        Bucket::Known(account, self.hasher.hash_one(id))
    }

    /// The bucket of an address from which somebody has signed in to the account.
    pub fn known_address(&self, account: PublicKey, address: IpAddr) -> Option<Bucket> {
        let address = network(address);
        let is_known = self.known.lock().get(&(account, address)).is_some();
        is_known.then(|| Bucket::Known(account, self.hasher.hash_one(address)))
    }

    /// Somebody has signed in from there.
    pub fn know(&self, account: PublicKey, address: IpAddr) {
        self.known.lock().put((account, network(address)), ());
    }

    /// Takes one of each, or none.
    ///
    /// # Errors
    /// How long it takes until there is one of each.
    pub fn take(&self, buckets: &[Bucket], now: Instant) -> Result<(), Wait> {
        let mut levels = self.levels.lock();
        let left = |levels: &Levels, bucket: &Bucket| {
            let bounds = self.bounds(bucket);
            levels[bucket.class()].peek(bucket).map_or(bounds.most, |level| {
                let passed = now.saturating_duration_since(level.at).as_secs_f64();
                (level.left + passed * bounds.per_second).min(bounds.most)
            })
        };
        let missing = buckets.iter().map(|bucket| {
            let missing = (1.0 - left(&levels, bucket)).max(0.0);
            Duration::from_secs_f64(missing / self.bounds(bucket).per_second)
        });
        let wait = missing.max().unwrap_or_default();
        if !wait.is_zero() {
            // Nothing is remembered of who is refused: it takes nobody's place.
            return Err(Wait(wait));
        }
        for bucket in buckets {
            let left = left(&levels, bucket) - 1.0;
            levels[bucket.class()].put(*bucket, Level { left, at: now });
        }
        Ok(())
    }

    /// Gives back what was taken: it was no guess.
    pub fn give_back(&self, buckets: &[Bucket]) {
        let mut levels = self.levels.lock();
        for bucket in buckets {
            let most = self.bounds(bucket).most;
            if let Some(level) = levels[bucket.class()].get_mut(bucket) {
                level.left = (level.left + 1.0).min(most);
            }
        }
    }

    fn bounds(&self, bucket: &Bucket) -> Bounds {
        let config = &self.config;
        let each = |most: u32| Bounds { most: most.into(), per_second: 1.0 / config.guess_seconds as f64 };
        let within =
            |most: u32, seconds: f64| Bounds { most: most.into(), per_second: f64::from(most) / seconds };
        match bucket {
            Bucket::Address(_) => each(config.address_guesses),
            Bucket::Stranger(_) | Bucket::Known(..) => each(config.account_guesses),
            Bucket::SignUps(_) => within(config.address_sign_ups, HOUR),
            Bucket::AllSignUps => within(config.sign_ups, DAY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_fill_their_own_bucket() {
        let config = config::Accounts { account_guesses: 2, guess_seconds: 10, ..Default::default() };
        let guesses = Guesses::new(&config);
        let (account, home, now) = (PublicKey([1; 32]), "203.0.113.7".parse().unwrap(), Instant::now());
        assert_eq!(guesses.known_address(account, home), None);
        guesses.know(account, home);
        let known = guesses.known_address(account, home).unwrap();
        let stranger = guesses.stranger("quill");
        assert_eq!([0, 1].map(|_| guesses.take(&[stranger], now)), [Ok(()), Ok(())]);
        assert_eq!(guesses.take(&[stranger], now), Err(Wait(Duration::from_secs(10))));
        assert_eq!(guesses.take(&[known], now), Ok(()));
        assert_eq!(guesses.take(&[stranger], now + Duration::from_secs(10)), Ok(()));
        guesses.give_back(&[stranger]);
        assert_eq!(guesses.take(&[stranger], now + Duration::from_secs(10)), Ok(()));
        // One of each, or none.
        assert!(guesses.take(&[known, stranger], now + Duration::from_secs(10)).is_err());
        assert_eq!(
            [0, 1].map(|_| guesses.take(&[known], now + Duration::from_secs(10)).is_ok()),
            [true, true]
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let guesses = Guesses::new(&config::Accounts { address_guesses: 1, ..Default::default() });
        let bucket = |address: &str| Guesses::address(address.parse().unwrap());
        let now = Instant::now();
        assert!(guesses.take(&[bucket("2001:db8::1")], now).is_ok());
        assert!(guesses.take(&[bucket("2001:db8::2")], now).is_err());
        assert!(guesses.take(&[bucket("2001:db8:0:1::1")], now).is_ok());
    }

    #[test]
    fn guesses_push_no_limit_of_sign_ups_out_of_memory() {
        let config = config::Accounts {
            guesses_remembered: 8,
            address_guesses: 2,
            address_sign_ups: 1,
            sign_ups: 100,
            ..Default::default()
        };
        let (guesses, now) = (Guesses::new(&config), Instant::now());
        let address = "203.0.113.7".parse().unwrap();
        let sign_ups = [Guesses::sign_ups(address), Bucket::AllSignUps];
        guesses.take(&sign_ups, now).unwrap();
        let guessed = (0..100).filter(|n| {
            let buckets = [Guesses::address(address), guesses.stranger(&n.to_string())];
            guesses.take(&buckets, now).is_ok()
        });
        assert_eq!(guessed.count(), 2);
        assert!(guesses.take(&sign_ups, now).is_err());
        // Who is refused leaves nothing behind.
        assert_eq!(guesses.levels.lock()[1].len(), 2);
    }
}

//! Makes the plan of which relays are read, and the records of upstreams as it says.

mod records;
mod whom;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use actix::Arbiter;
use futures_util::{StreamExt, stream};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::{info, warn};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use self::whom::SignedIn;
use super::{
    super::{
        Refused,
        cursor::Cursor,
        manager::Dialer,
        registry::Registry,
        upstream::{RelayUrl, Upstream},
    },
    lists::Lists,
    people::{Followed, LeftOut, People, Plan as Written},
    plan::{Host, Known, Why},
};
use crate::{
    client::{ClientError, Endpoint},
    clock,
    config::{self, Fetch},
    protocol::{PublicKey, Timestamp, kind, nip19},
    store::{Store, records::Version},
};

/// For whoever makes a plan; another process makes it then.
const TAKEN: u64 = 600;
/// Between tries where it can not be made.
const AGAIN: u64 = 60;
/// A relay that was not reached is left out for so long.
const LEFT_OUT: Timestamp = 7 * 24 * 3_600;
/// Of what is told of a plan: so many fit into a record.
const MAX_TOLD: usize = 100;
/// Names that are looked up at once, and for how long.
const LOOK_UPS: usize = 16;
const LOOK_UP: Duration = Duration::from_secs(5);
/// Looks at what operators want, to one at who is signed in and whom they follow.
const LOOKS: u32 = 6;
/// More relays than are read may be looked at.
const CANDIDATES: usize = 3;

/// Makes the plan, and sees to it that it is kept.
pub struct Planner {
    pub registry: Registry,
    pub store: Arc<dyn Store>,
    pub dialer: Arc<Dialer>,
    pub config: config::Follow,
    /// Relays that the configuration of this node names: they are read whole.
    pub configured: Vec<RelayUrl>,
    /// Where clients reach this relay.
    pub own_url: Option<RelayUrl>,
    /// Says that one is to be made.
    pub changed: Arc<Notify>,
    /// Told when upstreams have changed.
    pub upstreams: Arc<Notify>,
}

/// What there is to plan for.
struct Wanted {
    followed: Vec<(PublicKey, Followed)>,
    upstreams: Vec<Upstream>,
    basis: u64,
}

/// What a process knows from one look to the next.
struct Watched {
    /// How often it has looked.
    looks: u32,
    /// Of who is signed in, and whom they follow.
    signed_in: u64,
}

impl Planner {
    /// Runs on that arbiter until it stops, and looks so often whether a plan is to be made.
    pub fn start(self, look: Duration, arbiter: &Arbiter) {
        arbiter.spawn(async move {
            let mut is_told = false;
            let mut watched = Watched { looks: 0, signed_in: 0 };
            loop {
                let looked = self.look(&mut watched).await;
                watched.looks += 1;
                match looked {
                    Ok(()) => is_told = false,
                    Err(error) => {
                        if !std::mem::replace(&mut is_told, true) {
                            warn!(
                                "no plan is made of which relays to read for people who are followed: {error}"
                            );
                        }
                        sleep(look).await;
                    }
                }
                // Waits for either.
                let _ = timeout(look, self.changed.notified()).await;
            }
        });
    }

    fn people(&self) -> People<'_> {
        People(&self.registry)
    }

    /// Makes a plan where one is due and nobody else does.
    async fn look(&self, watched: &mut Watched) -> Result<(), Refused> {
        let (version, mut plan) = self.people().plan().await?;
        let does_fetch = self.config.fetch == Fetch::Accounts;
        // It is there as soon as somebody is followed.
        if version.is_none() && !does_fetch {
            return Ok(());
        }
        let wanted = self.wanted().await?;
        let mut signed_in = None;
        if does_fetch && watched.looks.is_multiple_of(LOOKS) {
            watched.signed_in = signed_in.insert(self.signed_in().await?).digest();
        }
        if wanted.followed.is_empty() && watched.signed_in == 0 && version.is_none() {
            return Ok(());
        }
        let now = clock::now();
        let is_due = |watched: &Watched| {
            plan.basis != wanted.basis
                || (does_fetch && plan.signed_in != watched.signed_in)
                || plan.summary.next <= now
                // Once: others may be configured otherwise.
                || (watched.looks == 0 && plan.configured != self.configuration())
        };
        // Not where the clock of whoever makes it is far ahead.
        let is_taken = now < plan.taken_until && plan.taken_until <= now + TAKEN;
        if is_taken || !is_due(watched) {
            return Ok(());
        }
        if does_fetch && signed_in.is_none() {
            // Another process may have looked later.
            watched.signed_in = signed_in.insert(self.signed_in().await?).digest();
            if !is_due(watched) {
                return Ok(());
            }
        }
        plan.taken_until = now + TAKEN;
        let Some(version) = self.people().put_plan(version, &plan).await? else { return Ok(()) };
        let planned = self.plan(&wanted, &signed_in.unwrap_or_default(), &mut plan).await;
        plan.taken_until = 0;
        (plan.basis, plan.signed_in) = (wanted.basis, watched.signed_in);
        plan.configured = self.configuration();
        match &planned {
            Ok(()) => {
                let now = clock::now();
                plan.summary.error = None;
                (plan.summary.made, plan.summary.next) = (now, now + 60 * self.config.minutes);
            }
            Err(error) => {
                plan.summary.error = Some(error.to_string());
                plan.summary.next = clock::now() + AGAIN;
            }
        }
        self.write(version, plan).await?;
        planned
    }

    /// Writes the plan that was made; it stays so that another one is wanted where somebody has said so meanwhile.
    async fn write(&self, mut version: Version, mut plan: Written) -> Result<(), Refused> {
        while self.people().put_plan(Some(version), &plan).await?.is_none() {
            let (there, now) = self.people().plan().await?;
            match there {
                Some(there) => version = there,
                None => break,
            }
            plan.summary.next = plan.summary.next.min(now.summary.next);
        }
        Ok(())
    }

    /// What operators want.
    async fn wanted(&self) -> Result<Wanted, Refused> {
        let followed = self.people().all().await?;
        let mut upstreams = self.registry.all().await?;
        upstreams.sort_by(|a, b| a.url.cmp(&b.url));
        let mut digest = Xxh3::new();
        for (key, followed) in &followed {
            digest.update(&key.0);
            digest.update(&[u8::from(followed.with_follows)]);
        }
        for upstream in &upstreams {
            let told = [upstream.is_for_followed_alone(), upstream.paused, upstream.filters.is_empty()];
            // What the plan itself has added is none of them.
            if told != [true, false, true] {
                digest.update(upstream.url.as_str().as_bytes());
                digest.update(&told.map(u8::from));
            }
        }
        Ok(Wanted { followed, upstreams, basis: digest.digest() })
    }

    /// Another one where this process is configured otherwise.
    fn configuration(&self) -> u64 {
        let config::Follow { people, relays, fetch, .. } = self.config;
        let indexers = self.dialer.indexers.iter().map(RelayUrl::as_str).collect::<Vec<_>>().join(" ");
        xxh3_64(format!("{people} {relays} {fetch:?} {indexers}").as_bytes())
    }

    async fn plan(
        &self,
        wanted: &Wanted,
        signed_in: &SignedIn,
        written: &mut Written,
    ) -> Result<(), Refused> {
        let mut lists = Lists::default();
        let indexers = self.endpoints()?;
        let people = self.everybody(wanted, signed_in, &indexers, &mut lists, &mut written.summary).await?;
        let told = lists.find(&self.store, &indexers, &people, kind::RELAY_LIST).await?;
        let now = now_at(&wanted.upstreams);
        let mut places = BTreeMap::new();
        written.summary.without_list = 0;
        for person in &people {
            let own = lists.places(*person).unwrap_or_else(|| {
                written.summary.without_list += 1;
                // As long as it is not known where they write, they are read where they are.
                let is_asked = |(_, asked): &(&RelayUrl, &HashSet<PublicKey>)| asked.contains(person);
                now.iter().filter(is_asked).map(|(url, _)| url.clone()).collect()
            });
            places.insert(*person, own);
        }
        written.silent.retain(|(_, until)| clock::now() < *until);
        for url in self.silent(&wanted.upstreams).await? {
            info!(upstream = %url, "not reached for too long: other relays are read for those who write there");
            written.silent.insert(0, (url, clock::now() + LEFT_OUT));
        }
        written.silent.truncate(MAX_TOLD);
        let mut known = Known {
            places,
            fallback: self.dialer.indexers.clone(),
            unfit: written.silent.iter().map(|(url, _)| (url.clone(), Why::Silent)).collect(),
            now,
            most: self.config.relays,
            ..Known::default()
        };
        known.whole = wanted
            .upstreams
            .iter()
            .filter(|upstream| upstream.is_whole())
            .map(|upstream| upstream.url.clone())
            .collect();
        known.whole.extend(self.configured.iter().cloned());
        // What is written here is here.
        known.whole.extend(self.own_url.iter().cloned());
        let paused = wanted.upstreams.iter().filter(|upstream| upstream.paused);
        known.unfit.extend(paused.map(|upstream| (upstream.url.clone(), Why::Paused)));
        let named = wanted.upstreams.iter().filter(|upstream| !upstream.is_for_followed_alone());
        let named = named.map(|upstream| upstream.url.clone()).chain(self.configured.iter().cloned());
        self.look_up(&mut known, &named.collect()).await;
        let plan = known.plan();
        self.apply(&wanted.upstreams, &plan.chosen).await?;
        let summary = &mut written.summary;
        summary.nowhere = plan.nowhere.len();
        summary.nowhere_such_as = plan.nowhere.iter().take(MAX_TOLD).map(nip19::npub).collect();
        let mut left_out: Vec<LeftOut> =
            plan.left_out.into_iter().map(|(url, (why, writers))| LeftOut { url, why, writers }).collect();
        left_out.sort_by(|a, b| b.writers.cmp(&a.writers).then_with(|| a.url.cmp(&b.url)));
        left_out.truncate(MAX_TOLD);
        summary.left_out = left_out;
        summary.indexers = told;
        info!(
            people = people.len(),
            relays = plan.chosen.len(),
            nowhere = plan.nowhere.len(),
            "who is followed is read at these relays"
        );
        Ok(())
    }

    fn endpoints(&self) -> Result<Vec<Endpoint>, Refused> {
        let endpoint = |url: &RelayUrl| {
            // With the key that it may have as an upstream nobody needs it here.
            let endpoint = self.dialer.endpoint(&Upstream::new(url.clone()), Arc::new(()))?;
            // They say what strangers have said.
            Ok(Endpoint { verify: true, ..endpoint })
        };
        self.dialer.indexers.iter().map(endpoint).collect()
    }

    /// Relays that are read for people alone, and were not reached for too long.
    async fn silent(&self, upstreams: &[Upstream]) -> Result<Vec<RelayUrl>, Refused> {
        let cursors = Cursor::all_written(self.registry.records()).await?;
        let is_silent = |upstream: &&Upstream| {
            let cursor = cursors.get(&upstream.id().to_string());
            let is_looked_at = upstream.is_for_followed_alone() && !upstream.paused;
            is_looked_at && cursor.is_some_and(|cursor| cursor.silent >= self.config.silent_seconds)
        };
        Ok(upstreams.iter().filter(is_silent).map(|upstream| upstream.url.clone()).collect())
    }

    /// Finds out which relays share an address, and which have none that may be connected to. `named`: by operators.
    async fn look_up(&self, known: &mut Known, named: &HashSet<RelayUrl>) {
        let mut wanted: HashMap<&RelayUrl, usize> = HashMap::new();
        for url in known.places.values().flatten().chain(&known.fallback) {
            *wanted.entry(url).or_default() += 1;
        }
        let mut order: Vec<(&RelayUrl, usize)> =
            wanted.into_iter().filter(|(url, _)| !known.unfit.contains_key(url)).collect();
        order.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        let rest = order.split_off(order.len().min(CANDIDATES * self.config.relays));
        let beyond: Vec<RelayUrl> = rest.into_iter().map(|(url, _)| url.clone()).collect();
        let urls: Vec<RelayUrl> = order.into_iter().map(|(url, _)| url.clone()).collect();
        let looked_up = stream::iter(urls).map(|url| async {
            let reach = self.dialer.reach(&url, named.contains(&url)).clone();
            let endpoint = Endpoint { reach, ..Endpoint::new(url.as_str()) };
            let found = timeout(LOOK_UP, endpoint.addresses()).await.ok();
            (url, found)
        });
        let found: Vec<_> = looked_up.buffer_unordered(LOOK_UPS).collect().await;
        for (url, found) in found {
            match found {
                Some(Ok(addresses)) => {
                    // Many have addresses of both families, and some of their names one of the older alone.
                    let host = addresses.iter().map(|address| network(address.ip())).min_by_key(Vec::len);
                    known.hosts.extend(host.map(|host| (url, Host::Address(host))));
                }
                Some(Err(ClientError::Forbidden { .. })) => drop(known.unfit.insert(url, Why::Forbidden)),
                // Names may be unknown for a moment. What is read goes on.
                _ if known.now.contains_key(&url) => {}
                _ => drop(known.unfit.insert(url, Why::Unknown)),
            }
        }
        known.unfit.extend(beyond.into_iter().map(|url| (url, Why::Beyond)));
    }
}

/// Who is asked for where.
fn now_at(upstreams: &[Upstream]) -> HashMap<RelayUrl, HashSet<PublicKey>> {
    let read = upstreams.iter().filter_map(|upstream| Some((upstream, upstream.followed.as_ref()?)));
    read.map(|(upstream, read)| (upstream.url.clone(), read.people.iter().copied().collect())).collect()
}

/// What tells hosts apart: an address, of IPv6 the network that one customer has.
fn network(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_tell_hosts_apart() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("1.2.3.4"), of("::ffff:1.2.3.4"));
        assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:1::1"));
    }
}

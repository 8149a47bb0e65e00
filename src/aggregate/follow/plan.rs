//! Which relays are read for people who are followed: few, and each of the people at two of those where they write.
//!
//! What is known goes in, who is asked where comes out: no I/O.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::upstream::RelayUrl;
use crate::protocol::PublicKey;

/// Relays of a person that count: the first ones of their list, which strangers write.
pub const MAX_PLACES: usize = 6;
/// At how many relays each is read, where they write at so many.
const TWICE: usize = 2;

/// Relays of one host are one: their names lead to the same address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address; of IPv6 the network that one customer has.
    Address(Vec<u8>),
    /// Its address is not known at the moment.
    Name(RelayUrl),
}

/// Why a relay is not read where somebody writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It was not reached for too long.
    Silent,
    /// Its address is not public, or is this node's own.
    Forbidden,
    /// Nobody knows its name.
    Unknown,
    /// An operator has paused it.
    Paused,
    /// Another one has the same address, and is read.
    SameAddress,
    /// More of those who are followed write elsewhere, and there may be only so many.
    Beyond,
}

/// What a plan is made of.
#[derive(Debug, Default)]
pub struct Known {
    /// Where each writes who is followed, the most telling place first.
    pub places: BTreeMap<PublicKey, Vec<RelayUrl>>,
    /// Where those are read who write nowhere that can be read.
    pub fallback: Vec<RelayUrl>,
    /// What stands in the way.
    pub unfit: HashMap<RelayUrl, Why>,
    pub hosts: HashMap<RelayUrl, Host>,
    /// What is read whole anyway.
    pub whole: HashSet<RelayUrl>,
    /// Who is asked for where at the moment. It stays so where nothing else is better.
    pub now: HashMap<RelayUrl, HashSet<PublicKey>>,
    /// Relays that may be read for them, beside those that are anyway.
    pub most: usize,
}

/// Who is asked for where.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Those first that have most who were not yet read twice.
    pub chosen: Vec<Chosen>,
    /// Relays where somebody writes, and which are not read: how many write there.
    pub left_out: BTreeMap<RelayUrl, (Why, usize)>,
    /// People who are read nowhere.
    pub nowhere: Vec<PublicKey>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    pub url: RelayUrl,
    /// How many of those who are followed write there.
    pub writers: usize,
    /// Whom it is asked for. Sorted.
    pub people: Vec<PublicKey>,
}

/// Who writes where.
type Writers<'k> = BTreeMap<&'k RelayUrl, BTreeSet<PublicKey>>;

impl Known {
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let named = self.named();
        let of_host = self.of_each_host(&named);
        for (url, writers) in &named {
            let why = match self.unfit.get(*url) {
                Some(why) => Some(*why),
                None => (of_host.get(&self.host(url)) != Some(url)).then_some(Why::SameAddress),
            };
            if let Some(why) = why {
                plan.left_out.insert((*url).clone(), (why, writers.len()));
            }
        }
        let is_read = |url: &&RelayUrl| !plan.left_out.contains_key(*url) && !self.unfit.contains_key(*url);
        let mut writers = Writers::new();
        let mut missing: BTreeMap<PublicKey, usize> = BTreeMap::new();
        for (person, places) in &self.places {
            let own: Vec<&RelayUrl> = places.iter().filter(is_read).collect();
            let places = if own.is_empty() { self.fallback.iter().filter(is_read).collect() } else { own };
            let anyway = places.iter().filter(|url| self.whole.contains(**url)).count();
            match TWICE.min(places.len()).checked_sub(anyway) {
                Some(count) if count > 0 => drop(missing.insert(*person, count)),
                _ if places.is_empty() => plan.nowhere.push(*person),
                _ => {}
            }
            for url in places.into_iter().filter(|url| !self.whole.contains(*url)) {
                writers.entry(url).or_default().insert(*person);
            }
        }
        let begun = missing.clone();
        while plan.chosen.len() < self.most
            && let Some(chosen) = self.best(&writers, &missing)
        {
            for person in &chosen.people {
                if let Some(count) = missing.get_mut(person) {
                    *count -= 1;
                }
            }
            missing.retain(|_, count| *count > 0);
            writers.remove(&chosen.url);
            plan.chosen.push(chosen);
        }
        for (url, people) in writers {
            if people.iter().any(|person| missing.contains_key(person)) {
                plan.left_out.insert(url.clone(), (Why::Beyond, people.len()));
            }
        }
        let is_read_nowhere = |(person, count): &(&PublicKey, &usize)| {
            let places = self.places.get(*person);
            let is_read_whole =
                places.is_some_and(|places| places.iter().any(|url| self.whole.contains(url)));
            begun.get(*person) == Some(*count) && !is_read_whole
        };
        plan.nowhere.extend(missing.iter().filter(is_read_nowhere).map(|(person, _)| *person));
        plan
    }

    /// All places, with who names them.
    fn named(&self) -> Writers<'_> {
        let mut named = Writers::new();
        for (person, places) in &self.places {
            for url in places {
                named.entry(url).or_default().insert(*person);
            }
        }
        for url in &self.fallback {
            named.entry(url).or_default();
        }
        named
    }

    fn host(&self, url: &RelayUrl) -> Host {
        self.hosts.get(url).cloned().unwrap_or_else(|| Host::Name(url.clone()))
    }

    /// The one that is read of those with the same address: what is read anyway, else where most write.
    fn of_each_host<'k>(&self, named: &Writers<'k>) -> HashMap<Host, &'k RelayUrl> {
        let mut by_host: HashMap<Host, &'k RelayUrl> = HashMap::new();
        let mut order: Vec<_> = named.iter().filter(|(url, _)| !self.unfit.contains_key(**url)).collect();
        order.sort_by_key(|(url, writers)| {
            (!self.whole.contains(**url), Reverse(writers.len()), !self.now.contains_key(**url), **url)
        });
        for (url, _) in order {
            by_host.entry(self.host(url)).or_insert(url);
        }
        by_host
    }

    /// The relay that has most of those who are not yet read twice.
    fn best(&self, writers: &Writers<'_>, missing: &BTreeMap<PublicKey, usize>) -> Option<Chosen> {
        let gain = |people: &BTreeSet<PublicKey>| {
            people.iter().filter(|person| missing.contains_key(*person)).count()
        };
        let rank = |url: &RelayUrl, people: &BTreeSet<PublicKey>| {
            (gain(people), self.now.contains_key(url), people.len(), Reverse(url.clone()))
        };
        let (url, all) = writers.iter().max_by_key(|(url, people)| rank(url, people))?;
        let people: Vec<PublicKey> =
            all.iter().filter(|person| missing.contains_key(*person)).copied().collect();
        (!people.is_empty()).then(|| Chosen { url: (*url).clone(), writers: all.len(), people })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(n: u8) -> RelayUrl {
        RelayUrl::parse(&format!("wss://r{n}.example")).unwrap()
    }

    fn person(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    /// People by number, each with the numbers of the relays where they write.
    fn known(places: &[&[u8]]) -> Known {
        let of = |(n, places): (usize, &&[u8])| (person(n as u8), places.iter().copied().map(url).collect());
        Known { places: places.iter().enumerate().map(of).collect(), most: 200, ..Known::default() }
    }

    /// The relays that are read, by number, and whom they are asked for.
    fn chosen(plan: &Plan) -> Vec<(String, Vec<u8>)> {
        let people = |chosen: &Chosen| chosen.people.iter().map(|key| key.0[0]).collect();
        plan.chosen.iter().map(|chosen| (chosen.url.to_string(), people(chosen))).collect()
    }

    fn relay(n: u8, people: &[u8]) -> (String, Vec<u8>) {
        (url(n).to_string(), people.to_vec())
    }

    #[test]
    fn few_relays_have_everybody_twice() {
        let plan = known(&[&[1, 2, 3], &[1, 2, 4], &[2, 5], &[6], &[]]).plan();
        // Relay 2 has three of them, 1 two; the rest is what 5 and 6 alone have.
        assert_eq!(chosen(&plan), [relay(2, &[0, 1, 2]), relay(1, &[0, 1]), relay(5, &[2]), relay(6, &[3])]);
        assert_eq!(plan.nowhere, [person(4)]);
        assert!(plan.left_out.is_empty());
    }

    #[test]
    fn what_can_not_be_read_is_left_out_and_says_why() {
        let mut known = known(&[&[1, 2, 3], &[1], &[4], &[5, 6]]);
        known.unfit.insert(url(1), Why::Silent);
        known.fallback = vec![url(9)];
        known.hosts = [(url(5), Host::Address(vec![1])), (url(6), Host::Address(vec![1]))].into();
        known.whole.insert(url(4));
        let plan = known.plan();
        // Person 1 writes nowhere else, person 2 is read anyway, 5 and 6 are one host.
        assert_eq!(chosen(&plan), [relay(2, &[0]), relay(3, &[0]), relay(5, &[3]), relay(9, &[1])]);
        let left_out: Vec<_> = plan.left_out.into_iter().map(|(url, why)| (url, why.0, why.1)).collect();
        assert_eq!(left_out, [(url(1), Why::Silent, 2), (url(6), Why::SameAddress, 1)]);
    }

    #[test]
    fn where_somebody_is_read_they_stay() {
        let mut known = known(&[&[1, 2, 3], &[1, 2, 3]]);
        known.now = [(url(3), [person(0)].into())].into();
        assert_eq!(chosen(&known.plan()), [relay(3, &[0, 1]), relay(1, &[0, 1])]);
    }

    #[test]
    fn bounds_hold() {
        let mut known = known(&[&[1, 2], &[3, 4], &[3, 5]]);
        known.most = 1;
        let plan = known.plan();
        assert_eq!(chosen(&plan), [relay(3, &[1, 2])]);
        assert_eq!(plan.nowhere, [person(0)]);
        assert_eq!(plan.left_out[&url(1)], (Why::Beyond, 1));
    }

    proptest! {
        #[test]
        fn everybody_is_read_twice_where_they_write(
            lists in prop::collection::vec(prop::collection::btree_set(0_u8..20, 0..7), 0..40),
            unfit in prop::collection::btree_set(0_u8..20, 0..5),
            whole in prop::collection::btree_set(0_u8..20, 0..3),
            hosts in prop::collection::vec(0_u8..15, 20),
        ) {
            let lists: Vec<Vec<u8>> = lists.into_iter().map(|list| list.into_iter().collect()).collect();
            let mut known = known(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>());
            known.unfit = unfit.iter().map(|n| (url(*n), Why::Silent)).collect();
            known.whole = whole.iter().filter(|n| !unfit.contains(n)).map(|n| url(*n)).collect();
            known.hosts = (0_u8..20).map(|n| (url(n), Host::Address(vec![hosts[usize::from(n)]]))).collect();
            let plan = known.plan();
            let read: Vec<&RelayUrl> = plan.chosen.iter().map(|chosen| &chosen.url).collect();
            let of_hosts: HashSet<_> = read.iter().map(|url| known.host(url)).collect();
            prop_assert_eq!(of_hosts.len(), read.len());
            for (person, places) in &known.places {
                let asked = plan.chosen.iter().filter(|chosen| chosen.people.contains(person));
                let asked: Vec<&RelayUrl> = asked.map(|chosen| &chosen.url).collect();
                prop_assert!(asked.iter().all(|url| places.contains(url)), "asked for elsewhere");
                let fit = places.iter().filter(|url| !plan.left_out.contains_key(*url));
                let (anyway, fit): (Vec<_>, Vec<_>) = fit.partition(|url| known.whole.contains(*url));
                let expected = TWICE.min(anyway.len() + fit.len()).saturating_sub(anyway.len());
                prop_assert_eq!(asked.len(), expected);
                prop_assert_eq!(plan.nowhere.contains(person), anyway.is_empty() && fit.is_empty());
            }
        }
    }
}

//! Whom to follow: those whom operators name and whom these follow, and whom people follow who are signed in.

use std::collections::{BTreeSet, HashSet};

use xxhash_rust::xxh3::Xxh3;

use super::{
    super::{super::Refused, lists::Lists, people::Summary},
    Planner, Wanted,
};
use crate::{
    account::whose_session,
    client::Endpoint,
    protocol::{PublicKey, kind},
    store::records::{MAX_PAGE, RecordKind, RecordPages},
};

/// People who are signed in, and the lists in which they say whom they follow.
#[derive(Default)]
pub(super) struct SignedIn {
    people: Vec<PublicKey>,
    lists: Lists,
}

impl Planner {
    /// Who is signed in, as many as people may be followed, and whom they follow as this store knows it.
    pub(super) async fn signed_in(&self) -> Result<SignedIn, Refused> {
        let (mut people, mut guests) = (BTreeSet::new(), BTreeSet::new());
        let mut pages = RecordPages::of(self.registry.records(), RecordKind::Session, "", MAX_PAGE);
        while let Some(page) = pages.next().await?
            && people.len() < self.config.people
        {
            for (key, has_account) in page.iter().filter_map(whose_session) {
                if has_account {
                    people.insert(key);
                } else if guests.len() < self.config.people {
                    guests.insert(key);
                }
            }
        }
        // Whoever comes with a key of their own makes no room for it.
        let people = people.into_iter().chain(guests).take(self.config.people);
        let people: Vec<PublicKey> = people.collect();
        let mut lists = Lists::default();
        lists.find(&self.store, &[], &people, kind::FOLLOW_LIST).await?;
        Ok(SignedIn { people, lists })
    }

    /// Everybody who is followed, as many as may be.
    pub(super) async fn everybody(
        &self,
        wanted: &Wanted,
        signed_in: &SignedIn,
        indexers: &[Endpoint],
        lists: &mut Lists,
        summary: &mut Summary,
    ) -> Result<Vec<PublicKey>, Refused> {
        let with_follows: Vec<PublicKey> = wanted
            .followed
            .iter()
            .filter(|(_, followed)| followed.with_follows)
            .map(|(key, _)| *key)
            .collect();
        lists.find(&self.store, indexers, &with_follows, kind::FOLLOW_LIST).await?;
        let mut seen = HashSet::new();
        // Whoever is signed in with a key of their own has their list elsewhere.
        let elsewhere: Vec<PublicKey> = signed_in
            .people
            .iter()
            .filter(|who| !signed_in.lists.has(**who, kind::FOLLOW_LIST))
            .copied()
            .collect();
        lists.find(&self.store, indexers, &elsewhere, kind::FOLLOW_LIST).await?;
        let named = wanted.followed.iter().map(|(key, _)| *key);
        let theirs = with_follows.iter().flat_map(|who| lists.follows(*who));
        let follows = |who: &PublicKey| match signed_in.lists.has(*who, kind::FOLLOW_LIST) {
            true => signed_in.lists.follows(*who),
            false => lists.follows(*who),
        };
        let of_accounts = in_turn(signed_in.people.iter().map(follows).collect());
        let mut people: Vec<PublicKey> =
            named.chain(theirs).chain(of_accounts).filter(|key| seen.insert(*key)).collect();
        summary.people_left_out = people.len().saturating_sub(self.config.people);
        people.truncate(self.config.people);
        summary.people = people.len();
        Ok(people)
    }
}

impl SignedIn {
    /// Another one where somebody else is signed in, or follows others. 0: nobody is.
    pub(super) fn digest(&self) -> u64 {
        if self.people.is_empty() {
            return 0;
        }
        let mut digest = Xxh3::new();
        for who in &self.people {
            digest.update(&who.0);
            self.lists.follows(*who).iter().for_each(|followed| digest.update(&followed.0));
        }
        digest.digest().max(1)
    }
}

/// The first of each list, then the second of each, and so on: one who follows thousands leaves room for others.
fn in_turn(lists: Vec<Vec<PublicKey>>) -> Vec<PublicKey> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or_default();
    (0..longest).flat_map(|nth| lists.iter().filter_map(move |list| list.get(nth)).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_follows_many_leaves_room_for_others() {
        let [a, b, c, d] = [1, 2, 3, 4].map(|n| PublicKey([n; 32]));
        assert_eq!(in_turn(vec![vec![a, b, c], vec![d], vec![]]), [a, d, b, c]);
        assert_eq!(in_turn(Vec::new()), []);
    }
}

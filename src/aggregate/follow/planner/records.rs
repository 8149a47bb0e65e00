//! The records of upstreams, made as the plan says.

use std::collections::HashMap;

use tracing::warn;

use super::{
    super::{
        super::{
            Refused,
            read_for::ReadFor,
            upstream::{Upstream, UpstreamId},
        },
        plan::Chosen,
    },
    Planner,
};
use crate::{clock, protocol::PublicKey};

impl Planner {
    /// Makes the records of upstreams say it.
    pub(super) async fn apply(&self, upstreams: &[Upstream], chosen: &[Chosen]) -> Result<(), Refused> {
        let chosen: HashMap<UpstreamId, &Chosen> =
            chosen.iter().map(|chosen| (chosen.url.id(), chosen)).collect();
        let there: HashMap<UpstreamId, &Upstream> =
            upstreams.iter().map(|there| (there.id(), there)).collect();
        for (id, upstream) in &there {
            if chosen.contains_key(id) || upstream.followed.is_none() {
                continue;
            }
            // An operator may have named it meanwhile.
            let is_needless = |upstream: &Upstream| upstream.is_for_followed_alone() && !upstream.paused;
            if is_needless(upstream) {
                self.registry.remove_where(*id, is_needless).await?;
            } else if !upstream.is_for_followed_alone() {
                self.registry
                    .change(*id, |upstream| {
                        upstream.followed = None;
                        Ok(())
                    })
                    .await?;
            }
        }
        for (id, chosen) in chosen {
            let fresh = || {
                let followed = Some(read_for(None, chosen));
                Upstream { added: clock::now(), followed, ..Upstream::new(chosen.url.clone()) }
            };
            let is_there = match there.contains_key(&id) {
                true => true,
                // `Err`: an operator has added it meanwhile.
                false => self.registry.insert(&fresh()).await?.is_err(),
            };
            if is_there {
                let change = |upstream: &mut Upstream| {
                    upstream.followed = Some(read_for(upstream.followed.as_ref(), chosen));
                    if there.get(&id).is_none_or(|there| !there.is_for_followed_alone()) {
                        upstream.followed.iter_mut().for_each(|read| read.alone = false);
                    }
                    Ok(())
                };
                match self.registry.change(id, change).await {
                    // An operator has removed it; the next plan knows.
                    Ok(_) | Err(Refused::Unknown) => {}
                    // The filters of an operator and these people do not fit into one record.
                    Err(Refused::Unfit(error)) => {
                        warn!(upstream = %chosen.url, "people who are followed are not read there: {error}");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.upstreams.notify_one();
        Ok(())
    }
}

/// What a relay is asked for from now on. `before`: what it was asked for.
fn read_for(before: Option<&ReadFor>, chosen: &Chosen) -> ReadFor {
    let is_new = |person: &&PublicKey| {
        before
            .is_none_or(|before| before.people.binary_search(person).is_err() || before.new.contains(person))
    };
    ReadFor {
        people: chosen.people.clone(),
        new: chosen.people.iter().filter(is_new).copied().collect(),
        writers: chosen.writers,
        alone: before.is_none_or(|before| before.alone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::RelayUrl;

    #[test]
    fn who_is_new_at_a_relay_is_read_from_the_beginning() {
        let [a, b, c] = [1, 2, 3].map(|n| PublicKey([n; 32]));
        let chosen = |people: &[PublicKey]| Chosen {
            url: RelayUrl::parse("wss://relay.example").unwrap(),
            writers: 9,
            people: people.to_vec(),
        };
        let first = read_for(None, &chosen(&[a, b]));
        assert_eq!((&first.new, first.alone), (&vec![a, b], true));
        // The past of one of them has been read.
        let read = ReadFor { new: vec![b], ..first };
        assert_eq!(read_for(Some(&read), &chosen(&[a, b, c])).new, [b, c]);
        assert_eq!(read_for(Some(&read), &chosen(&[a])).new, []);
    }
}

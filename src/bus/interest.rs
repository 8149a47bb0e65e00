//! Which channels this node wants: counted, and whether Redis has acknowledged them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use super::channel::Channel;
use crate::clock::Moment;

/// The channels that clients of this node want. A plain struct.
pub struct Interest {
    channels: HashMap<Channel, Wanted, foldhash::fast::RandomState>,
    /// Channels that nobody wants any more, since when, oldest first.
    leaving: VecDeque<(Moment, Channel)>,
    /// Channels that are not acknowledged though nobody waits for that any more: to be subscribed to as soon as possible.
    given_up: HashSet<Channel, foldhash::fast::RandomState>,
    linger: Duration,
    /// Counts acknowledgements.
    acknowledgements: u64,
}

#[derive(Default)]
struct Wanted {
    count: usize,
    /// The number of the acknowledgement since which the channel has been subscribed to.
    acknowledged: Option<u64>,
    /// When the count fell to zero.
    left: Option<Moment>,
}

impl Interest {
    /// `linger`: how long a channel stays subscribed when nobody wants it any more.
    pub fn new(linger: Duration) -> Self {
        Self {
            channels: HashMap::default(),
            leaving: VecDeque::new(),
            given_up: HashSet::default(),
            linger,
            acknowledgements: 0,
        }
    }

    /// Wants a channel once more. `true`: it is not acknowledged yet.
    pub fn add(&mut self, channel: Channel) -> bool {
        let wanted = self.channels.entry(channel).or_default();
        wanted.count += 1;
        wanted.left = None;
        wanted.acknowledged.is_none()
    }

    /// Wants a channel once less. The last time, it stays for a while.
    pub fn remove(&mut self, channel: Channel, now: Moment) {
        if let Some(wanted) = self.channels.get_mut(&channel) {
            wanted.count = wanted.count.saturating_sub(1);
            if wanted.count == 0 {
                wanted.left = Some(now);
                self.leaving.push_back((now, channel));
            }
        }
    }

    /// Takes out what nobody has wanted for long enough; to be unsubscribed from.
    pub fn take_left(&mut self, now: Moment) -> Vec<Channel> {
        let mut left = Vec::new();
        while let Some(&(since, channel)) = self.leaving.front()
            && now.since(since) >= self.linger
        {
            self.leaving.pop_front();
            if self.channels.get(&channel).is_some_and(|wanted| wanted.left == Some(since)) {
                self.channels.remove(&channel);
                self.given_up.remove(&channel);
                left.push(channel);
            }
        }
        left
    }

    /// Redis has acknowledged them.
    pub fn acknowledge(&mut self, channels: &[Channel]) {
        self.acknowledgements += 1;
        for channel in channels {
            self.given_up.remove(channel);
            if let Some(wanted) = self.channels.get_mut(channel) {
                wanted.acknowledged.get_or_insert(self.acknowledgements);
            }
        }
    }

    /// Whether the channel is subscribed to: another number than before if it was not in between.
    pub fn acknowledgement(&self, channel: &Channel) -> Option<u64> {
        self.channels.get(channel)?.acknowledged
    }

    /// Those who waited for the acknowledgement of these channels went on without it.
    pub fn give_up(&mut self, channels: &[Channel]) {
        let is_missing = |channel: &&Channel| {
            self.channels.get(channel).is_some_and(|wanted| wanted.acknowledged.is_none())
        };
        self.given_up.extend(channels.iter().filter(is_missing));
    }

    /// Whether somebody went on without an acknowledgement that has not come since.
    pub fn was_given_up(&self) -> bool {
        !self.given_up.is_empty()
    }

    /// The channels of which nobody awaits the acknowledgement any more.
    pub fn given_up(&self) -> Vec<Channel> {
        self.given_up.iter().copied().collect()
    }

    /// The keys that somebody wants now, as the log of the store has them.
    pub fn digests(&self) -> HashSet<u64> {
        self.channels
            .iter()
            .filter(|(_, wanted)| wanted.count > 0)
            .map(|(channel, _)| channel.digest())
            .collect()
    }

    /// The connection is lost: nothing is acknowledged any more.
    pub fn lose(&mut self) {
        for wanted in self.channels.values_mut() {
            wanted.acknowledged = None;
        }
    }

    /// Whether somebody wants the channel now.
    pub fn is_wanted(&self, channel: &Channel) -> bool {
        self.channels.get(channel).is_some_and(|wanted| wanted.count > 0)
    }

    /// The channels that are not acknowledged.
    pub fn missing(&self) -> Vec<Channel> {
        self.channels
            .iter()
            .filter(|(_, wanted)| wanted.acknowledged.is_none())
            .map(|(channel, _)| *channel)
            .collect()
    }

    /// Channels, those on their way out included.
    pub fn len(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::channel::channels, *};
    use crate::{protocol::EventId, route::key::RoutingKey};

    #[test]
    fn counts_and_lingers() {
        let channel = channels(RoutingKey::Id(EventId([1; 32])))[0];
        let (start, linger) = (Moment::new(Duration::from_secs(9)), Duration::from_secs(1));
        let mut interest = Interest::new(linger);
        assert!(interest.add(channel) && interest.add(channel));
        assert_eq!(interest.missing(), [channel]);
        assert_eq!(interest.acknowledgement(&channel), None);
        interest.acknowledge(&[channel]);
        let first = interest.acknowledgement(&channel);
        interest.acknowledge(&[channel]);
        assert!(first.is_some() && interest.acknowledgement(&channel) == first);
        assert!(!interest.add(channel) && interest.missing().is_empty());
        for _ in 0..3 {
            assert!(interest.is_wanted(&channel));
            interest.remove(channel, start);
        }
        assert!(!interest.is_wanted(&channel));
        assert!(interest.take_left(start).is_empty() && interest.len() == 1);
        // Wanted again in time: nothing was lost.
        assert!(!interest.add(channel));
        assert!(interest.take_left(start + linger).is_empty());
        interest.lose();
        assert_eq!(interest.missing(), [channel]);
        assert_eq!(interest.acknowledgement(&channel), None);
        interest.give_up(&[channel]);
        assert!(interest.was_given_up() && interest.given_up() == [channel]);
        interest.acknowledge(&[channel]);
        assert!(interest.acknowledgement(&channel).is_some_and(|again| Some(again) != first));
        interest.give_up(&[channel]);
        assert!(!interest.was_given_up());
        interest.remove(channel, start);
        assert_eq!(interest.take_left(start + linger), [channel]);
        assert_eq!(interest.len(), 0);
    }
}

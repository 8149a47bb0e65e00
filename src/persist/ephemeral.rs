//! Ephemeral events on their way to the routers, and who waits for them. Each is on its way once, however many
//! copies come meanwhile; whoever sent one hears of it when it has arrived.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::protocol::EventId;

/// Who is to be answered is anything. A plain struct.
#[derive(Debug)]
pub struct OnTheWay<W>(HashMap<EventId, Vec<(Instant, W)>>);

impl<W> Default for OnTheWay<W> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<W> OnTheWay<W> {
    /// Somebody waits for an event. Whether it is to be sent on its way, as it is not on it yet.
    pub fn wait(&mut self, id: EventId, waiter: W, now: Instant) -> bool {
        let is_new = !self.0.contains_key(&id);
        self.0.entry(id).or_default().push((now, waiter));
        is_new
    }

    /// It is on its way no more: who still waits for it.
    pub fn end(&mut self, id: &EventId) -> Vec<W> {
        let waiting = self.0.remove(id).unwrap_or_default();
        waiting.into_iter().map(|(_, waiter)| waiter).collect()
    }

    /// Those who have waited for so long. What they wait for goes on.
    pub fn late(&mut self, deadline: Duration, now: Instant) -> Vec<(EventId, W)> {
        let late = self.0.iter_mut().flat_map(|(id, waiting)| {
            let late = waiting.extract_if(.., |(since, _)| now.duration_since(*since) >= deadline);
            late.map(|(_, waiter)| (*id, waiter))
        });
        late.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_try_of_what_is_late_waits_for_it_and_sends_nothing_twice() {
        let (mut on_the_way, begun) = (OnTheWay::default(), Instant::now());
        let (id, deadline) = (EventId([1; 32]), Duration::from_secs(2));
        assert!(on_the_way.wait(id, "first", begun));
        assert!(on_the_way.late(deadline, begun).is_empty());
        let later = begun + deadline;
        assert_eq!(on_the_way.late(deadline, later), [(id, "first")]);
        // It is not called a duplicate: nobody has heard it yet.
        assert!(!on_the_way.wait(id, "second", later));
        assert!(!on_the_way.wait(id, "a copy", later));
        assert_eq!(on_the_way.end(&id), ["second", "a copy"]);
        assert!(on_the_way.wait(id, "after it was lost", later), "it is sent again");
    }
}

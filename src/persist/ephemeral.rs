//! Ephemeral events on their way to the routers, and who waits for them. Each is on its way once, however many
//! copies come meanwhile; whoever sent one hears of it when it has arrived.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use tokio::sync::oneshot;

use super::{Answer, Persister, Place, Publisher, answer::Answers, dispatch::Dispatch};
use crate::{
    protocol::{Event, EventId, Reason},
    store::Outcome,
    trace::{Trace, Traced},
};

/// For each event on its way those who wait for it, and since when. A plain struct: a waiter may be anything.
#[derive(Debug)]
pub struct OnTheWay<W>(HashMap<EventId, Vec<(Instant, W)>>);

impl<W> Default for OnTheWay<W> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<W> OnTheWay<W> {
    /// Notes that somebody waits for an event: whether that is to be sent on its way, as it is not on it yet.
    pub fn wait(&mut self, id: EventId, waiter: W, now: Instant) -> bool {
        let is_new = !self.0.contains_key(&id);
        self.0.entry(id).or_default().push((now, waiter));
        is_new
    }

    /// Notes that an event is on its way no more: who still waits for it.
    pub fn end(&mut self, id: &EventId) -> Vec<W> {
        let waiting = self.0.remove(id).unwrap_or_default();
        waiting.into_iter().map(|(_, waiter)| waiter).collect()
    }

    /// Takes out those who have waited for as long as the deadline. The events that they wait for stay on their way.
    pub fn late(&mut self, deadline: Duration, now: Instant) -> Vec<(EventId, W)> {
        let all_late = self.0.iter_mut().flat_map(|(id, waiting)| {
            let late = waiting.extract_if(.., |(since, _)| now.duration_since(*since) >= deadline);
            late.map(|(_, waiter)| (*id, waiter))
        });
        all_late.collect()
    }
}

/// An event that is only to be routed, and who is to be answered.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Ephemeral {
    pub event: Arc<Event>,
    pub from: Publisher,
    pub place: Place,
    pub trace: Trace,
}

/// Who sent an ephemeral event. The place is held until the answer.
pub(super) struct EphemeralPublisher {
    pub from: Publisher,
    _place: Place,
    pub trace: Trace,
}

impl Persister {
    /// Routes an ephemeral event: no store, no batch. A copy is not delivered a second time, and is answered as one
    /// only when the first has been routed.
    fn route(&mut self, Ephemeral { event, from, place, trace }: Ephemeral, ctx: &mut Context<Self>) {
        let id = event.id();
        if self.parts.admission.recent.contains(&id) {
            let mut answers = Answers::default();
            answers.add(Some(from), id, Answer::Outcome(Outcome::Duplicate), trace);
            return answers.send();
        }
        let traced = Traced::of(trace.context().map(|context| (id, context)).into_iter());
        if !self.on_the_way.wait(id, EphemeralPublisher { from, _place: place, trace }, Instant::now()) {
            return;
        }
        let dispatch = self.dispatch.clone();
        let work = async move {
            let (done, routed) = oneshot::channel();
            if let Some(dispatch) = dispatch {
                let events =
                    Dispatch { events: vec![event], traced, done: Some(done), ..Dispatch::default() };
                // Fails only when the task is gone, and then the answer below says so.
                let _ = dispatch.send(events).await;
            }
            routed.await.is_ok()
        };
        ctx.spawn(work.into_actor(self).map(move |is_routed, this, _| {
            let answer = match is_routed {
                true => {
                    this.parts.admission.recent.update([id], &Default::default());
                    Answer::Routed
                }
                false => Answer::Failed(Reason::error("it was not delivered")),
            };
            let mut answers = Answers::default();
            for EphemeralPublisher { from, trace, .. } in this.on_the_way.end(&id) {
                answers.add(Some(from), id, answer.clone(), trace);
            }
            answers.send();
        }));
    }
}

impl Handler<Ephemeral> for Persister {
    type Result = ();

    fn handle(&mut self, ephemeral: Ephemeral, ctx: &mut Self::Context) {
        self.route(ephemeral, ctx);
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

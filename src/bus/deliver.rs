//! Events of other nodes on their way to the routers: fetched where only their ids are known, and routed
//! once each, to whoever wants them.

use std::{sync::Arc, time::Instant};

use futures_util::future::join_all;

use super::{channel::Channel, state::BusState};
use crate::{
    clock,
    protocol::{Event, EventId, Filter, ParsedEvent, filter::sorted, kind},
    route::{Route, key::keys},
    store::{Content, Cursor, Limit, Query, Viewer},
    telemetry::Stage,
    trace::Traced,
};

impl BusState {
    /// Reads events by their ids. One that is not found was deleted or replaced, or is not committed yet.
    pub(super) async fn fetch(&self, ids: Vec<EventId>) -> anyhow::Result<Vec<Arc<Event>>> {
        /// Ids of one question.
        const TOGETHER: usize = 256;
        let mut events = Vec::with_capacity(ids.len());
        for ids in ids.chunks(TOGETHER) {
            let found = self.find(ids.to_vec(), None).await?;
            let is_missing = |id: &EventId| !found.iter().any(|event| event.id() == *id);
            let missing: Vec<EventId> = ids.iter().copied().filter(is_missing).collect();
            events.extend(found);
            if !missing.is_empty() {
                // Of this kind are only those that are asked for by it.
                events.extend(self.find(missing, Some([kind::ACTIVITY].into())).await?);
            }
        }
        Ok(events)
    }

    async fn find(&self, ids: Vec<EventId>, kinds: Option<Box<[u16]>>) -> anyhow::Result<Vec<Arc<Event>>> {
        let limit = Limit::exactly(ids.len());
        let filter = Filter { ids: Some(sorted(ids)), kinds, ..Filter::default() };
        let query = Arc::new(Query {
            filters: vec![(filter, limit)],
            viewer: Viewer::Operator,
            now: clock::now(),
            content: Content::Events,
        });
        let mut found = Vec::new();
        let mut cursor = Some(Cursor::start(&query));
        while let Some(from) = cursor {
            let page = self.parts.store.query(Arc::clone(&query), from).await?;
            for entry in page.iter() {
                found.push(Arc::new(serde_json::from_str::<ParsedEvent>(entry.json)?.trust()));
            }
            cursor = page.next;
        }
        Ok(found)
    }

    /// Routes those of the events that have not been routed yet and that somebody still wants. Returns how many.
    pub(super) async fn route(&self, mut events: Vec<Arc<Event>>, traced: Traced) -> usize {
        if self.parts.log.is_some() {
            self.parts.taps.heard(&events);
        }
        events.retain(|event| self.parts.seen.is_first(&event.id()) && self.is_wanted(event));
        let count = events.len();
        if count > 0 {
            let events: Arc<[_]> = events.into();
            let route =
                Route { events: Arc::clone(&events), traced: traced.clone(), position: None, last: true };
            let sent = self.parts.routers.all().into_iter().map(move |router| router.send(route.clone()));
            // A task of its own, so that it goes on when the link is lost meanwhile. Where a router is gone, its worker
            // was restarted, and its sessions are gone as well.
            let begun = Instant::now();
            let _ = actix::spawn(join_all(sent.collect::<Vec<_>>())).await;
            self.parts.tracer.routed(&traced, &events, begun);
            self.parts.metrics.stages.of(Stage::Route).observe(begun.elapsed().as_secs_f64());
        }
        count
    }

    fn is_wanted(&self, event: &Event) -> bool {
        let interest = self.interest();
        let wanted = keys(event).any(|key| interest.is_wanted(&Channel::of(key, &event.id())));
        if !wanted {
            self.parts.metrics.bus_unmatched.inc();
        }
        wanted
    }
}

//! Events by their ids, several questions at a time.

use std::collections::{HashMap, HashSet};

use tokio::time::{Instant, timeout_at};

use super::{ClientError, Connection, connection::random_id};
use crate::protocol::{Event, EventId, Filter, Reply};

/// Ids of a question: what every relay bears.
const IDS: usize = 500;
/// Questions under way.
const QUESTIONS: usize = 4;

/// What became of the ids that were asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub events: u64,
    /// Events that came and are no use: not valid, or not asked for.
    pub unusable: u64,
    /// Ids of which nothing came.
    pub missing: u64,
}

impl Connection {
    /// Fetches events by ids and hands each over, once. Ends early when `take` says that no more are wanted.
    ///
    /// # Errors
    /// The connection is lost, the relay refuses, or it is silent for too long.
    pub async fn fetch(
        &mut self,
        ids: &[EventId],
        mut take: impl AsyncFnMut(Event) -> bool,
    ) -> Result<Fetched, ClientError> {
        let mut fetched = Fetched::default();
        let mut questions = ids.chunks(IDS);
        let mut open: HashMap<String, HashSet<EventId>> = HashMap::new();
        loop {
            while open.len() < QUESTIONS
                && let Some(ids) = questions.next()
            {
                let id = random_id();
                let limit = Some(ids.len());
                let filter = Filter {
                    ids: Some(crate::protocol::filter::sorted(ids.to_vec())),
                    limit,
                    ..Filter::default()
                };
                self.send(format!(r#"["REQ","{id}",{filter}]"#)).await?;
                open.insert(id, ids.iter().copied().collect());
            }
            if open.is_empty() {
                return Ok(fetched);
            }
            let deadline = Instant::now() + self.endpoint().bounds.answer;
            let text = timeout_at(deadline, self.receive()).await;
            let text = text.map_err(|_| ClientError::Silent("send what it has"))??;
            match self.read(&text) {
                Some(Reply::Event { subscription, event }) => {
                    let Some(wanted) = open.get_mut(&*subscription) else { continue };
                    let event = event.ok().and_then(|parsed| self.check(*parsed));
                    match event.filter(|event| wanted.remove(&event.id())) {
                        Some(event) => {
                            fetched.events += 1;
                            if !take(event).await {
                                return Ok(fetched);
                            }
                        }
                        None => fetched.unusable += 1,
                    }
                    // A relay may send without end what nobody asked for.
                    if fetched.unusable > ids.len() as u64 + IDS as u64 {
                        return Err(ClientError::Endless);
                    }
                }
                Some(Reply::Eose { subscription, .. }) => {
                    if let Some(missing) = open.remove(&*subscription) {
                        fetched.missing += missing.len() as u64;
                        self.send(format!(r#"["CLOSE","{subscription}"]"#)).await?;
                    }
                }
                Some(Reply::Closed { subscription, reason }) if open.contains_key(&*subscription) => {
                    return Err(ClientError::Refused(reason.into_owned()));
                }
                _ => {}
            }
        }
    }
}

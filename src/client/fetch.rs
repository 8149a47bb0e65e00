//! Events by their ids, several questions at a time.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::time::{Instant, timeout_at};

use super::{ClientError, Connection, connection::random_id};
use crate::protocol::{Event, EventId, Filter, Reply, filter::sorted};

/// Ids of a question: what every relay bears.
const IDS: usize = 500;
/// Questions under way.
const QUESTIONS: usize = 4;

/// Ids that were asked for together.
struct Question {
    /// Those that have not come.
    wanted: HashSet<EventId>,
    asked: usize,
}

/// What a relay says to ids that it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It has sent one of the events.
    Event(Event),
    /// It has sent nothing of these.
    Nothing(Vec<EventId>),
}

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
    /// Fetches events by ids and hands each over, once, and the ids of which nothing came. Ends early when `take` says
    /// that no more are wanted.
    ///
    /// # Errors
    /// The connection is lost, the relay refuses, or it is silent for too long.
    pub async fn fetch(
        &mut self,
        ids: &[EventId],
        mut take: impl AsyncFnMut(Found) -> bool,
    ) -> Result<Fetched, ClientError> {
        let mut fetched = Fetched::default();
        let manners = self.endpoint().manners;
        let mut questions: VecDeque<Vec<EventId>> = ids.chunks(manners.ids(IDS)).map(<[_]>::to_vec).collect();
        let mut open: HashMap<String, Question> = HashMap::new();
        loop {
            while open.len() < QUESTIONS.min(manners.subscriptions)
                && let Some(ids) = questions.pop_front()
            {
                let (id, asked) = (random_id(), ids.len());
                let question = Question { wanted: ids.iter().copied().collect(), asked };
                let filter = Filter { ids: Some(sorted(ids)), limit: Some(asked), ..Filter::default() };
                self.send(format!(r#"["REQ","{id}",{filter}]"#)).await?;
                open.insert(id, question);
            }
            if open.is_empty() {
                return Ok(fetched);
            }
            let deadline = Instant::now() + self.endpoint().bounds.answer;
            let text = timeout_at(deadline, self.receive()).await;
            let text = text.map_err(|_| ClientError::Silent("send what it has"))??;
            match self.read(&text) {
                Some(Reply::Event { subscription, event }) => {
                    let Some(question) = open.get_mut(&*subscription) else { continue };
                    let event = event.ok().and_then(|parsed| self.check(*parsed));
                    match event.filter(|event| question.wanted.remove(&event.id())) {
                        Some(event) => {
                            fetched.events += 1;
                            if !take(Found::Event(event)).await {
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
                    let Some(Question { wanted, asked }) = open.remove(&*subscription) else { continue };
                    // It may send no more than so many at once, whatever was asked for.
                    match wanted.len() {
                        0 => {}
                        missing if missing < asked => questions.push_back(wanted.into_iter().collect()),
                        missing => {
                            fetched.missing += missing as u64;
                            if !take(Found::Nothing(wanted.into_iter().collect())).await {
                                return Ok(fetched);
                            }
                        }
                    }
                    self.send(format!(r#"["CLOSE","{subscription}"]"#)).await?;
                }
                Some(Reply::Closed { subscription, reason }) if open.contains_key(&*subscription) => {
                    return Err(ClientError::Refused(reason.into_owned()));
                }
                _ => {}
            }
        }
    }
}

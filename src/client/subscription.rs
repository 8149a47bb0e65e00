//! One subscription of a connection: the REQ, what arrives for it, and the authentication that it may need first.

use tokio::time::{Instant, timeout_at};

use super::{
    ClientError, Connection, Step,
    connection::{CHALLENGE_TIMEOUT, random_id},
};
use crate::protocol::{Event, EventId, Filter, ParsedEvent, Reply, message::Hint, reply};

/// What arrives for a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// An event that matches the filter; its id and signature are checked where the endpoint says so.
    Event(Box<Event>),
    /// An event that is no use: it has no valid shape, id or signature, or nobody asked for it.
    Unusable,
    /// All stored events have arrived (`EOSE`), and whether that was all that there are, where the relay tells
    /// (NIP-67). What follows is live.
    EndOfStored(Option<Hint>),
    /// The relay wanted to know who asks, and has been told: everything arrives from the beginning.
    Again,
}

/// A subscription (NIP-01) under a random id. It authenticates (NIP-42) once, where the relay demands that.
#[must_use = "nothing is asked for before `next` is called"]
pub struct Subscription<'a> {
    connection: &'a mut Connection,
    id: String,
    filter: Filter,
    /// A message that leaves as soon as there is room for it.
    unsaid: Option<String>,
    auth: Auth,
    is_live: bool,
}

/// How far the authentication is.
enum Auth {
    NotWanted,
    /// The relay wants it, and owes a challenge until then.
    Challenged(Instant),
    /// This event answers the challenge; the relay owes an `OK` until then.
    Answered(EventId, Instant),
    Done,
}

impl Connection {
    /// Asks for the events that match, stored ones first, then live ones. Ends when it is
    /// [closed](Subscription::close).
    pub fn subscribe(&mut self, filter: &Filter) -> Subscription<'_> {
        let id = random_id();
        let unsaid = Some(request(&id, filter));
        let filter = filter.clone();
        Subscription { connection: self, id, filter, unsaid, auth: Auth::NotWanted, is_live: false }
    }
}

impl Subscription<'_> {
    /// What arrives next. Waits for as long as the connection lives, if it must: see [`super::Bounds::silence`].
    /// Safe to cancel: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The connection is lost, or the relay refused or ended the subscription (`CLOSED`).
    pub async fn next(&mut self) -> Result<Arrival, ClientError> {
        loop {
            let step = self.connection.step(self.unsaid.is_some());
            let step = match self.auth {
                Auth::Challenged(until) => timeout_at(until, step)
                    .await
                    .map_err(|_| ClientError::Silent("send the challenge that authentication needs"))?,
                Auth::Answered(_, until) => {
                    timeout_at(until, step).await.map_err(|_| ClientError::Silent("answer AUTH"))?
                }
                Auth::NotWanted | Auth::Done => step.await,
            };
            match step? {
                Step::Room => {
                    if let Some(message) = self.unsaid.take() {
                        self.connection.queue(message)?;
                    }
                }
                Step::Text(text) => {
                    if let Some(arrival) = self.hear(&text)? {
                        return Ok(arrival);
                    }
                }
            }
        }
    }

    /// Ends it (`CLOSE`). What is on its way already is dropped by whoever uses the connection next.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn close(self) -> Result<(), ClientError> {
        self.connection.send(format!(r#"["CLOSE","{}"]"#, self.id)).await
    }

    fn hear(&mut self, text: &str) -> Result<Option<Arrival>, ClientError> {
        let reply = self.connection.read(text);
        if matches!(self.auth, Auth::Challenged(_)) {
            // The challenge may have come with it.
            self.answer_challenge()?;
        }
        match reply {
            Some(Reply::Event { subscription, event }) if subscription == self.id => {
                let event = event.ok().and_then(|parsed| self.check(*parsed));
                Ok(Some(event.map_or(Arrival::Unusable, |event| Arrival::Event(Box::new(event)))))
            }
            Some(Reply::Eose { subscription, hint }) if subscription == self.id => {
                self.is_live = true;
                Ok(Some(Arrival::EndOfStored(hint)))
            }
            Some(Reply::Closed { subscription, reason }) if subscription == self.id => self.end(&reason),
            Some(Reply::Ok { id: Some(id), accepted, reason }) => match self.auth {
                Auth::Answered(asked, _) if asked == id && accepted => {
                    self.auth = Auth::Done;
                    self.unsaid = Some(request(&self.id, &self.filter));
                    Ok(Some(Arrival::Again))
                }
                Auth::Answered(asked, _) if asked == id => Err(ClientError::AuthRefused(reason.into_owned())),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// The event, if it is valid and was asked for.
    fn check(&mut self, parsed: ParsedEvent<'_>) -> Option<Event> {
        let event = self.connection.check(parsed)?;
        self.filter.matches(&event).then_some(event)
    }

    /// The relay has ended the subscription, which may go on after authentication.
    fn end(&mut self, reason: &str) -> Result<Option<Arrival>, ClientError> {
        if reply::prefix(reason) == "auth-required" && matches!(self.auth, Auth::NotWanted) {
            self.auth = Auth::Challenged(Instant::now() + CHALLENGE_TIMEOUT);
            self.is_live = false;
            self.answer_challenge()?;
            return Ok(None);
        }
        let reason = reason.to_owned();
        Err(if self.is_live { ClientError::Ended(reason) } else { ClientError::Refused(reason) })
    }

    /// Answers the challenge, if there is one.
    fn answer_challenge(&mut self) -> Result<(), ClientError> {
        if let Some((id, message)) = self.connection.auth_message()? {
            self.auth = Auth::Answered(id, Instant::now() + self.connection.endpoint().bounds.answer);
            self.unsaid = Some(message);
        }
        Ok(())
    }
}

fn request(id: &str, filter: &Filter) -> String {
    format!(r#"["REQ","{id}",{filter}]"#)
}

//! Finds out which events only one of the two sides has (NIP-77), as the side that begins.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{ClientError, Connection, connection::random_id};
use crate::protocol::{EventId, Filter, Reply, negentropy::KeySet, reply};

/// Longest message of the protocol that is sent, in bytes: half of what relays answer with (60,000 bytes, as a rule). An
/// answer is longer than what it answers, as it holds ids where that had fingerprints; what finds no place in it was sent
/// for nothing, and is sent again.
const FRAME_BYTES: usize = 30_000;
/// Longest that is understood.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// More rounds than any two sets need: each tells at least some ids.
const MAX_ROUNDS: u32 = 20_000;
/// Relays without NIP-77 say so in a notice, if at all. After one nobody waits longer than this for an answer.
const AFTER_NOTICE: Duration = Duration::from_secs(2);

/// What only one side has.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Differences {
    /// Events that only this side has.
    pub have: Vec<EventId>,
    /// Events that only the relay has, by its word.
    pub need: Vec<EventId>,
    /// Whether that is all of them.
    pub is_whole: bool,
    /// Bytes of the messages in both directions.
    pub bytes: u64,
    pub rounds: u32,
}

impl Connection {
    /// Compares what this side has of a filter with what the relay has. Ends early once the relay has named `most`
    /// events that this side needs: they can be any bytes, so they are asked for before more are noted. Authenticates
    /// once, where the relay demands that.
    ///
    /// # Errors
    /// The connection is lost; the relay does not reconcile, refuses, has too many, or speaks no sense.
    pub async fn reconcile(
        &mut self,
        filter: &Filter,
        ours: &KeySet,
        most: usize,
    ) -> Result<Differences, ClientError> {
        let found = self.reconcile_once(filter, ours, most).await;
        match found {
            Err(ClientError::NotReconciled(reason)) if reply::prefix(&reason) == "auth-required" => {
                self.authenticate().await?;
                self.reconcile_once(filter, ours, most).await
            }
            found => found,
        }
    }

    async fn reconcile_once(
        &mut self,
        filter: &Filter,
        ours: &KeySet,
        most: usize,
    ) -> Result<Differences, ClientError> {
        let (id, filter) = (random_id(), filter.to_string());
        let frame = self.endpoint().manners.frame_bytes(FRAME_BYTES, filter.len());
        let begin = hex::encode(ours.begin(frame).map_err(bad)?);
        let mut found = Differences { bytes: begin.len() as u64 / 2, ..Differences::default() };
        // What finds no place in a message is compared again, so the same ids come up in many rounds.
        let (mut have, mut need) = (BTreeSet::new(), BTreeSet::new());
        self.send(format!(r#"["NEG-OPEN","{id}",{filter},"{begin}"]"#)).await?;
        loop {
            let answer = self.hear_reconciliation(&id, found.rounds == 0).await?;
            found.bytes += answer.len() as u64;
            found.rounds += 1;
            let round = ours.go_on(&answer, frame).map_err(bad)?;
            // Of its own, so never more than those.
            have.extend(round.have);
            need.extend(round.need);
            let Some(next) = round.next else {
                found.is_whole = true;
                break;
            };
            if need.len() >= most {
                break;
            }
            if found.rounds == MAX_ROUNDS {
                return Err(ClientError::BadReconciliation("it finds no end".into()));
            }
            found.bytes += next.len() as u64;
            self.send(format!(r#"["NEG-MSG","{id}","{}"]"#, hex::encode(next))).await?;
        }
        self.send(format!(r#"["NEG-CLOSE","{id}"]"#)).await?;
        (found.have, found.need) = (have.into_iter().collect(), need.into_iter().collect());
        Ok(found)
    }

    /// The next message of the reconciliation.
    async fn hear_reconciliation(&mut self, id: &str, is_first: bool) -> Result<Vec<u8>, ClientError> {
        let mut deadline = Instant::now() + self.endpoint().bounds.answer;
        let mut notice = None;
        loop {
            let text = match timeout_at(deadline, self.receive()).await {
                Ok(text) => text?,
                Err(_) => {
                    return Err(match notice {
                        Some(notice) => ClientError::NoReconciliation(notice),
                        // Some relays pass over messages that they do not know.
                        None if is_first => ClientError::NoReconciliation("it does not answer".into()),
                        None => ClientError::Silent("answer a reconciliation"),
                    });
                }
            };
            if is_first && let Ok(Reply::Notice(said)) = Reply::parse(&text) {
                notice.get_or_insert_with(|| said.into_owned());
                deadline = deadline.min(Instant::now() + AFTER_NOTICE);
            }
            match self.read(&text) {
                Some(Reply::NegMsg { subscription, message }) if subscription == id => {
                    if message.len() / 2 > MAX_ANSWER_BYTES {
                        return Err(ClientError::BadReconciliation("its message is too long".into()));
                    }
                    return hex::decode(&*message).map_err(bad);
                }
                Some(Reply::NegErr { subscription, reason }) if subscription == id => {
                    return Err(refusal(reason.into_owned()));
                }
                _ => {}
            }
        }
    }
}

/// Why there is no reconciliation, by the words that relays use.
fn refusal(reason: String) -> ClientError {
    let words = reason.to_ascii_lowercase();
    if words.contains("not supported") || words.contains("disabled") {
        ClientError::NoReconciliation(reason)
    } else if words.contains("too many") || words.contains("too big") || words.contains("results_too_big") {
        ClientError::TooMany(reason)
    } else {
        ClientError::NotReconciled(reason)
    }
}

fn bad(error: impl ToString) -> ClientError {
    ClientError::BadReconciliation(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::protocol::negentropy::Key;

    /// A thousand that one side has not, all over a hundred thousand that both have: bytes as they are sent, both ways,
    /// with a relay that has the usual bound.
    #[test]
    fn little_is_sent_for_nothing() {
        let mut random = StdRng::seed_from_u64(4);
        let mut key = |at| Key { created_at: at, id: EventId(random.random()) };
        let common: Vec<Key> = (0..100_000).map(|n| key(n * 60)).collect();
        let missing: Vec<Key> = (0..1_000).map(|n| key(n * 6_000 + 7)).collect();
        let set = |keys: &[&[Key]]| {
            let mut keys = keys.concat();
            keys.sort_by_key(|key| (Reverse(key.created_at), key.id));
            keys.into_iter().collect::<KeySet>()
        };
        let (ours, theirs) = (set(&[&common]), set(&[&common, &missing]));
        let (mut bytes, mut need) = (0, 0);
        let mut message = Some(ours.begin(FRAME_BYTES).unwrap());
        while let Some(sent) = message {
            let answer = theirs.answer(&sent, 60_000).unwrap();
            bytes += 2 * (sent.len() + answer.len());
            let round = ours.go_on(&answer, FRAME_BYTES).unwrap();
            need += round.need.len();
            message = round.next;
        }
        assert_eq!(need, missing.len());
        assert!(bytes < 1_800_000, "{bytes}");
    }
}

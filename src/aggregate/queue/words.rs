//! What was finished of each upstream, until its reader asks.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{AnyListener, Broken, Number, UpstreamId, Verdict, Word};

/// Words for the readers of a node, each about an entry that was put here: at most what is on its way.
pub struct Words {
    listener: AnyListener,
    by_upstream: Mutex<HashMap<UpstreamId, Said>>,
}

#[derive(Default)]
struct Said {
    finished: Vec<(Number, Verdict)>,
    is_broken: bool,
    said: Arc<Notify>,
}

impl Words {
    pub fn new(listener: AnyListener) -> Self {
        Self { listener, by_upstream: Mutex::default() }
    }

    /// Says something of an entry. That it is finished must be said once.
    pub fn say(&self, upstream: UpstreamId, number: Number, word: Word) {
        self.listener.hear(upstream, number, word);
        if let Word::Finished(verdict) = word {
            let mut by_upstream = self.by_upstream.lock();
            let said = by_upstream.entry(upstream).or_default();
            said.finished.push((number, verdict));
            said.said.notify_one();
        }
    }

    /// What is not finished is lost: these entries.
    pub fn break_off(&self, lost: impl IntoIterator<Item = (UpstreamId, Number)>) {
        let mut by_upstream = self.by_upstream.lock();
        for (upstream, number) in lost {
            self.listener.lose(upstream, number);
            by_upstream.entry(upstream).or_default().is_broken = true;
        }
        by_upstream.values().filter(|said| said.is_broken).for_each(|said| said.said.notify_one());
    }

    /// What was finished of an upstream since this was asked for last, once there is any.
    ///
    /// # Errors
    /// [`Broken`], after what was finished before.
    pub async fn listen(&self, upstream: UpstreamId) -> Result<Vec<(Number, Verdict)>, Broken> {
        loop {
            let said = {
                let mut by_upstream = self.by_upstream.lock();
                let said = by_upstream.entry(upstream).or_default();
                if !said.finished.is_empty() {
                    if said.is_broken {
                        // It goes on with the next question.
                        said.said.notify_one();
                    }
                    return Ok(std::mem::take(&mut said.finished));
                }
                if std::mem::take(&mut said.is_broken) {
                    return Err(Broken);
                }
                Arc::clone(&said.said)
            };
            said.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{super::Deaf, *};
    use crate::aggregate::upstream::RelayUrl;

    #[tokio::test]
    async fn who_has_lost_something_hears_it_once_and_others_do_not() {
        let words = Words::new(Arc::new(Deaf));
        let [a, b] = ["ws://a", "ws://b"].map(|url| RelayUrl::parse(url).unwrap().id());
        let stored = Verdict::Stored;
        words.say(a, 1, Word::Finished(stored));
        words.say(a, 3, Word::Full(true));
        words.break_off([(a, 2), (a, 3)]);
        assert_eq!(words.listen(a).await, Ok(vec![(1, stored)]));
        assert_eq!(words.listen(a).await, Err(Broken));
        assert_eq!((words.listen(a).now_or_never(), words.listen(b).now_or_never()), (None, None));
        words.say(a, 4, Word::Finished(stored));
        assert_eq!(words.listen(a).await, Ok(vec![(4, stored)]));
    }
}

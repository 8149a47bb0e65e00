//! What the store did not take with others is tried alone, and is a dead letter in the end.

use std::{sync::Arc, time::Instant};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use tracing::warn;

use super::{
    super::{
        counts::Verdict,
        dead::{Address, DeadLetter, NotBuried},
        queue::Word,
        suspects::{Next, Suspect},
        taken::Taken,
    },
    Consumer, Trial,
};

impl Consumer {
    /// Tries one of the events alone that were not taken with others.
    pub(super) fn try_alone(&mut self, ctx: &mut Context<Self>) {
        loop {
            match self.suspects.next(Instant::now()) {
                None => return,
                Some(Next::Wait(wait)) => {
                    if !std::mem::replace(&mut self.is_alarm_set, true) {
                        ctx.run_later(wait, |this, ctx| {
                            this.is_alarm_set = false;
                            this.try_alone(ctx);
                        });
                    }
                    return;
                }
                Some(Next::Bury(suspect)) => self.bury(suspect, ctx),
                Some(Next::Try(suspect)) => self.begin_trial(suspect),
            }
        }
    }

    fn begin_trial(&mut self, mut suspect: Suspect) {
        let mut entries = std::mem::take(&mut suspect.entries);
        let Some(first) = entries.pop() else { return self.suspects.finished() };
        let id = suspect.id;
        self.trial = Some(Trial { suspect, begun: Instant::now() });
        let published = self.publish(first, true);
        if let Some(with_persister) = self.with_persister.get_mut(&id) {
            with_persister.append(&mut entries);
            return;
        }
        // Nothing is under way: there is no place, or it is refused or known by now.
        let Some(Trial { mut suspect, .. }) = self.trial.take() else { return };
        match published {
            Ok(()) => {
                self.held.extend(entries);
                self.suspects.finished();
            }
            Err(first) => {
                entries.push(first);
                suspect.entries = entries;
                self.suspects.put_back(suspect, Instant::now());
            }
        }
    }

    /// Makes dead letters of an event, one for each upstream that has sent it.
    fn bury(&mut self, suspect: Suspect, ctx: &mut Context<Self>) {
        let dead = Arc::clone(&self.parts.dead);
        let bury = async move {
            let mut buried = Ok(());
            for Taken { entry, .. } in &suspect.entries {
                let at = Address { upstream: entry.upstream, event: suspect.id };
                let letter = DeadLetter {
                    text: Some(entry.text.clone()),
                    bytes: entry.text.len(),
                    attempts: suspect.attempts,
                    first_error: suspect.first.error.clone(),
                    first_at: suspect.first.at,
                    last_error: suspect.last.error.clone(),
                    last_at: suspect.last.at,
                };
                buried = dead.keep(at, letter).await;
                if buried.is_err() {
                    break;
                }
            }
            (suspect, buried)
        };
        ctx.spawn(bury.into_actor(self).map(|(suspect, buried), this, ctx| {
            this.buried(suspect, buried);
            this.next(ctx);
        }));
    }

    fn buried(&mut self, suspect: Suspect, buried: Result<(), NotBuried>) {
        let id = suspect.id.to_hex();
        match buried {
            Ok(()) => {
                let (attempts, error) = (suspect.attempts, &suspect.last.error);
                warn!(event = %id, attempts, "an event of another relay can not be stored; it is a dead letter: {error}");
                // Of what is finished nobody hears any more.
                self.say_full(&suspect.entries, false);
                suspect.entries.iter().for_each(|taken| self.settle(taken, Verdict::Dead));
                self.suspects.finished();
            }
            Err(error) => {
                if matches!(error, NotBuried::Full) {
                    self.say_full(&suspect.entries, true);
                }
                warn!(event = %id, "an event that can not be stored waits, as no dead letter can be made of it: {error}");
                self.suspects.put_back(suspect, Instant::now());
            }
        }
    }

    /// Whether there is no place for a dead letter of an event, for those who read its upstreams.
    pub(super) fn say_full(&self, entries: &[Taken], is_full: bool) {
        entries.iter().for_each(|taken| self.parts.queue.say(&taken.entry, Word::Full(is_full)));
    }
}

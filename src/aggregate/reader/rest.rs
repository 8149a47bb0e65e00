//! Between the sessions with an upstream.

use std::{convert::Infallible, time::Duration};

use tokio::{
    select,
    time::{interval, sleep, timeout},
};
use tracing::{info, warn};

use super::{
    super::{
        cursor::{Kept, NotKept},
        pace::DAY,
        status::State,
        trust::Trust,
    },
    Ended, LONGEST_RETRY, Reader, TICK,
};
use crate::{backoff::Backoff, clock};

/// For so long an upstream is not read that sends what is forged.
const DISTRUST: Duration = Duration::from_secs(3_600);
/// After so long it is tried again whether there is a place for dead letters.
const FULL: Duration = Duration::from_secs(60);
/// Between looks whether it may go on.
const LOOK: Duration = Duration::from_millis(200);
/// Between looks at the date.
const DATE: Duration = Duration::from_secs(10);
/// Looks whether another node still notes how far it is, until it is taken for one that does not.
const LOOKS: u32 = 6;

/// Waits until it is so.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        sleep(LOOK).await;
    }
}

impl Reader {
    /// Waits until the next session may begin.
    pub(super) async fn rest(&self, ended: Ended, backoff: &mut Backoff, kept: &mut Kept) {
        match ended {
            Ended::Told => std::future::pending().await,
            Ended::Behind => {
                self.status.set(State::Behind);
                let room = async {
                    // Also where it is not the queue that is full.
                    sleep(TICK).await;
                    until(|| self.parts.queue.fill() <= 0.5).await;
                };
                self.meanwhile(room, kept).await;
            }
            Ended::DeadLettersFull => {
                info!(upstream = %self.upstream.url, "not read for now: {ended}");
                self.status.fail(ended.to_string());
                self.status.set(State::DeadLettersFull);
                // What says that there is a place again may be lost on its way. Where there is none, that is said again.
                let _ = timeout(FULL, self.meanwhile(until(|| !self.counts.is_full()), kept)).await;
                self.counts.set_full(false);
            }
            Ended::Distrusted => {
                warn!(upstream = %self.upstream.url, "not read for now: {ended}");
                self.status.fail(ended.to_string());
                self.status.set(State::Distrusted);
                self.counts.distrust();
                self.meanwhile(sleep(DISTRUST), kept).await;
                self.inner.lock().trust = Trust::default();
            }
            Ended::Spent => {
                self.status.set(State::Spent);
                let tomorrow = async {
                    while self.inner.lock().pace.is_spent(clock::now()) {
                        sleep(Duration::from_secs(DAY - clock::now() % DAY).min(DATE)).await;
                    }
                };
                self.meanwhile(tomorrow, kept).await;
            }
            Ended::Cursor(NotKept::Overtaken) => {
                info!(upstream = %self.upstream.url, "another node reads it");
                self.status.set(State::Elsewhere);
                *kept = self.turn().await;
            }
            Ended::Ourselves => {
                if self.status.fail(ended.to_string()) {
                    warn!(upstream = %self.upstream.url, "not read: {ended}");
                }
                self.status.set(State::Ourselves);
                self.meanwhile(sleep(LONGEST_RETRY), kept).await;
            }
            ended => {
                let wait = backoff.fail();
                self.status.fail(ended.to_string());
                if backoff.attempts() == 1 {
                    info!(upstream = %self.upstream.url, "not read for now: {ended}");
                }
                self.status.set(State::Waiting);
                self.meanwhile(sleep(wait), kept).await;
            }
        }
    }

    /// Waits until whoever reads it has not noted for a while how far they are. Where nodes have beats, both have taken it
    /// that it is theirs, which one of them will hear is not so.
    async fn turn(&self) -> Kept {
        if let Some(gone) = self.parts.gone {
            sleep(gone).await;
            let (kept, cursor) = self.cursor().await;
            self.go_on_from(cursor);
            return kept;
        }
        let (mut kept, mut cursor) = self.cursor().await;
        let mut looks = 0;
        while looks < LOOKS {
            sleep(self.parts.takeover / LOOKS).await;
            let before = kept.version();
            (kept, cursor) = self.cursor().await;
            self.status.set(State::Elsewhere);
            looks = if kept.version() == before { looks + 1 } else { 0 };
        }
        self.go_on_from(cursor);
        kept
    }

    /// Hears what is finished, and notes it, until that has come.
    async fn meanwhile(&self, come: impl Future<Output = ()>, kept: &mut Kept) {
        select! {
            () = come => {}
            never = self.keep_on(kept) => match never {},
        }
    }

    /// Hears what is finished, and notes it, as long as nobody reads.
    async fn keep_on(&self, kept: &mut Kept) -> Infallible {
        let mut ticks = interval(TICK * self.save_every());
        loop {
            select! {
                // What is lost is read again by the next session.
                words = self.parts.queue.words(self.id) => drop(self.finish(words)),
                // What can not be written now is written later.
                _ = ticks.tick() => { let _ = self.save(kept).await; }
            }
        }
    }
}

//! Reads whose doings the client may see, and subscribes to what that rests on: for each REQ that names activity, before
//! its first page, and whenever [`Watch`] wants it.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, MailboxError, WrapFuture};
use tracing::error;

use super::{
    Context, Session,
    query::Work,
    watch::{Heard, TooMuch, Verdict, Watch, Watched},
};
use crate::{
    protocol::{Circle, Event, Fields, Filter, PublicKey, Reason, kind},
    route::{Generation, Subscribe, Whose},
    store::{Position, StoreError, circle::Followed, tap::Listener},
};

impl Session {
    /// Has the circle read, before whatever is read next for the connection. A client that has proved no key has none.
    pub(super) fn want_circle(&mut self) {
        if self.auth.keys().is_empty() {
            return;
        }
        self.watch.get_or_insert_default().want();
        self.queue_circle();
    }

    fn queue_circle(&mut self) {
        let is_due = self.watch.as_ref().is_some_and(|watch| watch.is_due());
        if is_due && !matches!(self.work.front(), Some(Work::Circle)) {
            self.work.push_front(Work::Circle);
        }
    }

    /// First the lists of the client's keys, then those of whom they follow: each is subscribed to before it is read.
    pub(super) fn read_circle(&mut self, ctx: &mut Context) {
        let Some(watch) = &mut self.watch else { return };
        let keys: Arc<[PublicKey]> = self.auth.keys().into();
        if let Some(accounts) = &self.shared.accounts {
            // Keys are only ever added.
            let new = keys.iter().skip(watch.accounts.len());
            watch.accounts.extend(new.map(|key| accounts.watch(*key)));
        }
        watch.begin();
        self.reading = true;
        let (subscribed, old) = self.watch_lists(|watch| &mut watch.own, &keys);
        let shared = Arc::clone(&self.shared);
        let read = async move {
            acknowledged(subscribed).await?;
            let heard = hear(shared.listener.as_ref(), keys.iter().copied());
            let most = shared.live.load().limits.max_tags;
            Ok::<_, StoreError>((shared.follow_lists().followed(&keys, most).await?, heard))
        };
        ctx.spawn(read.into_actor(self).map(move |read, this, ctx| {
            old.into_iter().for_each(|generation| this.forget(generation));
            match read {
                Ok((followed, heard)) => this.read_friends(followed, heard, ctx),
                Err(error) => this.circle_is_read(Err(error), ctx),
            }
        }));
    }

    fn read_friends(&mut self, followed: Followed, own: Option<Heard>, ctx: &mut Context) {
        let people: Arc<[PublicKey]> = followed.people().into_iter().collect();
        let (subscribed, old) = self.watch_lists(|watch| &mut watch.followed, &people);
        let shared = Arc::clone(&self.shared);
        let keys: Arc<[PublicKey]> = self.auth.keys().into();
        let read = async move {
            acknowledged(subscribed).await?;
            let all = hear(shared.listener.as_ref(), keys.iter().chain(&*people).copied());
            Ok::<_, StoreError>((shared.follow_lists().friends(&followed).await?, own.zip(all)))
        };
        ctx.spawn(read.into_actor(self).map(move |read, this, ctx| {
            old.into_iter().for_each(|generation| this.forget(generation));
            this.circle_is_read(read, ctx);
        }));
    }

    fn circle_is_read(
        &mut self,
        read: Result<(Circle, Option<(Heard, Heard)>), StoreError>,
        ctx: &mut Context,
    ) {
        self.reading = false;
        if let Err(failure) = &read {
            self.count_store_error(failure);
            error!("could not read follow lists: {}", failure.detail());
        }
        if let Some(watch) = &mut self.watch {
            let is_outdated = watch.is_outdated();
            if is_outdated {
                watch.want();
            }
            watch.end(read.ok().filter(|_| !is_outdated), self.auth.keys());
            self.auth.know(watch.circle().cloned());
            for (generation, event) in watch.release(self.auth.viewer()) {
                // Live by now: what comes while stored events are read waits there.
                let subscription = self.subscriptions.iter().find(|other| other.generation == generation);
                if let Some(subscription) = subscription {
                    self.outbox.event(&subscription.quoted, event.json());
                }
            }
        }
        self.queue_circle();
        self.end_watch_if_unwanted();
        self.read_next(ctx);
    }

    /// Subscribes to the follow lists of these authors instead of others, if it is not to the same: what resolves once
    /// that is so, and which subscription is over then.
    fn watch_lists(
        &mut self,
        which: fn(&mut Watch) -> &mut Option<Watched>,
        authors: &[PublicKey],
    ) -> (Option<impl Future<Output = Result<Position, MailboxError>> + use<>>, Option<Generation>) {
        let Some(watch) = &mut self.watch else { return (None, None) };
        let watched = which(watch);
        if watched.as_ref().is_some_and(|watched| *watched.authors == *authors) {
            return (None, None);
        }
        let old = watched.take().map(|watched| watched.generation);
        if authors.is_empty() {
            return (None, old);
        }
        self.last_generation += 1;
        let generation = self.last_generation;
        *watched = Some(Watched { generation, authors: authors.into() });
        // What takes a list away counts as a new one does.
        let kinds = Some([kind::FOLLOW_LIST, kind::DELETION, kind::VANISH].into());
        let filter = Filter { authors: Some(authors.into()), kinds, ..Filter::default() };
        let filters = [filter].into();
        let subscribe = Subscribe { session: self.id, generation, filters, whose: Whose::Session };
        (Some(self.router.send(subscribe)), old)
    }

    /// Takes an event that came for one of the session's own subscriptions; `false`: it came for one of the client's.
    pub(super) fn take_change(&mut self, generation: Generation, event: &Arc<Event>) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        let own = [&watch.own, &watch.followed].into_iter().flatten();
        if !own.into_iter().any(|watched| watched.generation == generation) {
            return false;
        }
        watch.change(event, self.auth.keys());
        self.auth.know(watch.circle().cloned());
        self.queue_circle();
        true
    }

    /// Whether a live event is for the client.
    pub(super) fn judge(&self, event: &Event) -> Verdict {
        let viewer = self.auth.viewer();
        match &self.watch {
            Some(watch) => watch.judge(event, viewer, |author| {
                hear(self.shared.listener.as_ref(), viewer.keys().iter().copied().chain(author))
            }),
            None if event.is_visible_to(viewer) => Verdict::Shown,
            None => Verdict::Hidden,
        }
    }

    /// Keeps activity until the circle was read.
    pub(super) fn hold_activity(&mut self, generation: Generation, event: Arc<Event>) {
        let most = self.shared.live.load().session.max_held_bytes;
        let Some(watch) = &mut self.watch else { return };
        match watch.hold(generation, event, most) {
            Ok(()) => self.queue_circle(),
            Err(TooMuch) => {
                let reason = "too many live events while follow lists were read; ask again";
                self.fail(generation, &Reason::error(reason));
            }
        }
    }

    /// Lets go of everything, once no subscription of the client is to activity.
    pub(super) fn end_watch_if_unwanted(&mut self) {
        let is_wanted = || self.subscriptions.iter().any(|subscription| subscription.wants_activity);
        let Some(watch) = self.watch.take_if(|watch| !watch.is_reading() && !is_wanted()) else { return };
        self.work.retain(|work| !matches!(work, Work::Circle));
        self.auth.know(None);
        let Watch { own, followed, .. } = *watch;
        for watched in [own, followed].into_iter().flatten() {
            self.forget(watched.generation);
        }
    }
}

/// Waits until a subscription holds, if one was made.
async fn acknowledged(
    subscribed: Option<impl Future<Output = Result<Position, MailboxError>>>,
) -> Result<(), StoreError> {
    match subscribed {
        // The router is gone, and with it this worker.
        Some(subscribed) => subscribed.await.map(|_| ()).map_err(|_| StoreError::Closed),
        None => Ok(()),
    }
}

/// How these are heard, if all of them are. A node alone misses nothing.
fn hear(listener: Option<&Listener>, authors: impl Iterator<Item = PublicKey>) -> Option<Heard> {
    let Some(listener) = listener else { return Some(Heard::default()) };
    Heard::of(&listener(&authors.collect::<Vec<_>>()))
}

//! A session: the actor of one WebSocket connection.
//!
//! It parses each message once and answers it, owns the connection's subscriptions, and writes to
//! its outbox. It never blocks, and it never waits for another actor while it holds up its client.

mod auth;
mod circle;
mod connections;
mod count;
mod frames;
mod guard;
mod negentropy;
mod outbox;
mod publish;
mod query;
mod rate;
mod socket;
mod subscribe;
mod subscription;
mod watch;
mod window;

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, AsyncContext, Handler};
use tracing::debug;
use url::Url;

use self::{
    auth::Auth,
    negentropy::Reconciliation,
    query::{Number, Work},
    socket::{Reassembly, SocketContext as Context},
    subscription::Subscription,
    watch::Watch,
};
pub use self::{
    connections::{Connections, Permit, Refusal},
    negentropy::Room,
    outbox::Outbox,
    rate::Rates,
    socket::{PIECE, upgrade},
    window::Window,
};
use crate::{
    account::{Accounts, SignedIn},
    clock::Moment,
    config::{Limits, Live},
    ingest::Admission,
    persist::{Publisher, Queue, Share, Workers},
    protocol::{ClientMessage, Malformed, Reason, RelayMessage, addressee::Addressee},
    route::{ClientLink, Generation, Join, Leave, Push, RouterAddr, SessionId},
    store::{
        Store,
        circle::{FollowLists, Reciprocity},
        tap::Listener,
    },
    telemetry::{CloseReason, Label, Metrics, Stage, Verb},
    token_bucket::TokenBucket,
    trace::{self, Subject, Trace, Tracer},
};

/// What all sessions of a node share.
pub struct SessionParts {
    /// What is in force, some of which may change.
    pub live: Arc<Live>,
    /// How many connections the system has descriptors for.
    pub max_sockets: usize,
    /// For how long events of other nodes may come late.
    pub late: Duration,
    pub url: Option<Url>,
    pub store: Arc<dyn Store>,
    pub admission: Arc<Admission>,
    pub queue: Arc<Queue>,
    pub workers: Workers,
    pub rates: Rates,
    pub reconciliations: Room,
    pub reciprocity: Arc<dyn Reciprocity>,
    /// How the bus hears authors; a node alone has none.
    pub listener: Option<Listener>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    /// Whose keys this relay keeps; `None`: nobody's.
    pub accounts: Option<Accounts>,
}

impl SessionParts {
    fn follow_lists(&self) -> FollowLists<'_> {
        FollowLists { store: &*self.store, reciprocity: &*self.reciprocity }
    }

    /// What any node accepted before this moment does not come live any more.
    fn late_since(&self) -> Moment {
        Moment::now() - self.late
    }
}

/// The socket that a session serves.
pub struct Socket {
    pub id: SessionId,
    pub address: IpAddr,
    /// Whether a trusted proxy told the address: then it is one client's.
    pub told: bool,
    /// The Host header of the request, if it names the very socket that the client reached.
    pub own_host: Option<String>,
    pub link: Arc<ClientLink>,
    pub outbox: Outbox,
    pub window: Window,
    pub permit: Permit,
    pub trace: trace::ConnectionTrace,
    /// Whoever showed a token when the connection was made.
    pub signed_in: Option<SignedIn>,
}

/// One connection.
pub struct Session {
    id: SessionId,
    shared: Arc<SessionParts>,
    router: RouterAddr,
    address: IpAddr,
    link: Arc<ClientLink>,
    outbox: Outbox,
    window: Window,
    incoming: Reassembly,
    /// Where the persister answers the events of this connection; `None` before the first one.
    publisher: Option<Publisher>,
    /// How much of what waits for the store is from this connection.
    share: Arc<Share>,
    auth: Auth,
    rate: Option<TokenBucket>,
    subscriptions: Vec<Subscription>,
    last_generation: Generation,
    reconciliations: Vec<Reconciliation>,
    last_reconciliation: Number,
    /// Whose doings the client may see, where a subscription wants to know.
    watch: Option<Box<Watch>>,
    /// Pages and counts to be read, in turn: one at a time.
    work: VecDeque<Work>,
    reading: bool,
    heard: Instant,
    leaving: bool,
    closed: CloseReason,
    trace: trace::ConnectionTrace,
    /// Whoever showed a token, until the session begins.
    signed_in: Option<SignedIn>,
    _permit: Permit,
}

impl Session {
    pub fn new(shared: Arc<SessionParts>, router: RouterAddr, socket: Socket, incoming: Reassembly) -> Self {
        let Socket { id, address, told, own_host, link, outbox, window, permit, trace, signed_in } = socket;
        let share = shared.queue.share(told.then_some(address));
        Self {
            id,
            rate: Rates::connection(address, &shared.live.load().rate),
            shared,
            router,
            address,
            link,
            outbox,
            window,
            incoming,
            publisher: None,
            share,
            auth: Auth::new(own_host, signed_in.as_ref().map(|who| who.account)),
            subscriptions: Vec::new(),
            last_generation: 0,
            reconciliations: Vec::new(),
            last_reconciliation: 0,
            watch: None,
            work: VecDeque::new(),
            reading: false,
            heard: Instant::now(),
            leaving: false,
            closed: CloseReason::Client,
            trace,
            signed_in,
            _permit: permit,
        }
    }

    /// Something came from the client, whatever it was.
    pub fn hear(&mut self) {
        self.heard = Instant::now();
    }

    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub fn incoming(&mut self) -> &mut Reassembly {
        &mut self.incoming
    }

    /// Acts on a text message.
    pub fn receive(&mut self, text: &str, ctx: &mut Context) {
        let begun = Instant::now();
        let message = ClientMessage::parse(text);
        let metrics = &self.shared.metrics;
        metrics.stages.of(Stage::Parse).observe(begun.elapsed().as_secs_f64());
        let verb = match &message {
            Ok(ClientMessage::Event(_)) => Verb::Event,
            Ok(ClientMessage::Auth(_)) => Verb::Auth,
            Ok(ClientMessage::Req { .. }) => Verb::Req,
            Ok(ClientMessage::Count { .. }) => Verb::Count,
            Ok(ClientMessage::Close { .. }) => Verb::Close,
            Ok(
                ClientMessage::NegOpen { .. } | ClientMessage::NegMsg { .. } | ClientMessage::NegClose { .. },
            ) => Verb::Negentropy,
            Err(_) => Verb::Malformed,
        };
        metrics.messages.of(verb).inc();
        // Once, so that the whole of a message is judged alike.
        let settings = self.shared.live.load();
        let limits = &settings.limits;
        let allowed = self.shared.rates.allow(&mut self.rate, self.address, &settings.rate);
        match message {
            Ok(message) if self.leaving => {
                self.turn_away(&message, Reason::error("the relay is shutting down"));
            }
            Ok(message) if !allowed => self.turn_away(&message, Reason::rate_limited("slow down")),
            Ok(ClientMessage::Event(event)) => {
                let subject = Subject::Event { id: event.id, kind: event.kind, bytes: text.len() };
                let trace = self.trace(begun, subject);
                self.publish(event, text.len(), limits, trace, ctx);
            }
            Ok(ClientMessage::Auth(event)) => self.authenticate(event, limits, ctx),
            Ok(ClientMessage::Req { id, filters }) => {
                let subject = Subject::Req { filters: filters.len(), bytes: text.len() };
                let trace = self.trace(begun, subject);
                self.subscribe(&id, filters, text.len(), limits, trace, ctx);
            }
            Ok(ClientMessage::Count { id, filters }) => self.count(&id, filters, text.len(), limits, ctx),
            Ok(ClientMessage::Close { id }) => self.unsubscribe(&id),
            Ok(ClientMessage::NegOpen { id, filter, message }) => {
                self.open_reconciliation(&id, filter, message, &settings, ctx);
            }
            Ok(ClientMessage::NegMsg { id, message }) => self.go_on_reconciling(&id, message, ctx),
            Ok(ClientMessage::NegClose { id }) => self.end_reconciliation(&id),
            Err(malformed) => self.refuse_malformed(malformed),
        }
    }

    /// Answers a message that was not kept, as it is longer than messages may be.
    pub fn refuse_too_long(&mut self, addressee: Addressee) {
        self.shared.metrics.messages.of(Verb::Malformed).inc();
        let settings = self.shared.live.load();
        let reason = match self.shared.rates.allow(&mut self.rate, self.address, &settings.rate) {
            true => {
                let most = self.incoming.max_message_bytes();
                Reason::invalid(format!("the message is too large: it has more than {most} bytes"))
            }
            false => Reason::rate_limited("slow down"),
        };
        self.refuse_malformed(addressee.answer(reason));
    }

    /// Answers a message that could not be read, to whom it is about.
    fn refuse_malformed(&mut self, malformed: Malformed) {
        match malformed {
            Malformed::Event(id, reason) => {
                self.outbox.text(&RelayMessage::Ok { id: &id, result: Err(reason) }.to_string());
            }
            Malformed::Subscription(id, reason) => self.close_subscription(&id, &reason),
            Malformed::Count(id, reason) => self.refuse_count(&id, &reason),
            Malformed::Negentropy(id, reason) => self.refuse_reconciliation(&id, &reason),
            Malformed::Unknown(reason) => self.notice(&reason),
        }
    }

    /// What is noted of a message on its way.
    fn trace(&self, begun: Instant, subject: Subject) -> Trace {
        let client = trace::Client { session: self.id, address: self.address };
        self.shared.tracer.message(begun, &self.trace, client, subject)
    }

    /// Tells the client something that belongs to no event and no subscription.
    pub fn notice(&self, reason: &Reason) {
        self.outbox.text(&RelayMessage::Notice(&reason.to_string()).to_string());
    }

    /// Ends the connection with a WebSocket status code (RFC 6455).
    pub fn close(&mut self, code: u16, text: &str, reason: CloseReason, ctx: &mut Context) {
        self.closed = reason;
        self.outbox.close(code, text);
        ctx.stop();
    }

    /// Answers the close frame of the client, after which it has nothing more to say.
    pub fn say_goodbye(&mut self, code: u16, ctx: &mut Context) {
        self.close(code, "", CloseReason::Client, ctx);
        self.link.stop_reading();
    }

    /// Answers a message that is not acted upon.
    fn turn_away(&mut self, message: &ClientMessage<'_>, reason: Reason) {
        match message {
            ClientMessage::Event(event) | ClientMessage::Auth(event) => self.refuse_event(&event.id, reason),
            ClientMessage::Req { id, .. } => self.close_subscription(id, &reason),
            ClientMessage::Count { id, .. } => self.refuse_count(id, &reason),
            // Costs nothing and makes room.
            ClientMessage::Close { id } => self.unsubscribe(id),
            ClientMessage::NegClose { id } => self.end_reconciliation(id),
            ClientMessage::NegOpen { id, .. } | ClientMessage::NegMsg { id, .. } => {
                self.refuse_reconciliation(id, &reason);
            }
        }
    }

    /// Whether the client may do anything but authenticate.
    fn may_use(&self, limits: &Limits) -> Result<(), Reason> {
        match limits.auth_required && self.auth.keys().is_empty() {
            true => Err(Reason::auth_required("this relay serves those who have authenticated")),
            false => Ok(()),
        }
    }

    /// Closes a session that was asked to go, once all its events are answered.
    fn finish_if_done(&mut self, ctx: &mut Context) {
        if self.leaving && self.window.is_empty() {
            const GOING_AWAY: u16 = 1001;
            self.close(GOING_AWAY, "the relay is shutting down", CloseReason::Shutdown, ctx);
        }
    }

    fn tick(&mut self, ctx: &mut Context) {
        const GOING_AWAY: u16 = 1001;
        if self.heard.elapsed() >= Duration::from_secs(self.shared.live.load().session.idle_seconds) {
            self.close(GOING_AWAY, "silent for too long", CloseReason::Idle, ctx);
        } else {
            self.outbox.ping();
            self.forget_recent(None);
            self.end_idle_reconciliations();
        }
    }
}

impl Actor for Session {
    type Context = Context;

    fn started(&mut self, ctx: &mut Context) {
        let config = &self.shared.live.load().session;
        ctx.set_mailbox_capacity(config.mailbox);
        ctx.run_interval(Duration::from_secs(config.ping_seconds), Self::tick);
        let join = Join { id: self.id, session: ctx.address().recipient(), link: Arc::clone(&self.link) };
        #[expect(clippy::disallowed_methods, reason = "one a connection, and connections are bounded")]
        self.router.do_send(join);
        self.outbox.text(&self.auth.message());
        if let Some(signed_in) = self.signed_in.take() {
            self.keep_signed_in(&signed_in, ctx);
        }
        self.shared.metrics.connections.inc();
        self.shared.metrics.opened.inc();
        self.trace.connected(self.id);
        debug!(session = self.id, address = %self.address, "connected");
    }

    fn stopped(&mut self, _: &mut Context) {
        let begun = Instant::now();
        self.end_all_reconciliations();
        self.link.close();
        #[expect(clippy::disallowed_methods, reason = "one a connection, and connections are bounded")]
        self.router.do_send(Leave(self.id));
        self.shared.metrics.connections.dec();
        self.shared.metrics.closed.of(self.closed).inc();
        self.trace.cleaned_up(self.id, begun, self.closed.name());
        debug!(session = self.id, reason = ?self.closed, "closed");
    }
}

impl Handler<Push> for Session {
    type Result = ();

    fn handle(&mut self, push: Push, ctx: &mut Context) {
        match push {
            Push::Deliver(delivery) => self.deliver(delivery, ctx),
            Push::Missed => self.end_subscriptions(),
            Push::GoAway { after } => {
                ctx.run_later(after, |this, ctx| {
                    this.leaving = true;
                    this.finish_if_done(ctx);
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;

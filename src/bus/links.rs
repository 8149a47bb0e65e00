//! The links, one after the other, and what they are subscribed to.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::anyhow;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{info, warn};

use super::{
    ChannelRequest,
    channel::Channel,
    publish::BatchSender,
    receive,
    state::BusState,
    transport::{Incoming, Link},
    up::Up,
};
use crate::{backoff::Backoff, clock::Moment, telemetry::measure_lag, told::told};

/// Keeps a link up, one after the other, until the bus is dropped.
pub(super) async fn run(
    shared: Arc<BusState>,
    mut subscriptions: mpsc::Receiver<ChannelRequest>,
    mut sender: BatchSender,
) {
    actix::spawn(measure_lag(shared.parts.metrics.lag_of("bus")));
    let config = &shared.config;
    let longest = Duration::from_millis(config.max_backoff_ms);
    let mut backoff = Backoff::new(Duration::from_millis(config.min_backoff_ms), longest);
    loop {
        let (incoming, received) = mpsc::channel(shared.config.receive_queue);
        match establish(&shared, incoming).await {
            Ok(up) => {
                let paths = up.link.paths();
                info!(paths, "connected to {}", shared.transport.name());
                shared.origins().link_up(paths, Moment::now());
                shared.in_doubt.notify_one();
                // Nobody told this node meanwhile.
                (shared.parts.records)(None);
                let ended = tokio::select! {
                    ended = sender.run(&shared, &up) => ended,
                    ended = keep_subscribed(&shared, &*up.link, &mut subscriptions) => ended,
                    ended = receive::run(&shared, &up, received) => ended,
                    () = shared.suspicion.notified() => Err(anyhow!("a node that lives is not heard")),
                };
                shared.parts.metrics.bus_connected.set(0);
                // One that only begins is no better than none: it takes the connection and nothing else.
                if shared.carries.swap(false, Ordering::AcqRel) {
                    backoff.succeed();
                }
                shared.origins().link_down();
                match ended {
                    Ok(()) => return,
                    Err(error) => {
                        let name = shared.transport.name();
                        shared.doubt(&format!("the connection to {name} is lost: {}", told(&error)));
                    }
                }
            }
            Err(error) if backoff.attempts() == 0 => {
                warn!("there is no link to {}: {}", shared.transport.name(), told(&error));
            }
            Err(_) => {}
        }
        shared.interest().lose();
        sleep(backoff.fail()).await;
    }
}

/// Connects, and subscribes to all that is wanted.
async fn establish(shared: &Arc<BusState>, incoming: mpsc::Sender<Incoming>) -> anyhow::Result<Up> {
    let up = Up::new(shared.transport.connect(incoming).await?);
    let missing = shared.interest().missing();
    subscribe(shared, &*up.link, &missing).await?;
    Ok(up)
}

async fn subscribe(shared: &BusState, link: &dyn Link, channels: &[Channel]) -> anyhow::Result<()> {
    link.subscribe(channels).await?;
    shared.interest().acknowledge(channels);
    Ok(())
}

/// Subscribes to what comes to be wanted, and unsubscribes from what nobody has wanted for a while.
/// Ends with `Ok` when the bus is dropped.
async fn keep_subscribed(
    shared: &BusState,
    link: &dyn Link,
    subscriptions: &mut mpsc::Receiver<ChannelRequest>,
) -> anyhow::Result<()> {
    /// Subscriptions that are sent to Redis together.
    const GATHERED: usize = 1_024;
    let mut ticks = interval(Duration::from_millis((shared.config.linger_ms / 4).max(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gathered = Vec::new();
    loop {
        tokio::select! {
            count = subscriptions.recv_many(&mut gathered, GATHERED) => {
                if count == 0 {
                    return Ok(());
                }
                let mut channels = Vec::new();
                let waiting: Vec<_> = gathered
                    .drain(..)
                    .map(|ChannelRequest { channels: wanted, done }| {
                        channels.extend(wanted);
                        done
                    })
                    .collect();
                subscribe(shared, link, &channels).await?;
                for done in waiting {
                    // Who waited may have given up.
                    let _ = done.send(());
                }
            }
            _ = ticks.tick() => {
                let given_up = shared.interest().given_up();
                if !given_up.is_empty() {
                    subscribe(shared, link, &given_up).await?;
                    shared.in_doubt.notify_one();
                }
                let left = shared.interest().take_left(Moment::now());
                if !left.is_empty() {
                    link.unsubscribe(&left).await?;
                    shared.parts.metrics.bus_channels.set(shared.interest().len() as i64);
                }
            }
        }
    }
}

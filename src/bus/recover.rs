//! Makes good what the bus may have lost, from the log of the store: while there is no link, once a second;
//! after that, and whenever something is in doubt, until everything is known to have arrived.
//!
//! Without a log nothing can be made good, and the clients are told.

use std::{collections::HashSet, sync::Arc};

use futures_util::{TryStreamExt, stream};
use tracing::{info, warn};

use super::{
    origins::{Begun, Due},
    state::BusState,
};
use crate::{
    clock::Moment,
    protocol::EventId,
    store::log::{Log, Logged},
    told::told,
    trace::Traced,
};

/// Logs that are read at once.
const TOGETHER: usize = 8;

/// Runs for as long as the bus.
pub(super) async fn run(shared: Arc<BusState>) {
    let mut ticks = shared.watermark_interval();
    let mut failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.in_doubt.notified() => {}
        }
        let silent = {
            let (mut origins, now) = (shared.origins(), Moment::now());
            origins.forget(now);
            origins.notice_silence(now)
        };
        if silent > 0 {
            shared.parts.metrics.bus_gaps.inc_by(silent as u64);
            warn!(silent, "other nodes have fallen silent");
        }
        let Some(log) = &shared.parts.log else {
            without_log(&shared).await;
            continue;
        };
        match pass(&shared, &**log).await {
            Ok(()) if failing => {
                failing = false;
                info!("the log of the store is read again");
            }
            Ok(()) => {}
            Err(error) if failing => drop(error),
            Err(error) => {
                failing = true;
                warn!("what other nodes wrote can not be read: {}", told(&error));
            }
        }
        if shared.origins().is_beyond_help(Moment::now()) {
            shared.tell_of_gap("for longer than the log of the store goes back").await;
        }
        if shared.origins().suspects_the_link(Moment::now()) {
            shared.suspicion.notify_one();
        }
    }
}

/// Tells the other nodes that this one lives, so that they look into its log when they do not hear it.
pub(super) async fn send_heartbeats(shared: Arc<BusState>, log: Arc<dyn Log>) {
    let mut ticks = shared.watermark_interval();
    loop {
        ticks.tick().await;
        // One that fails does no harm: the next one says as much.
        let _ = log.send_heartbeat().await;
    }
}

async fn without_log(shared: &BusState) {
    let (linked, in_doubt) = {
        let origins = shared.origins();
        (origins.is_linked(), origins.is_in_doubt())
    };
    // Clients that are told subscribe again, and should find a link then.
    if linked && in_doubt && !shared.interest().was_given_up() {
        shared.origins().forgive(Moment::now());
        shared.tell_of_gap("and the store has no log of what other nodes wrote").await;
    }
}

/// Reads what is due of all logs.
async fn pass(shared: &BusState, log: &dyn Log) -> anyhow::Result<()> {
    let settled = !shared.interest().was_given_up();
    let asked = Moment::now();
    let begun = shared.origins().begin(settled, asked);
    let heartbeats = log.heartbeats().await?;
    let due = {
        let mut origins = shared.origins();
        origins.list(&heartbeats, asked, Moment::now());
        origins.due()
    };
    let reads = stream::iter(due.into_iter().map(Ok))
        .try_for_each_concurrent(TOGETHER, |due| read(shared, log, due, begun));
    reads.await
}

/// Routes what is wanted of a log, up to its end.
async fn read(shared: &BusState, log: &dyn Log, due: Due, begun: Begun) -> anyhow::Result<()> {
    let mut end = due.after;
    loop {
        let batches = log.read(due.origin, end, due.up_to).await?;
        let Some(last) = batches.last() else { break };
        end = last.sequence;
        // What is wanted is asked for after the read: so a subscription that began before the commit is counted.
        let wanted = wanted(shared, &batches);
        let recovered = shared.route(shared.fetch(wanted).await?, Traced::default()).await;
        shared.parts.metrics.bus_recovered.inc_by(recovered as u64);
    }
    shared.origins().read(due.origin, end, begun, Moment::now());
    Ok(())
}

/// The events that somebody may want and that have not been routed yet.
fn wanted(shared: &BusState, batches: &[Logged]) -> Vec<EventId> {
    let unseen = batches
        .iter()
        .flat_map(|batch| &batch.entries)
        .filter(|entry| !shared.parts.seen.contains(&entry.id));
    let mut unseen = unseen.peekable();
    if unseen.peek().is_none() {
        return Vec::new();
    }
    let digests: HashSet<u64> = shared.interest().digests();
    unseen
        .filter(|entry| match &entry.digests {
            Some(carried) => carried.iter().any(|digest| digests.contains(digest)),
            None => !digests.is_empty(),
        })
        .map(|entry| entry.id)
        .collect()
}

//! What comes live while stored events are read.

use super::*;
use common::proxy::Flow;

/// A client that asks for what is stored of this author and what comes, and has no answer yet.
async fn ask(node: &Node, keys: &Keys) -> Client {
    let mut client = node.relay.connect().await;
    client.say(json!(["REQ", "s", { "authors": [keys.public_key()], "kinds": [1] }])).await;
    client
}

/// A client asks at B, which is held up; A stores an event, it comes to the session by the bus or by the log, and
/// B goes on.
async fn comes_meanwhile(a: &Node, b: &Node, keys: &Keys, page: Hold) -> (Client, Event) {
    let client = ask(b, keys).await;
    page.caught().await;
    let event = race(keys, 1, "");
    a.store(&event).await;
    eventually("the event", || b.relay.metric("rookery_deliveries_total") == 1.0).await;
    page.release();
    (client, event)
}

/// ```text
/// A                         stores it
/// B  REQ: subscribed, asks ‖          it comes ‖ the store is read: it is there · EOSE
/// ```
/// Held back, or it would stand before the stored ones; and not sent again behind them.
#[tokio::test(flavor = "multi_thread")]
async fn it_comes_before_it_is_read() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    let page = b.hold(PAGE);
    let (mut client, event) = comes_meanwhile(&a, &b, &keys, page).await;
    assert_eq!(client.hear_stored("s").await.0, ids(&[&event]));
    all_have_heard_it_all(&mut [client], &keys, &a).await;
}

/// ```text
/// A                                stores it
/// B  REQ: subscribed, reads nothing ‖       it comes ‖ EOSE · it is sent
/// ```
/// Who subscribed only after the store had been read would miss it.
#[tokio::test(flavor = "multi_thread")]
async fn it_comes_after_it_was_not_there() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    let page = b.hold_answers(PAGE);
    let (mut client, event) = comes_meanwhile(&a, &b, &keys, page).await;
    assert_eq!(client.hear_stored("s").await.0, [""; 0]);
    all_hear(std::slice::from_mut(&mut client), &event).await;
    all_have_heard_it_all(&mut [client], &keys, &a).await;
}

/// ```text
/// A        stores it · publishes ‖                 it goes through
/// B                                REQ: stored · EOSE            it comes
/// ```
/// The bus may be later than a whole REQ: what was sent as stored has to be remembered beyond EOSE.
#[tokio::test(flavor = "multi_thread")]
async fn it_comes_after_it_was_sent_as_stored() {
    let (_ground, [a, b]) = nodes::<2>(&["bus.timeout_ms=30000", "bus.missing_watermarks=300"]).await;
    let keys = Keys::generate();
    let mut waiting = b.follow(&keys).await;
    a.bus.set(Flow::HoldsRequests);
    let event = race(&keys, 1, "");
    a.store(&event).await;
    let mut client = ask(&b, &keys).await;
    assert_eq!(client.hear_stored("s").await.0, ids(&[&event]));
    a.bus.set(Flow::Open);
    hears(&mut waiting, &event).await;
    all_have_heard_it_all(&mut [client, waiting], &keys, &a).await;
}

/// ```text
/// A                                        stores it
/// B  no bus · REQ: stored · EOSE                       reads the log of A · it is sent      bus
/// C  with the bus · REQ: EOSE                          it comes
/// ```
/// A REQ waits for no bus, and what its node finds in the log is not heard again when the bus is back.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_bus_is_away() {
    let (_ground, nodes) = nodes::<3>(&[]).await;
    let [a, b, c] = &nodes;
    let keys = Keys::generate();
    let stored = race(&keys, 1, "stored");
    a.store(&stored).await;
    b.bus.set(Flow::Cut);
    eventually("the end of the link", || b.relay.metric("rookery_bus_connected") == 0.0).await;
    let mut clients = [ask(b, &keys).await, ask(c, &keys).await];
    for client in &mut clients {
        assert_eq!(client.hear_stored("s").await.0, ids(&[&stored]));
    }
    let event = race(&keys, 1, "without the bus");
    a.store(&event).await;
    all_hear(&mut clients, &event).await;
    assert!(b.relay.metric("rookery_bus_events_recovered_total") >= 1.0);
    b.bus.set(Flow::Open);
    eventually("the bus", || b.relay.metric("rookery_bus_connected") == 1.0).await;
    all_have_heard_it_all(&mut clients, &keys, a).await;
}

/// ```text
/// A                             stores it
/// B  no bus · REQ: asks ‖                 finds it in the log of A ‖ the store is read: it is there · EOSE
/// ```
/// What is replayed meets what is stored as what comes live does.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_replayed_before_it_is_read() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    b.bus.set(Flow::Cut);
    eventually("the end of the link", || b.relay.metric("rookery_bus_connected") == 0.0).await;
    let page = b.hold(PAGE);
    let (mut client, event) = comes_meanwhile(&a, &b, &keys, page).await;
    assert_eq!(client.hear_stored("s").await.0, ids(&[&event]));
    all_have_heard_it_all(&mut [client], &keys, &a).await;
}

/// ```text
/// A  many large questions: some read ‖, some wait, and are refused when they have for long
///                                        another client publishes · true, asks for little · is answered
/// ```
/// Too much asked at once is in the way of nobody else, and has words of its own.
#[tokio::test(flavor = "multi_thread")]
async fn large_questions_are_in_the_way_of_each_other_alone() {
    const CLIENTS: usize = 40;
    let (_ground, [a]) = nodes::<1>(&["scylla.question_statements=64", "scylla.question_wait_ms=100"]).await;
    let keys = Keys::generate();
    let event = race(&keys, 1, "");
    a.store(&event).await;
    let page = a.hold("SELECT created_at, id, event, accepted_at, written_by FROM by_kind");
    let filters: Vec<Value> = (1_000..1_020).map(|kind| json!({ "kinds": [kind] })).collect();
    let question = [vec![json!("REQ"), json!("s")], filters].concat();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = a.relay.connect().await;
        client.say(json!(question)).await;
        clients.push(client);
    }
    page.caught().await;
    eventually("the others to be refused", || {
        a.relay.metric(r#"rookery_queue_full_total{queue="query"}"#) == CLIENTS as f64 - 2.0
    })
    .await;
    a.store(&race(&keys, 1, "beside them")).await;
    assert_eq!(a.find(json!({ "ids": [event.id()] })).await, ids(&[&event]));
    assert_eq!(a.find(json!({ "authors": [keys.public_key()], "kinds": [1] })).await.len(), 2);
    page.release();
    let mut answered = 0;
    for client in &mut clients {
        match client.hear().await {
            answer if answer[0] == "EOSE" => answered += 1,
            answer => assert_eq!(answer, json!(["CLOSED", "s", "error: overloaded, try again later"])),
        }
    }
    assert_eq!(answered, 2);
}

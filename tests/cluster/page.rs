//! The page in real browsers whose sockets are at several nodes, behind HAProxy and on the cluster store.

use std::{net::TcpStream, time::Duration};

use common::{
    Relay, eventually,
    haproxy::{Haproxy, free, place},
    page,
    redis::Redis,
    watch,
};
use serde_json::json;

use crate::stored::Keyspace;

const SETTINGS: [&str; 6] = [
    "--set",
    "accounts.open=everybody",
    "--set",
    "accounts.address_sign_ups=1000",
    "--trusted-proxy",
    "127.0.0.1/32",
];

/// `is_long`: ten minutes of reading, and times are held against what was promised.
async fn two_people(is_long: bool) {
    // It has a minute or ten to wait, and three browsers' work.
    watch::allow(Duration::from_secs(if is_long { 1_800 } else { 600 }));
    let (redis, keyspace) = (Redis::start(), Keyspace::make());
    let address = free();
    let url = format!("ws://{address}");
    let settings = [&SETTINGS[..], &["--url", &url]].concat();
    let nodes: [Relay; 3] = [(); 3].map(|()| keyspace.node_with(&redis.url(), &settings));
    for node in &nodes {
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
    }
    let _haproxy = Haproxy::start(address, &nodes.each_ref().map(place), None);
    eventually("the balancer", || TcpStream::connect(address).is_ok()).await;
    eventually("a relay behind the balancer", || Relay::get(address, "/", "").0 == 200).await;
    let told =
        nodes.each_ref().map(|node| json!({ "operators": node.operators, "process": node.process.id() }));
    let variables = [
        ("RELAY_HOST", address.to_string()),
        ("NODES", json!(told).to_string()),
        ("LONG", u8::from(is_long).to_string()),
    ];
    tokio::task::spawn_blocking(move || page::run("tests/cluster.test.mjs", &variables)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_at_two_nodes_miss_nothing_whatever_becomes_of_them() {
    two_people(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes of reading"]
async fn two_people_at_two_nodes_in_time_and_for_ten_minutes() {
    two_people(true).await;
}

//! HAProxy in front of nodes that are made anew, and that die.

use rookery::protocol::sign::Keys;

use crate::deployment::{file, machine, node, node_like, publish, serves};
use common::{
    Relay,
    dns::Names,
    haproxy::{Haproxy, command, free, place},
};

/// The configurations.
const FILES: [&str; 2] = ["cluster/haproxy.cfg", "cluster/haproxy-tcp.cfg"];

#[test]
fn it_accepts_its_configurations() {
    let nodes = [1, 2, 3].map(|node| (format!("127.0.0.1:{}", 7777 + node), 9777 + node));
    for name in FILES {
        let checked = command(&file(name), free(), &nodes).arg("-c").output();
        let checked = checked.expect("haproxy is needed: cluster/test.sh installs it");
        assert!(checked.status.success(), "{name}: {checked:?}");
    }
}

/// A node that is stopped has no name, and one that is made anew has another address.
#[tokio::test]
async fn it_starts_without_a_node_and_learns_the_address_of_a_new_one() {
    let (first, second) = (node(machine(1)), node(machine(2)));
    let names = Names::start();
    names.set("node-1.test", &[machine(1)]);
    let named = |nth: usize, node: &Relay| {
        (format!("node-{nth}.test:{}", node.clients.port()), node.operators.port())
    };
    let nodes = [named(1, &first), named(2, &second), ("node-3.test:7777".to_owned(), 9777)];
    let haproxy = Haproxy::start(free(), &nodes, Some(names.server));
    let keys = Keys::generate();
    serves(haproxy.address).await;
    publish(haproxy.address, &keys).await;
    // A name that was not known is learnt,
    names.set("node-1.test", &[]);
    names.set("node-2.test", &[machine(2)]);
    drop(first);
    serves(haproxy.address).await;
    publish(haproxy.address, &keys).await;
    assert_eq!(second.metric("rookery_connections_opened_total"), 1.0);
    // and so is another address.
    let third = node_like(&second, machine(3));
    names.set("node-2.test", &[machine(3)]);
    drop(second);
    serves(haproxy.address).await;
    publish(haproxy.address, &keys).await;
    assert_eq!(third.metric("rookery_connections_opened_total"), 1.0);
}

/// `kill -9`: whoever connects afterwards notices nothing, also before a health check does.
#[tokio::test]
async fn no_new_client_notices_that_a_node_has_died() {
    let mut nodes = [1, 2, 3].map(|x| node(machine(x)));
    let haproxy = Haproxy::start(free(), &nodes.each_ref().map(place), None);
    serves(haproxy.address).await;
    let keys = Keys::generate();
    for nth in 0..200 {
        if nth == 20 {
            assert!(nodes.iter().all(|node| node.metric("rookery_connections_opened_total") > 0.0));
            nodes[0].process.kill().unwrap();
            nodes[0].process.wait().unwrap();
        }
        publish(haproxy.address, &keys).await;
    }
}

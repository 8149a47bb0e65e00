//! Who a connection is from: whoever the trusted proxies say, else the peer. And to whom it is.

use std::net::{IpAddr, SocketAddr};

use actix_web::http::header::{HeaderMap, X_FORWARDED_FOR};
use url::{Host, Url};

use crate::config::Network;

pub fn is_trusted(address: IpAddr, proxies: &[Network]) -> bool {
    proxies.iter().any(|network| network.contains(address))
}

/// Whose request it is: the peer's, or, if that is a proxy we trust, the last address in
/// X-Forwarded-For that is none.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    if !is_trusted(peer, proxies) {
        return peer;
    }
    let forwarded = headers.get_all(X_FORWARDED_FOR).filter_map(|value| value.to_str().ok());
    let entries: Vec<&str> = forwarded.flat_map(|value| value.split(',')).map(str::trim).collect();
    let parse = |entry: &&str| {
        let with_port = || Some(entry.parse::<SocketAddr>().ok()?.ip());
        entry.parse().ok().or_else(with_port)
    };
    // What no proxy of ours would write ends the search: left of it, the client may have written.
    let mut known = entries.iter().rev().map_while(parse);
    known.find(|address| !is_trusted(*address, proxies)).unwrap_or(peer)
}

/// Whether a Host header names the very socket that the connection arrived at. Names but `localhost`
/// do not: whoever passes a client's words on has one too.
pub fn names(host: &str, local: SocketAddr) -> bool {
    let Ok(url) = Url::parse(&format!("ws://{host}/")) else { return false };
    let arrived = local.ip().to_canonical();
    let is_same = |named: IpAddr| named == arrived || (named.is_loopback() && arrived.is_loopback());
    let address = match url.host() {
        Some(Host::Ipv4(named)) => is_same(named.into()),
        Some(Host::Ipv6(named)) => is_same(named.into()),
        Some(Host::Domain(name)) => name == "localhost" && arrived.is_loopback(),
        None => false,
    };
    address && url.port_or_known_default() == Some(local.port())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn forwarded_addresses_count_from_trusted_proxies_only() {
        let proxies: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
        let address = |peer: &str, forwarded: &[&'static str]| {
            let values = forwarded.iter().map(|value| (X_FORWARDED_FOR, HeaderValue::from_static(value)));
            client_address(peer.parse().unwrap(), &HeaderMap::from_iter(values), &proxies).to_string()
        };
        let forwarded = "198.51.100.1, 203.0.113.9, 10.0.0.2";
        for (peer, expected) in
            [("10.0.0.1", "203.0.113.9"), ("::ffff:10.0.0.1", "203.0.113.9"), ("192.0.2.1", "192.0.2.1")]
        {
            assert_eq!(address(peer, &[forwarded]), expected);
        }
        assert_eq!(address("10.0.0.1", &["198.51.100.1, 203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn a_host_is_the_socket_that_was_reached() {
        for (host, local, expected) in [
            ("127.0.0.1:7777", "127.0.0.1:7777", true),
            ("LOCALHOST:7777", "127.0.0.1:7777", true),
            ("localhost:7777", "[::1]:7777", true),
            ("[::1]:7777", "[::1]:7777", true),
            ("127.0.0.1", "127.0.0.1:80", true),
            ("192.0.2.7:7777", "192.0.2.7:7777", true),
            ("192.0.2.7:7777", "[::ffff:192.0.2.7]:7777", true),
            // Another program of the same machine.
            ("127.0.0.1:7778", "127.0.0.1:7777", false),
            ("127.0.0.1", "127.0.0.1:7777", false),
            // A relay on the victim's own machine, or in its network, that passes words on.
            ("localhost:7777", "192.0.2.7:7777", false),
            ("127.0.0.1:7777", "192.0.2.7:7777", false),
            ("10.0.0.1:7777", "192.0.2.7:7777", false),
            // Anybody.
            ("evil.example.com", "127.0.0.1:80", false),
            ("evil.example.com:7777", "192.0.2.7:7777", false),
            ("", "127.0.0.1:80", false),
            ("@:/", "127.0.0.1:80", false),
        ] {
            assert_eq!(names(host, local.parse().unwrap()), expected, "{host:?} at {local}");
        }
    }
}

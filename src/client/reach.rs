//! Which addresses a client may connect to: an address that others wrote may be one of the operator's own network.
//!
//! A name is resolved once, and the connection goes to the address that was looked at: a second look-up could find
//! another one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where an endpoint may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reach {
    /// Anywhere: whoever runs the program has named it.
    #[default]
    Anywhere,
    /// On the public Internet, and not at one of these addresses.
    Public { but: Vec<SocketAddr> },
}

impl Reach {
    /// The addresses that may be connected to.
    pub(super) fn allowed(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        match self {
            Self::Anywhere => addresses,
            Self::Public { but } => {
                let is_allowed = |address: &SocketAddr| is_public(address.ip()) && !but.contains(address);
                addresses.into_iter().filter(is_allowed).collect()
            }
        }
    }
}

/// Whether everybody can reach the address, and it is one host's: global unicast, of both families, also where an
/// IPv4 address stands in one of IPv6 (RFC 6890).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        // "This network", shared by carriers (RFC 6598), protocol assignments, 6to4 relays, benchmarks, reserved.
        || a == 0
        || (a == 100 && b & 0xc0 == 64)
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && b & 0xfe == 18)
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // Global unicast is 2000::/3; of it protocol assignments (2001::/23) and documentation are not.
    first & 0xe000 == 0x2000
        && !(first == 0x2001 && second < 0x0200)
        && !(first == 0x2001 && second == 0x0db8)
        && !(first == 0x3fff && second < 0x1000)
}

/// The IPv4 address that stands in one of IPv6: mapped, compatible, translated (NAT64), or 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(last(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high > 0 => Some(last(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(last(high, low)),
        [0x2002, high, low, ..] => Some(last(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_everybody_can_reach_is_public() {
        for address in
            ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
        {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["100.63.255.255", "100.128.0.1", "172.32.0.1", "198.20.0.1", "192.0.1.1"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_is_ours_is_left_out() {
        let all: Vec<SocketAddr> =
            ["1.1.1.1:443", "1.1.1.1:7777", "10.0.0.1:443"].map(|text| text.parse().unwrap()).into();
        let reach = Reach::Public { but: vec![all[1]] };
        assert_eq!(reach.allowed(all.clone()), [all[0]]);
        assert_eq!(Reach::Anywhere.allowed(all.clone()), all);
    }
}

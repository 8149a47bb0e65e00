//! Addresses of a setting: a network, one address, or one to listen on.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use anyhow::{Context, bail};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use toml::Value;

/// What to listen on: an address or a name with a port (of several addresses IPv4 first), or a port of loopback.
pub fn socket_address(value: &Value) -> anyhow::Result<Value> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(port) => port.to_string(),
        _ => bail!("write address:port, such as 127.0.0.1:7777"),
    };
    let port = text.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let address = match port.ok().or_else(|| text.parse().ok()) {
        Some(address) => address,
        None => {
            let found = text.to_socket_addrs().context("write address:port, such as 127.0.0.1:7777")?;
            found.min_by_key(SocketAddr::is_ipv6).context("the name has no address")?
        }
    };
    Ok(Value::String(address.to_string()))
}

/// The address that an operator has named: see `socket_address`.
///
/// # Errors
/// It is none.
pub fn address(text: &str) -> anyhow::Result<SocketAddr> {
    let Value::String(text) = socket_address(&text.into())? else { bail!("no address") };
    Ok(text.parse()?)
}

/// What counts as one address: of IPv6 the /64 network, which one customer has whole.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))
        }
        other => other,
    }
}

/// A network, such as 10.0.0.0/8; an address alone is the network of that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether the address is in the network; an IPv4 address may be written as IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse().or_else(|_| address());
        network.map(Self).map_err(|_| format!("{text:?} is no network such as 10.0.0.0/8, and no address"))
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl From<IpNet> for Network {
    fn from(network: IpNet) -> Self {
        Self(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_network_of_its_own() {
        let network = |text: &str| text.parse::<Network>();
        let has = |text: &str, address: &str| network(text).unwrap().contains(address.parse().unwrap());
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.1.2.3", "11.0.0.0"),
            ("10.0.0.5", "10.0.0.5", "10.0.0.6"),
            ("10.0.0.5", "::ffff:10.0.0.5", "::ffff:10.0.0.6"),
            ("2001:db8::/32", "2001:db8::1", "10.0.0.5"),
            ("::1", "::1", "::2"),
        ] {
            assert!(has(text, inside) && !has(text, outside), "{text}");
        }
        assert_eq!(network("10.0.0.5").unwrap().to_string(), "10.0.0.5/32");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        for text in ["", "10.0.0", "10.0.0.5/33", "10.0.0.5:80", "proxy.example.com"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}

//! How many connections there may be: of the node, and of one address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use crate::config::{Limits, network};

/// Counts the open connections.
#[derive(Default)]
pub struct Connections {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    /// The node shuts down.
    closed: bool,
    by_address: HashMap<IpAddr, usize>,
}

/// The right to be connected; given back when dropped.
pub struct Permit {
    connections: Arc<Connections>,
    address: IpAddr,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The node is full, or shuts down: 503.
    Node,
    /// The address has too many: 429.
    Address,
}

impl Connections {
    /// Takes a place for a connection of that address, if the limits of now have one. Loopback has no bound of its own.
    ///
    /// # Errors
    /// Says which bound is reached.
    pub fn take(self: &Arc<Self>, address: IpAddr, limits: &Limits) -> Result<Permit, Refusal> {
        let address = network(address);
        let mut open = self.open.lock();
        if open.closed || open.all >= limits.max_connections {
            return Err(Refusal::Node);
        }
        let of_address = open.by_address.entry(address).or_default();
        if *of_address >= limits.max_connections_per_address && !address.is_loopback() {
            return Err(Refusal::Address);
        }
        *of_address += 1;
        open.all += 1;
        Ok(Permit { connections: Arc::clone(self), address })
    }

    /// Refuses all further connections.
    pub fn close(&self) {
        self.open.lock().closed = true;
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.lock().all
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.all -= 1;
        if let Some(of_address) = open.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_places_come_back() {
        let connections = Arc::new(Connections::default());
        let limits = Limits { max_connections: 3, max_connections_per_address: 1, ..Limits::default() };
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = connections.take(address("203.0.113.1"), &limits).ok();
        assert_eq!(connections.take(address("::ffff:203.0.113.1"), &limits).err(), Some(Refusal::Address));
        let local = [(); 2].map(|()| connections.take(address("127.0.0.1"), &limits).ok());
        assert_eq!(connections.take(address("203.0.113.2"), &limits).err(), Some(Refusal::Node));
        drop((first, local));
        assert_eq!(connections.open(), 0);
        let first = connections.take(address("2001:db8::1"), &limits).ok();
        assert_eq!(connections.take(address("2001:db8::2"), &limits).err(), Some(Refusal::Address));
        assert!(first.is_some() && connections.take(address("2001:db8:0:1::1"), &limits).is_ok());
        drop(first);
        assert!(connections.take(address("203.0.113.1"), &limits).is_ok());
        connections.close();
        assert_eq!(connections.take(address("203.0.113.1"), &limits).err(), Some(Refusal::Node));
    }
}

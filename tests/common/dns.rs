//! A name server of a test, whose names change while it runs.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

type Addresses = Arc<Mutex<HashMap<String, Vec<Ipv4Addr>>>>;

/// Answers as long as the test runs.
pub struct Names {
    pub server: SocketAddr,
    addresses: Addresses,
}

impl Names {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (server, addresses) = (socket.local_addr().unwrap(), Addresses::default());
        let known = Arc::clone(&addresses);
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((len, client)) = socket.recv_from(&mut query) {
                if let Some(answer) = answer(&query[..len], &known) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Self { server, addresses }
    }

    /// From now on it is there; without addresses it does not exist.
    pub fn set(&self, name: &str, addresses: &[Ipv4Addr]) {
        self.addresses.lock().unwrap().insert(name.to_owned(), addresses.to_vec());
    }
}

/// One question, of which only those for IPv4 addresses have records for an answer (RFC 1035).
fn answer(query: &[u8], known: &Addresses) -> Option<Vec<u8>> {
    const HEAD: usize = 12;
    let (mut labels, mut at) = (Vec::new(), HEAD);
    loop {
        let len = usize::from(*query.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + len)?).to_lowercase());
        at += len;
    }
    let question = query.get(HEAD..at + 4)?;
    let of_ipv4 = query[at..at + 2] == [0, 1];
    let found = known.lock().unwrap().get(&labels.join(".")).cloned().unwrap_or_default();
    let records = if of_ipv4 { found.len() } else { 0 };
    let name_error = if found.is_empty() { 3 } else { 0 };
    let mut answer = query[..2].to_vec();
    answer.extend([0x85, 0x80 | name_error, 0, 1, 0, u8::try_from(records).unwrap(), 0, 0, 0, 0]);
    answer.extend(question);
    for address in &found[..records] {
        // The name of the question, A, IN, one second, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

//! A store that takes nothing for a while, on a machine of which everything else goes on.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
};

use crate::Relay;

/// Keeps the embedded store of a relay from taking anything until it is dropped: by the lock of LMDB that whoever writes
/// needs. What is stored can be read.
pub struct Standstill {
    end: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Standstill {
    pub fn begin(relay: &Relay) -> Self {
        let folder = relay.data.path().join("relay");
        let ((end, ended), (begin, begun)) = (mpsc::channel::<()>(), mpsc::channel());
        // A transaction is its thread's.
        let thread = thread::spawn(move || {
            #[expect(
                unsafe_code,
                reason = "LMDB maps the file: it is only locked here, and nothing is written"
            )]
            // SAFETY: as the program does, with the same locks; the only transaction is given up.
            let env = unsafe { heed::EnvOpenOptions::new().open(&folder) }.unwrap();
            let transaction = env.write_txn().unwrap();
            begin.send(()).unwrap();
            let _ = ended.recv();
            transaction.abort();
        });
        begun.recv().unwrap();
        Self { end, thread: Some(thread) }
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        let _ = self.end.send(());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

//! A link that is up, and what comes back on it.

use parking_lot::{Mutex, MutexGuard};

use super::{echoes::Echoes, transport::Link};
use crate::clock::Moment;

/// A link that is up.
pub(super) struct Up {
    pub link: Box<dyn Link>,
    /// This node's own watermarks on it.
    echoes: Mutex<Echoes>,
}

impl Up {
    pub fn new(link: Box<dyn Link>) -> Self {
        let echoes = Mutex::new(Echoes::new(link.paths(), Moment::now()));
        Self { link, echoes }
    }

    pub fn echoes(&self) -> MutexGuard<'_, Echoes> {
        self.echoes.lock()
    }
}

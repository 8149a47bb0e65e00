//! Where `query` and `export` read stored events from, page by page.
//!
//! One variant a kind of place; the commands above know none of them.

use super::{folder::FolderPages, holder::Holder};
use crate::{
    client::{Endpoint, Pages},
    protocol::{Event, Filter},
};

/// A place that holds events.
pub enum EventSource {
    Relay(Box<Pages>),
    Folder(FolderPages),
}

impl EventSource {
    /// A relay, of which so many events are asked for at first.
    pub fn relay(endpoint: Endpoint, filter: Filter, first: usize) -> Self {
        Self::Relay(Box::new(Pages::new(endpoint, filter, first)))
    }

    /// The same place, asked for something else.
    pub fn again(&self, filter: Filter) -> Self {
        match self {
            Self::Relay(pages) => Self::Relay(Box::new(pages.again(filter))),
            Self::Folder(pages) => Self::Folder(pages.again(filter)),
        }
    }

    /// Which relay or folder it is.
    pub async fn holder(&mut self) -> anyhow::Result<Holder> {
        match self {
            Self::Relay(pages) => {
                let store = pages.store().await?;
                Ok(Holder { name: pages.endpoint().url.clone(), store })
            }
            Self::Folder(pages) => Ok(pages.holder()),
        }
    }

    /// The next events, newest first, ties by lowest id; `None` after the last.
    pub async fn next_page(&mut self) -> anyhow::Result<Option<Vec<Event>>> {
        match self {
            Self::Relay(pages) => Ok(pages.next_page().await?),
            Self::Folder(pages) => pages.next_page().await,
        }
    }

    /// About how many events there are, where the source can tell without effort.
    pub async fn estimate(&mut self) -> Option<u64> {
        match self {
            Self::Relay(pages) => pages.estimate().await,
            Self::Folder(pages) => pages.estimate().await,
        }
    }

    /// How many events had to be left out: they have no valid shape, or nobody asked for them.
    pub fn unusable(&self) -> u64 {
        match self {
            Self::Relay(pages) => pages.unusable(),
            Self::Folder(_) => 0,
        }
    }

    pub async fn close(self) {
        match self {
            Self::Relay(pages) => pages.close().await,
            Self::Folder(_) => {}
        }
    }
}

//! The records of what operators say of upstreams. All nodes of a store have them.

use std::sync::Arc;

use super::upstream::{BadUrl, NoKey, Upstream, UpstreamId};
use crate::store::{
    Store, StoreError,
    records::{MAX_PAGE, Race, Record, RecordKind, RecordPages, Records, Unfit},
};

/// How often a change is made anew that another one overtook.
pub const TRIES: usize = 5;

/// Why nothing is done.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Url(#[from] BadUrl),
    #[error("{0}")]
    Unfit(String),
    #[error("there is no such upstream")]
    Unknown,
    #[error("it is an upstream already, and not as this says; change it instead")]
    Exists(UpstreamId),
    #[error("it is named by the configuration of this node (aggregator.upstreams): change it there")]
    Configured,
    #[error("{0}")]
    Key(#[from] NoKey),
    #[error("this node does not read it at the moment")]
    NotRead,
    #[error("it is paused")]
    Paused,
    #[error("they are not followed")]
    NotFollowed,
    #[error("it is read for people who are followed: pause it, or follow them no more")]
    ForFollowed,
    #[error("there is no such dead letter")]
    NoLetter,
    #[error("it was too long to be kept whole, and the upstream does not send it: {0}")]
    NotSent(String),
    #[error("too much waits for the store; try again later")]
    Full,
    #[error("others change it at the same time; try again")]
    Contended,
    #[error("the store has failed: {0}")]
    Store(#[from] StoreError),
    #[error("a record can not be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl From<Unfit> for Refused {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit.to_string())
    }
}

/// The records.
#[derive(Clone)]
pub struct Registry(Arc<dyn Store>);

impl Registry {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    pub fn store(&self) -> &dyn Store {
        &*self.0
    }

    /// All records of the store.
    pub fn records(&self) -> &dyn Records {
        self.0.records()
    }

    /// All upstreams that have a record. One that can not be read here was written by a newer node: it is left out.
    ///
    /// # Errors
    /// The store fails.
    pub async fn all(&self) -> Result<Vec<Upstream>, StoreError> {
        let mut all = Vec::new();
        let mut pages = RecordPages::of(self.0.records(), RecordKind::Upstream, "", MAX_PAGE);
        while let Some(page) = pages.next().await? {
            all.extend(page.iter().filter_map(|record| serde_json::from_slice(&record.value).ok()));
        }
        Ok(all)
    }

    /// One of them.
    ///
    /// # Errors
    /// The store fails, or the record can not be read.
    pub async fn get(&self, id: UpstreamId) -> Result<Option<Upstream>, Refused> {
        Ok(self.read(id).await?.map(|(_, upstream)| upstream))
    }

    /// Writes one, unless there is one: that then.
    ///
    /// # Errors
    /// The store fails, or it does not fit.
    pub async fn insert(&self, upstream: &Upstream) -> Result<Result<(), Upstream>, Refused> {
        match self.put(upstream, None).await? {
            Ok(()) => Ok(Ok(())),
            Err(Some(record)) => Ok(Err(serde_json::from_slice(&record.value)?)),
            Err(None) => Err(Refused::Contended),
        }
    }

    /// Changes one: what it is now.
    ///
    /// # Errors
    /// There is none, the change does not fit, or the store fails.
    pub async fn change(
        &self,
        id: UpstreamId,
        change: impl Fn(&mut Upstream) -> Result<(), Refused>,
    ) -> Result<Upstream, Refused> {
        for _ in 0..TRIES {
            let (record, before) = self.read(id).await?.ok_or(Refused::Unknown)?;
            let mut upstream = before.clone();
            change(&mut upstream)?;
            if upstream == before || self.put(&upstream, Some(&record)).await?.is_ok() {
                return Ok(upstream);
            }
        }
        Err(Refused::Contended)
    }

    /// Removes one, how far it was read, and what of it was refused.
    ///
    /// # Errors
    /// There is none, or the store fails.
    pub async fn remove(&self, id: UpstreamId) -> Result<(), Refused> {
        let is_gone = self.remove_record(RecordKind::Upstream, &id.to_string()).await?;
        if self.forget_what_was_read(id).await? || is_gone { Ok(()) } else { Err(Refused::Unknown) }
    }

    /// Removes one where it is so now, as [`Self::remove`] does; whether it was.
    ///
    /// # Errors
    /// The store fails.
    pub async fn remove_where(
        &self,
        id: UpstreamId,
        is_so: impl Fn(&Upstream) -> bool,
    ) -> Result<bool, Refused> {
        let is_so = |record: &Record| Ok(is_so(&serde_json::from_slice(&record.value)?));
        let is_gone = self.remove_record_where(RecordKind::Upstream, &id.to_string(), is_so).await?;
        if is_gone {
            self.forget_what_was_read(id).await?;
        }
        Ok(is_gone)
    }

    /// Forgets how far one was read, and what of it was refused; whether it was read.
    async fn forget_what_was_read(&self, id: UpstreamId) -> Result<bool, Refused> {
        const SOME: usize = 16;
        let was_read = self.remove_record(RecordKind::Cursor, &id.to_string()).await?;
        let (records, prefix) = (self.0.records(), format!("{id}/"));
        let mut pages = RecordPages::of(records, RecordKind::Refused, &prefix, SOME);
        while let Some(page) = pages.next().await? {
            for record in &page {
                // What its reader writes meanwhile is left, and falls out when it is as old as others.
                let _ = records.remove(RecordKind::Refused, &record.key, record.version).await;
            }
        }
        Ok(was_read)
    }

    /// Removes a record, whatever it says; whether there was one.
    ///
    /// # Errors
    /// The store fails, or others change it all the time.
    pub async fn remove_record(&self, kind: RecordKind, key: &str) -> Result<bool, Refused> {
        self.remove_record_where(kind, key, |_| Ok(true)).await
    }

    /// The same, where it is so.
    async fn remove_record_where(
        &self,
        kind: RecordKind,
        key: &str,
        is_so: impl Fn(&Record) -> Result<bool, Refused>,
    ) -> Result<bool, Refused> {
        for _ in 0..TRIES {
            let Some(record) = self.0.records().get_decided(kind, key).await? else { return Ok(false) };
            if !is_so(&record)? {
                return Ok(false);
            }
            match self.0.records().remove(kind, key, record.version).await {
                Race::Won(_) => return Ok(true),
                Race::Overtaken(_) => {}
                Race::Unknown(error) => return Err(error.into()),
            }
        }
        Err(Refused::Contended)
    }

    async fn read(&self, id: UpstreamId) -> Result<Option<(Record, Upstream)>, Refused> {
        let Some(record) = self.0.records().get(RecordKind::Upstream, &id.to_string()).await? else {
            return Ok(None);
        };
        let upstream = serde_json::from_slice(&record.value)?;
        Ok(Some((record, upstream)))
    }

    /// `Err`: another one is there.
    async fn put(
        &self,
        upstream: &Upstream,
        over: Option<&Record>,
    ) -> Result<Result<(), Option<Record>>, Refused> {
        let (key, value) = (upstream.id().to_string(), serde_json::to_vec(upstream)?);
        let version = over.map(|record| record.version);
        let put = self.0.records().put(RecordKind::Upstream, &key, version, value, None);
        match put.await? {
            Race::Won(_) => Ok(Ok(())),
            Race::Overtaken(record) => Ok(Err(record)),
            // Whoever asked asks again; what was written then is what they said.
            Race::Unknown(error) => Err(error.into()),
        }
    }
}

//! Reads whom somebody may see the doings of: from public follow lists alone, as they are stored now.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::BoxFuture;

use super::{Content, Cursor, End, Limit, Page, Query, Store, StoreError};
use crate::{
    clock,
    protocol::{Circle, Filter, ParsedEvent, PublicKey, TagFilter, Viewer, filter::sorted, kind},
};

/// Says of keys whether they let anybody see what they do. Who does not sees nothing of others either.
pub trait Reciprocity: Send + Sync + 'static {
    /// What the account of this key has chosen; a key without an account has chosen nobody.
    ///
    /// # Errors
    /// It can not be read.
    fn shares(&self, key: PublicKey) -> BoxFuture<'_, Result<bool, StoreError>>;
}

/// Nobody has an account, so nobody shares anything.
pub struct NobodyShares;

/// The follow lists of a store, and who lets others see what they do.
#[derive(Clone, Copy)]
pub struct FollowLists<'a> {
    pub store: &'a dyn Store,
    pub reciprocity: &'a dyn Reciprocity,
}

/// Whom each of some keys follows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Followed(Vec<(PublicKey, Box<[PublicKey]>)>);

impl FollowLists<'_> {
    /// The circle of who has proved these keys. `most`: how many people of a list count, which is as many as an event
    /// may have tags.
    ///
    /// # Errors
    /// The store fails, or did not read to the end.
    pub async fn circle(&self, keys: &[PublicKey], most: usize) -> Result<Circle, StoreError> {
        self.friends(&self.followed(keys, most).await?).await
    }

    /// Whom those of the keys follow that share what they do.
    ///
    /// # Errors
    /// As of [`Self::circle`].
    pub async fn followed(&self, keys: &[PublicKey], most: usize) -> Result<Followed, StoreError> {
        let mut sharing = Vec::with_capacity(keys.len());
        for &key in keys {
            if self.reciprocity.shares(key).await? {
                sharing.push(key);
            }
        }
        if sharing.is_empty() {
            return Ok(Followed::default());
        }
        let wanted = Limit::exactly(sharing.len());
        let filter = Filter { authors: Some(sorted(sharing)), ..lists() };
        let mut followed = Vec::with_capacity(wanted.events);
        self.read(vec![(filter, wanted)], Content::Events, |text| {
            // A node has stored it, so it is one.
            if let Ok(list) = serde_json::from_str::<ParsedEvent<'_>>(text) {
                let people = list.tags.values("p").filter_map(PublicKey::from_hex).take(most);
                followed.push((list.pubkey, sorted(people.collect())));
            }
        })
        .await?;
        Ok(Followed(followed))
    }

    /// The circle, by whom of the followed follows back.
    ///
    /// # Errors
    /// As of [`Self::circle`].
    pub async fn friends(&self, followed: &Followed) -> Result<Circle, StoreError> {
        let ask = |(key, people): &(PublicKey, Box<[PublicKey]>)| {
            let wanted = Limit::exactly(people.len());
            let tags = Box::new([TagFilter::new(b'p', [key.to_hex()])]);
            (Filter { authors: Some(people.clone()), tags, ..lists() }, wanted)
        };
        let filters: Vec<_> = followed.0.iter().filter(|(_, people)| !people.is_empty()).map(ask).collect();
        let mut friends = BTreeSet::new();
        if !filters.is_empty() {
            self.read(filters, Content::Authors, |author| friends.extend(PublicKey::from_hex(author)))
                .await?;
        }
        Ok(Circle::new(&followed.people(), &friends))
    }

    async fn read(
        &self,
        filters: Vec<(Filter, Limit)>,
        content: Content,
        mut take: impl FnMut(&str),
    ) -> Result<(), StoreError> {
        // Lists are public. Asked as a client asks, so that they wait at the door like any other question.
        let query = Arc::new(Query { filters, viewer: Viewer::client([]), now: clock::now(), content });
        let mut cursor = Some(Cursor::start(&query));
        while let Some(from) = cursor {
            let page: Page = self.store.query(Arc::clone(&query), from).await?;
            page.iter().for_each(|entry| take(entry.json));
            if page.next.is_none() && page.end == End::Unknown {
                return Err(StoreError::Overloaded);
            }
            cursor = page.next;
        }
        Ok(())
    }
}

fn lists() -> Filter {
    Filter { kinds: Some([kind::FOLLOW_LIST].into()), ..Filter::default() }
}

impl Followed {
    /// All of them, each once.
    pub fn people(&self) -> BTreeSet<PublicKey> {
        self.0.iter().flat_map(|(_, people)| people.iter().copied()).collect()
    }
}

impl Reciprocity for NobodyShares {
    fn shares(&self, _: PublicKey) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

//! Which accounts let others see what they do.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Accounts, Activity, Refused};
use crate::{
    protocol::PublicKey,
    store::{StoreError, circle::Reciprocity},
};

impl Reciprocity for Accounts {
    fn shares(&self, key: PublicKey) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let failed = |refused: Refused| StoreError::Engine(Arc::new(refused));
            let account = self.get(&key).await.map_err(failed)?;
            Ok(account.is_some_and(|account| account.activity != Activity::Nobody))
        })
    }
}

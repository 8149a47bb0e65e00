//! What operators want of an upstream.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::{
    registry::Refused,
    upstream::{SealedKey, Upstream, UpstreamLimits},
};
use crate::protocol::Filter;

/// Filters of an upstream.
const MAX_FILTERS: usize = 20;

/// A relay to be read.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Addition {
    /// `ws://` or `wss://`, without a user or a password.
    #[schema(example = "wss://relay.example.com")]
    pub url: String,
    #[serde(flatten)]
    #[schema(inline)]
    pub change: Change,
}

/// What of an upstream becomes another; what is left out stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// Filters of NIP-01 without `limit`: what one of them matches is read. None: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub filters: Option<Vec<Filter>>,
    /// Seconds by which what was missed is read again before it; `null`: as the configuration says.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub overlap_seconds: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<UpstreamLimits>,
    /// Secret key, nsec or 64 hexadecimal digits, of whoever this relay is there (NIP-42); `null`: nobody. It is sealed, and
    /// never told again.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub auth: Option<Option<String>>,
    /// Whether it is not read for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

impl<'de> Deserialize<'de> for Addition {
    /// The fields of both parts beside each other, and no others.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let url = fields.remove("url").ok_or_else(|| de::Error::missing_field("url"))?;
        let url = String::deserialize(url).map_err(|error| de::Error::custom(format!("url: {error}")))?;
        let change = Change::deserialize(Value::Object(fields)).map_err(de::Error::custom)?;
        Ok(Self { url, change })
    }
}

/// Tells `null` from what is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Change {
    pub(super) fn apply(
        &self,
        upstream: &mut Upstream,
        auth: Option<&Option<SealedKey>>,
    ) -> Result<(), Refused> {
        if let Some(filters) = &self.filters {
            if filters.len() > MAX_FILTERS {
                return Err(Refused::Unfit(format!("an upstream has at most {MAX_FILTERS} filters")));
            }
            if filters.iter().any(|filter| filter.limit.is_some()) {
                let why = "a filter of an upstream has no limit: everything that it matches is read";
                return Err(Refused::Unfit(why.into()));
            }
            upstream.filters = filters.clone();
            // From now on an operator says what is read of it.
            upstream.followed.iter_mut().for_each(|followed| followed.alone = false);
        }
        if let Some(overlap) = self.overlap_seconds {
            upstream.overlap_seconds = overlap;
        }
        if let Some(auth) = auth {
            let public = |key: &Option<SealedKey>| key.as_ref().map(|key| key.public);
            // Sealed anew, the same key looks different.
            if public(auth) != public(&upstream.auth) {
                upstream.auth.clone_from(auth);
            }
        }
        upstream.limits = self.limits.unwrap_or(upstream.limits);
        upstream.paused = self.paused.unwrap_or(upstream.paused);
        Ok(())
    }

    /// Whether nothing would change.
    pub(super) fn is_so(&self, upstream: &Upstream, auth: Option<&Option<SealedKey>>) -> Result<(), Refused> {
        let mut changed = upstream.clone();
        self.apply(&mut changed, auth)?;
        if changed == *upstream { Ok(()) } else { Err(Refused::Exists(upstream.id())) }
    }
}

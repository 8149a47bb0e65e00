//! What an account says of itself (kind 0), changed field by field.

use serde_json::{Map, Value};

use super::{
    error::FeedError,
    people::whole,
    replaceable::{Change, Changes, Draft, MOST_WISHES, Pending},
};
use crate::{
    protocol::{Event, Tags, kind, sign::Keys},
    store::records::RecordKind,
};

/// Fields that are texts wherever they are read (NIP-01, NIP-24).
const TEXTS: [&str; 8] = ["name", "display_name", "about", "picture", "banner", "website", "nip05", "lud16"];

struct Wished<'c>(&'c Map<String, Value>);

impl Change for Wished<'_> {
    const EVENT: u16 = kind::PROFILE;
    const RECORD: RecordKind = RecordKind::Profile;
    type Ledger = Pending<Map<String, Value>>;

    async fn draft(
        &mut self,
        ledger: Self::Ledger,
        stands: Option<&Event>,
    ) -> Result<Option<Draft<Self::Ledger>>, FeedError> {
        let mut ledger = ledger.unsettled(stands);
        ledger.changes.extend(self.0.clone());
        if ledger.changes.len() > MOST_WISHES {
            return Err(FeedError::Unknown);
        }
        let before = stands.map(whole).unwrap_or_default();
        let mut said = before.clone();
        for (field, value) in &ledger.changes {
            match value {
                Value::Null => said.remove(field),
                value => said.insert(field.clone(), value.clone()),
            };
        }
        if said == before {
            return Ok(None);
        }
        let tags = stands.map_or_else(Tags::default, |event| event.tags().clone());
        Ok(Some(Draft { tags, content: Value::Object(said).to_string(), ledger }))
    }
}

/// Changes what an account says of itself: what is `null` goes, and what is not named stays as it is. All that is said
/// then.
///
/// # Errors
/// It is not changed, or not known to be.
pub async fn change_profile(
    changes: &Changes,
    keys: &Keys,
    fields: &Map<String, Value>,
) -> Result<Map<String, Value>, FeedError> {
    let is_unfit = |(field, value): &(&String, &Value)| {
        TEXTS.contains(&field.as_str()) && !(value.is_string() || value.is_null())
    };
    if let Some((field, _)) = fields.iter().find(is_unfit) {
        return Err(FeedError::unfit("profile", format!("{field} is a text")));
    }
    let made = changes.make(keys, Wished(fields)).await?;
    Ok(made.stands.as_ref().map(whole).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use futures_util::future::join_all;
    use serde_json::json;

    use super::*;
    use crate::{
        clock,
        feed::{
            Bounds,
            stage::{Home, Node, homes, keys},
        },
    };

    const BOUNDS: Bounds = Bounds { changes_per_minute: 30, versions: 10 };

    fn nodes(home: &Home) -> [Node; 2] {
        [(); 2].map(|()| Node::new(home, BOUNDS))
    }

    async fn change(node: &Node, keys: &Keys, fields: Value) -> Result<Map<String, Value>, FeedError> {
        change_profile(&node.changes, keys, fields.as_object().unwrap()).await
    }

    async fn said(node: &Node, keys: &Keys) -> Value {
        let newest = node.changes.standing(keys.public_key(), kind::PROFILE).await.unwrap();
        newest.map_or(Value::Null, |event| Value::Object(whole(&event)))
    }

    #[actix::test]
    async fn what_is_null_goes_and_what_is_not_named_stays() {
        for home in homes() {
            let ([node, _], [keys]) = (nodes(&home), keys());
            change(&node, &keys, json!({ "name": "a", "about": "b" })).await.unwrap();
            change(&node, &keys, json!({ "about": null, "website": "https://c.example" })).await.unwrap();
            let made = node.changes.standing(keys.public_key(), kind::PROFILE).await.unwrap();
            change(&node, &keys, json!({ "name": "a", "about": null })).await.unwrap();
            assert_eq!(node.changes.standing(keys.public_key(), kind::PROFILE).await.unwrap(), made);
            assert_eq!(said(&node, &keys).await, json!({ "name": "a", "website": "https://c.example" }));
            let refused = change(&node, &keys, json!({ "name": 5 })).await.unwrap_err();
            assert!(matches!(refused, FeedError::Unfit { .. }), "{refused}");
        }
    }

    #[actix::test]
    async fn many_at_once_lose_nothing() {
        const EACH: usize = 4;
        for home in homes() {
            let (nodes, [keys]) = (nodes(&home), keys());
            let changes = (0..2 * EACH).map(|n| {
                let (nodes, keys) = (&nodes, &keys);
                async move { change(&nodes[n % 2], keys, json!({ n.to_string(): n })).await }
            });
            for changed in join_all(changes).await {
                changed.unwrap();
            }
            assert_eq!(said(&nodes[0], &keys).await.as_object().unwrap().len(), 2 * EACH);
        }
    }

    /// One is held up on its way into the store, and another is made meanwhile: it has what the first one had, and the
    /// first one does no harm when it comes late.
    #[actix::test]
    async fn what_is_on_its_way_is_in_the_next_one() {
        for home in homes() {
            let ([slow, fast], [keys]) = (nodes(&home), keys());
            change(&fast, &keys, json!({ "name": "a" })).await.unwrap();
            slow.gate.close();
            let (late, ()) = tokio::join!(change(&slow, &keys, json!({ "about": "late" })), async {
                slow.gate.is_waited_at().await;
                change(&fast, &keys, json!({ "website": "w" })).await.unwrap();
                assert_eq!(said(&fast, &keys).await, json!({ "name": "a", "about": "late", "website": "w" }));
                slow.gate.open();
            });
            late.unwrap();
            assert_eq!(said(&fast, &keys).await, json!({ "name": "a", "about": "late", "website": "w" }));
        }
    }

    #[actix::test]
    async fn what_was_refused_is_in_no_other_one() {
        for home in homes() {
            let ([node, other], [keys]) = (nodes(&home), keys());
            node.gate.is_full.store(true, Relaxed);
            change(&node, &keys, json!({ "name": "refused" })).await.unwrap_err();
            node.gate.is_full.store(false, Relaxed);
            change(&other, &keys, json!({ "about": "taken" })).await.unwrap();
            assert_eq!(said(&node, &keys).await, json!({ "about": "taken" }));
        }
    }

    /// A node whose clock is an hour ahead has made the one before.
    #[actix::test]
    async fn goes_on_after_one_of_tomorrow() {
        for home in homes() {
            let ([node, _], [keys]) = (nodes(&home), keys());
            let tomorrow =
                keys.sign(clock::now() + 86_400, kind::PROFILE, Tags::default(), r#"{"name":"a"}"#);
            let batch = [std::sync::Arc::new(tomorrow)].into();
            let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
            home.store.write(batch, clock::now(), until).await.unwrap();
            change(&node, &keys, json!({ "about": "b" })).await.unwrap();
            assert_eq!(said(&node, &keys).await, json!({ "name": "a", "about": "b" }));
        }
    }
}

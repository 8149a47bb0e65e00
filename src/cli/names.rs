//! What authors call themselves in their profiles (NIP-01, kind 0), for people who read.

use std::{num::NonZeroUsize, time::Duration};

use lru::LruCache;
use serde::Deserialize;
use tokio::time::timeout;

use super::{source::EventSource, terminal::cut};
use crate::{
    client::shown,
    protocol::{Event, Filter, PublicKey, filter::sorted, nip19},
};

/// Authors whose names are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);
/// Longest name that is shown, in columns.
const MAX_NAME: usize = 16;
/// How long an event waits for the name of its author; it is shown without it too.
const PATIENCE: Duration = Duration::from_secs(2);
/// The kind of profiles.
const PROFILE: u16 = 0;

pub struct Names(LruCache<PublicKey, Option<String>>);

impl Default for Names {
    fn default() -> Self {
        Self(LruCache::new(REMEMBERED))
    }
}

impl Names {
    pub fn knows(&self, author: &PublicKey) -> bool {
        self.0.contains(author)
    }

    /// Asks for the profiles of those who were not asked for yet.
    pub async fn look_up(&mut self, events: &[Event], source: impl FnOnce(Filter) -> EventSource) {
        let unknown: Vec<PublicKey> =
            events.iter().map(Event::pubkey).filter(|author| !self.knows(author)).collect();
        if unknown.is_empty() {
            return;
        }
        let filter = Filter {
            authors: Some(sorted(unknown.clone())),
            kinds: Some([PROFILE].into()),
            ..Filter::default()
        };
        for author in unknown {
            self.0.put(author, None);
        }
        let mut profiles = source(filter);
        let reading = async {
            // A name is a courtesy: where there is none, the key does.
            while let Ok(Some(page)) = profiles.next_page().await {
                page.iter().for_each(|profile| self.learn(profile));
            }
            profiles.close().await;
        };
        let _ = timeout(PATIENCE, reading).await;
    }

    /// Takes the name from an event, if it is a profile.
    pub fn learn(&mut self, event: &Event) {
        #[derive(Deserialize)]
        struct Profile {
            display_name: Option<String>,
            name: Option<String>,
        }
        if event.kind() != PROFILE {
            return;
        }
        let Ok(profile) = serde_json::from_str::<Profile>(&event.content()) else { return };
        let names = [profile.display_name, profile.name].into_iter().flatten();
        let mut names = names.map(|name| shown(name.trim())).filter(|name| !name.is_empty());
        self.0.put(event.pubkey(), names.next());
    }

    /// The name, and the end of the key, as anybody may take a name; or the key alone.
    pub fn of(&mut self, author: &PublicKey) -> String {
        let npub = nip19::npub(author);
        let (begin, end) = (&npub[..12], &npub[npub.len() - 4..]);
        match self.0.get(author) {
            Some(Some(name)) => format!("{} …{end}", cut(name, MAX_NAME)),
            _ => format!("{begin}…{end}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sign::Keys;

    #[test]
    fn a_name_is_what_the_profile_says() {
        let keys = Keys::generate();
        let (mut names, author) = (Names::default(), keys.public_key());
        let npub = nip19::npub(&author);
        let end = &npub[npub.len() - 4..];
        let mut called = |kind, text: &str| {
            names.learn(&keys.sign(1, kind, Default::default(), text));
            names.of(&author)
        };
        let key = format!("{}…{end}", &npub[..12]);
        assert_eq!(called(1, r#"{"name":"no profile"}"#), key);
        assert_eq!(called(0, r#"{"name":"alice"}"#), format!("alice …{end}"));
        assert_eq!(called(0, r#"{"name":"alice","display_name":"Alice A."}"#), format!("Alice A. …{end}"));
        assert_eq!(called(0, r#"{"name":"a\nb\u001b","display_name":" "}"#), format!("a b  …{end}"));
        assert_eq!(
            called(0, &format!(r#"{{"name":"{}"}}"#, "x".repeat(99))),
            format!("{} …{end}", "x".repeat(16))
        );
        assert_eq!(called(0, "no JSON"), format!("{} …{end}", "x".repeat(16)));
        assert_eq!(called(0, "{}"), key);
    }
}

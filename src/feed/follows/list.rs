//! A list of people (NIP-02, NIP-51): what is changed of it, and nothing else of it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::protocol::{Event, EventId, PublicKey, Tags};

/// What an account wants of its follow list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    Follow(PublicKey),
    Unfollow(PublicKey),
    /// As it was in the version of that id.
    TakeBack(EventId),
}

/// The tags and the content of a list, whoever wrote them: what this relay does not know of them stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    pub tags: Tags,
    pub content: String,
}

impl List {
    pub fn of(event: &Event) -> Self {
        Self { tags: event.tags().clone(), content: event.content().into_owned() }
    }

    /// Who is in it, in the order of the list, each once.
    pub fn people(&self) -> Vec<PublicKey> {
        people(&self.tags)
    }

    pub fn has(&self, person: PublicKey) -> bool {
        self.tags.values("p").any(|value| value == person.to_hex())
    }

    /// Names somebody in it. `false`: they are.
    pub fn add(&mut self, person: PublicKey) -> bool {
        let is_new = !self.has(person);
        if is_new {
            self.tags.push(["p", &person.to_hex()]);
        }
        is_new
    }

    /// Takes somebody out of it. `false`: they are not in it.
    pub fn take_out(&mut self, person: PublicKey) -> bool {
        let is_there = self.has(person);
        if is_there {
            let person = person.to_hex();
            let stay = self.tags.iter().filter(|tag| tag.name() != "p" || tag.value() != Some(&person));
            self.tags = stay.map(|tag| tag.iter().collect::<Vec<_>>()).collect::<Tags>();
        }
        is_there
    }

    /// Changes it. Whether there was anything to be changed.
    pub fn change(&mut self, wish: Wish, version: Option<&Self>) -> bool {
        match wish {
            Wish::Follow(person) => self.add(person),
            Wish::Unfollow(person) => self.take_out(person),
            Wish::TakeBack(_) => match version {
                Some(version) if version != self => {
                    *self = version.clone();
                    true
                }
                _ => false,
            },
        }
    }
}

/// Whom these tags name, each once.
pub fn people(tags: &Tags) -> Vec<PublicKey> {
    let mut seen = HashSet::new();
    tags.values("p").filter_map(PublicKey::from_hex).filter(|person| seen.insert(*person)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wished_is_changed() {
        let [a, b] = [PublicKey([1; 32]), PublicKey([2; 32])];
        let tags: Tags = [
            vec!["p".to_owned(), a.to_hex(), "wss://relay".to_owned(), "al".to_owned()],
            vec!["t".to_owned(), "nostr".to_owned()],
            vec!["p".to_owned(), "no key".to_owned()],
            vec!["-".to_owned()],
        ]
        .into_iter()
        .collect();
        let before = List { tags: tags.clone(), content: r#"{"wss://relay":{}}"#.to_owned() };
        let mut list = before.clone();
        assert!(!list.change(Wish::Follow(a), None) && list.change(Wish::Follow(b), None));
        assert_eq!((list.people(), list.tags.len(), &list.content), (vec![a, b], 5, &before.content));
        assert!(list.change(Wish::Unfollow(b), None) && !list.change(Wish::Unfollow(b), None));
        assert_eq!(list, before);
        assert!(list.change(Wish::Unfollow(a), None));
        assert_eq!((list.people(), list.tags.len()), (vec![], 3));
        let wish = Wish::TakeBack(EventId([0; 32]));
        assert!(!list.change(wish, None) && list.change(wish, Some(&before)));
        assert_eq!(list, before);
    }
}

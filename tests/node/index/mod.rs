//! The index of live subscriptions against asking every filter, and the rule that routing rests on:
//! a filter that matches an event shares a key with it. The fuzz target `index` tells the same.

mod story;

use arbitrary::Unstructured;
use proptest::{collection::vec, prelude::*};
use story::Story;

fn stories() -> impl Strategy<Value = Story> {
    vec(any::<u8>(), 0..6_000)
        .prop_filter_map("no story", |bytes| Story::new(&mut Unstructured::new(&bytes)).ok())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_asking_everyone_finds(story in stories()) {
        story.tell();
    }
}

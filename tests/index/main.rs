//! The index of live subscriptions against asking every filter, and the rule that routing rests on:
//! a filter that matches an event shares a key with it. The fuzz target `index` tells the same.

mod story;

use arbitrary::Unstructured;
use proptest::{collection::vec, prelude::*};
use story::Story;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_asking_everyone_finds(bytes in vec(any::<u8>(), 0..6_000)) {
        let story = Story::new(&mut Unstructured::new(&bytes)).unwrap();
        if let Err(panic) = std::panic::catch_unwind(|| story.tell()) {
            eprintln!("{story:#?}");
            std::panic::resume_unwind(panic);
        }
    }
}

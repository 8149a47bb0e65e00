//! The index of live subscriptions against asking every filter: the stories of `tests/node/index`, told
//! by a fuzzer.

#![no_main]

#[path = "../../tests/node/index/story.rs"]
mod story;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use story::Story;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(story) = Story::new(&mut Unstructured::new(bytes)) {
        story.tell();
    }
});

//! Whether what an upstream sends is worth being queued: the cheap questions. Whoever stores it asks the others.

use super::counts::Refusal;
use crate::protocol::{Event, Fields, Filter, ParsedEvent};

/// Looks at an event that has come for filters.
///
/// # Errors
/// Why it is refused. That says nothing about the event of that id: who sends it may lie.
pub fn judge(
    event: Result<Box<ParsedEvent<'_>>, String>,
    most_bytes: usize,
    filters: &[Filter],
) -> Result<Event, Refusal> {
    let parsed = event.map_err(|_| Refusal::Shape)?;
    was_asked_for(&*parsed, filters)?;
    // Id and signature are looked at before it is stored; nothing is concluded from them here.
    let event = parsed.trust();
    fits(&event, most_bytes)?;
    Ok(event)
}

/// Looks at one that was read already.
///
/// # Errors
/// Why it is refused.
pub fn judge_read(event: &Event, most_bytes: usize, filters: &[Filter]) -> Result<(), Refusal> {
    was_asked_for(event, filters)?;
    fits(event, most_bytes)
}

fn was_asked_for(event: &impl Fields, filters: &[Filter]) -> Result<(), Refusal> {
    filters.iter().any(|filter| filter.matches(event)).then_some(()).ok_or(Refusal::Unasked)
}

fn fits(event: &Event, most_bytes: usize) -> Result<(), Refusal> {
    (event.json().len() <= most_bytes).then_some(()).ok_or(Refusal::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sign::Keys;

    fn judged(text: &str, filter: &str) -> Result<Event, Refusal> {
        let event =
            serde_json::from_str::<ParsedEvent<'_>>(text).map(Box::new).map_err(|error| error.to_string());
        judge(event, 1_000, &[serde_json::from_str(filter).unwrap()])
    }

    #[test]
    fn only_what_was_asked_for_is_taken() {
        let keys = Keys::generate();
        let event = keys.sign(7, 1, Default::default(), "x");
        assert_eq!(judged(event.json(), r#"{"kinds":[1]}"#), Ok(event.clone()));
        assert_eq!(judged(event.json(), r#"{"kinds":[2]}"#), Err(Refusal::Unasked));
        assert_eq!(judged(event.json(), r#"{"since":8}"#), Err(Refusal::Unasked));
        assert_eq!(judged(event.json(), r##"{"#t":["x"]}"##), Err(Refusal::Unasked));
        assert_eq!(judged("{}", "{}"), Err(Refusal::Shape));
        let large = keys.sign(7, 1, Default::default(), &"x".repeat(1_000));
        assert_eq!(judged(large.json(), "{}"), Err(Refusal::TooLarge));
        assert_eq!(judge_read(&large, 1_000, &[Filter::default()]), Err(Refusal::TooLarge));
        assert_eq!(judge_read(&event, 1_000, &[]), Err(Refusal::Unasked));
    }
}

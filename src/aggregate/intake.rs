//! Whether what an upstream sends is worth being queued: the cheap questions. Whoever stores it asks the others.

use super::counts::Refusal;
use crate::protocol::{Event, Filter, ParsedEvent};

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
    if !filters.iter().any(|filter| filter.matches(&*parsed)) {
        return Err(Refusal::Unasked);
    }
    // Id and signature are looked at before it is stored; nothing is concluded from them here.
    let event = parsed.trust();
    match event.json().len() > most_bytes {
        true => Err(Refusal::TooLarge),
        false => Ok(event),
    }
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
    }
}

//! The event on a line of a file.

use serde_json::value::RawValue;

/// The event on a line: alone, as a client publishes it (`["EVENT",{…}]`), or as a relay sends it
/// (`["EVENT","subscription",{…}]`). Anything else is left as it is.
pub fn event_json(line: &str) -> &str {
    let line = line.trim();
    let elements = match line.starts_with('[') {
        true => serde_json::from_str::<Vec<&RawValue>>(line).unwrap_or_default(),
        false => Vec::new(),
    };
    match &elements[..] {
        [verb, event] | [verb, _, event] if verb.get() == r#""EVENT""# => event.get(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_in_messages() {
        let event = r#"{"id":"ab","tags":[["e","]"]]}"#;
        for line in [
            event.to_owned(),
            format!(" {event}\r"),
            format!(r#"["EVENT",{event}]"#),
            format!(r#"[ "EVENT" , "sub" , {event} ]"#),
        ] {
            assert_eq!(event_json(&line), event, "{line}");
        }
        for line in ["", "[", r#"["EOSE","sub"]"#, r#"["OK","EVENT",{}]"#, r#"["EVENT"]"#] {
            assert_eq!(event_json(line), line);
        }
    }
}

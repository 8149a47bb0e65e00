//! The syntax of `log` and RUST_LOG.

use anyhow::{Context, ensure};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Parts of other crates that are quiet unless whoever says what is logged names them: actix_http calls it an error
/// whenever a client speaks no HTTP, and opentelemetry whenever spans are lost.
const QUIET: &str = "actix_http=off,opentelemetry=off";

/// Reads what is to be logged, on top of what is quiet. A word alone must be a level: `EnvFilter` takes any other for a part
/// of the program, of which everything is to be logged, and nothing else. A level that is misspelt would leave a relay
/// mute.
///
/// # Errors
/// Says which word it is.
pub fn log_filter(text: &str) -> anyhow::Result<EnvFilter> {
    // What stands in brackets may have commas of its own, and words.
    let words = text.split(',').map(str::trim).filter(|_| !text.contains('['));
    for word in words.filter(|word| !word.contains('=')) {
        ensure!(
            word.parse::<LevelFilter>().is_ok(),
            "{word:?} is no level (off, error, warn, info, debug, trace); of a part of the program, {PART}"
        );
    }
    // Of two that name the same part, the later one counts. An empty text means something of its own.
    let all = if text.is_empty() { String::new() } else { format!("{QUIET},{text}") };
    EnvFilter::try_new(all).with_context(|| format!("write levels such as info, and of a part {PART}"))
}

const PART: &str = "write its name and a level, such as rookery=debug";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for text in ["info", "WARN", "off", "info,hyper=debug", "rookery::bus=trace", "[message]=debug"] {
            assert!(log_filter(text).is_ok(), "{text}");
        }
        for text in ["warning", "verbose", "nonsense!!", "info,hyper", "rookery=verbose", "info debug"] {
            let error = format!("{:#}", log_filter(text).unwrap_err());
            assert!(error.contains("rookery=debug"), "{text}: {error}");
        }
    }
}

//! An error in one line, for people.

/// The error and what caused it, each once: errors of libraries like to tell their causes themselves.
pub fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(|cause| cause.to_string().trim_end().to_owned()) {
        if told.is_empty() {
            told = cause;
        } else if !told.ends_with(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store: {0}")]
    struct Engine(#[from] io::Error);

    #[test]
    fn what_an_error_says_stands_once() {
        let error = || anyhow::Error::from(Engine(io::Error::from_raw_os_error(12)));
        let once = "cannot open the store: Cannot allocate memory (os error 12)";
        assert_eq!(told(&error()), once);
        assert_eq!(told(&error().context("no start")), format!("no start: {once}"));
        assert_eq!(told(&anyhow::anyhow!("a").context("b").context("c")), "c: b: a");
    }
}

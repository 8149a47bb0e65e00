//! The flag that names a relay, and what a person is told of talking to it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use clap::Args;
use tokio_tungstenite::tungstenite::http::Uri;

use crate::{
    client::{ClientError, Endpoint, Observer, Token, shown},
    protocol::sign::Keys,
};

/// The flag that names the relay.
#[derive(Debug, Clone, Args)]
pub struct RelayFlag {
    /// Relay to talk to
    #[arg(
        long,
        value_name = "URL",
        env = "ROOKERY_RELAY",
        hide_env_values = true,
        default_value = "ws://127.0.0.1:7777",
        value_parser = relay_url
    )]
    relay: String,
    /// File with the token of an account of that relay, as signing in gives it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl RelayFlag {
    /// The relay, talked to with this key.
    ///
    /// # Errors
    /// The token can not be read.
    pub fn endpoint(self, keys: Option<Keys>) -> anyhow::Result<Endpoint> {
        let token = self.token_file.map(|file| token(&file)).transpose().context("--token-file")?;
        Ok(Endpoint { token, ..endpoint(self.relay, keys) })
    }
}

/// The token in a file. Errors never quote it.
fn token(file: &Path) -> anyhow::Result<Token> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    let token = text.trim();
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(is_token, "{name} does not hold exactly one token");
    Ok(Token(token.into()))
}

/// A relay of that URL, talked to with this key, while a person looks on.
pub fn endpoint(url: String, keys: Option<Keys>) -> Endpoint {
    Endpoint { keys, observer: Arc::new(Terminal), ..Endpoint::new(url) }
}

/// Shows on standard error what happens beside the command.
struct Terminal;

impl Observer for Terminal {
    fn notice(&self, text: &str) {
        eprintln!("the relay says: {}", shown(text));
    }

    fn retry(&self, error: &ClientError, wait: Duration) {
        eprintln!("{error}; trying again in {:.1} s", wait.as_secs_f32());
    }
}

/// What the user of a command may do about an error; empty where the error says it all.
pub fn advice(error: &ClientError) -> &'static str {
    match error {
        ClientError::Unreachable { .. } => {
            ". Is the relay running? Start one with `rookery`, or name another with --relay"
        }
        ClientError::NoKey => ": name your key with --key-file FILE or ROOKERY_KEY",
        ClientError::CrowdedSecond { .. } => {
            ". Take that second in parts, by --kind or --author, or raise the relay's limit"
        }
        _ => "",
    }
}

/// A URL, or a host with a port, as it is shown by a relay that starts.
pub fn relay_url(text: &str) -> Result<String, String> {
    let has_port = |text: &str| text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !text.contains('/') && has_port(text.trim()) {
        return relay_url(&format!("ws://{}", text.trim()));
    }
    let url: Uri = text.trim().parse().map_err(|_| "this is no URL; write ws://host:port".to_owned())?;
    match (url.scheme_str(), url.host()) {
        (Some("ws" | "wss"), Some(_)) => Ok(text.trim().to_owned()),
        (Some("http"), _) => Err(format!("write {}", text.replacen("http", "ws", 1))),
        (Some("https"), _) => Err(format!("write {}", text.replacen("https", "wss", 1))),
        _ => Err(format!("a relay's URL begins with ws:// or wss://, such as wss://{}", text.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_is_not_quoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        for (text, expected) in
            [("a.b.c\n", Ok("a.b.c")), ("", Err(())), ("secret a", Err(())), ("ä", Err(()))]
        {
            fs::write(path, text).unwrap();
            let read = token(path);
            let told = format!("{read:?}");
            assert!(!told.contains("secret") && !told.contains("a.b.c"), "{told}");
            assert_eq!(
                read.map_err(|_| ()).map(|Token(token)| token.to_string()),
                expected.map(str::to_owned)
            );
        }
    }

    #[test]
    fn urls_that_are_none_say_what_to_write() {
        assert_eq!(relay_url("ws://127.0.0.1:7777").unwrap(), "ws://127.0.0.1:7777");
        assert_eq!(relay_url(" wss://relay.example.com/x ").unwrap(), "wss://relay.example.com/x");
        assert_eq!(relay_url("127.0.0.1:7777").unwrap(), "ws://127.0.0.1:7777");
        assert_eq!(relay_url("localhost:7777").unwrap(), "ws://localhost:7777");
        assert_eq!(relay_url("[::1]:7777").unwrap(), "ws://[::1]:7777");
        for (text, expected) in [
            ("relay.example.com", "wss://relay.example.com"),
            ("https://relay.example.com", "write wss://relay.example.com"),
            ("http://localhost:7777", "write ws://localhost:7777"),
            ("ws://", "URL"),
            ("a b", "URL"),
        ] {
            let error = relay_url(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

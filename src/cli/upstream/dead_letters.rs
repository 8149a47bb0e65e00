//! Events that the store has not taken, though it took others.

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{
    super::{
        operators::{JSON, Operators},
        time,
    },
    id,
};
use crate::{
    aggregate::{DeadLetterPage, DeadLetterView, dead::Address},
    client::shown,
};

#[derive(Debug, Subcommand)]
pub(super) enum DeadLetters {
    /// Print them, a line each
    List {
        /// Those of one upstream: its URL or its number
        #[arg(long, value_name = "URL|NUMBER")]
        upstream: Option<String>,
        #[command(flatten)]
        node: Operators,
    },
    /// Print one
    Show(Letter),
    /// Try to store one again
    Replay(Letter),
    /// Let go of one; its event is not asked for again
    Drop(Letter),
}

/// A dead letter.
#[derive(Debug, Args)]
pub(super) struct Letter {
    /// As `list` names it
    #[arg(value_name = "NUMBER/ID")]
    letter: String,
    #[command(flatten)]
    node: Operators,
}

impl Letter {
    fn ask(&self, method: &str, and: &str) -> anyhow::Result<String> {
        let at = Address::parse(&self.letter).context("it is not as `list` names them: NUMBER/ID")?;
        self.node.ask(method, &format!("/v1/dead-letters/{at}{and}"), JSON, "")
    }
}

pub(super) fn run(what: DeadLetters) -> anyhow::Result<()> {
    match what {
        DeadLetters::List { upstream, node } => {
            let of = upstream.as_deref().map(id).transpose()?.map(|id| format!("upstream={id}&"));
            let mut after = None::<String>;
            loop {
                let from = after.map(|after| format!("after={after}")).unwrap_or_default();
                let path = format!("/v1/dead-letters?{}{from}", of.as_deref().unwrap_or_default());
                let page: DeadLetterPage = serde_json::from_str(&node.ask("GET", &path, JSON, "")?)?;
                for view in &page.letters {
                    println!("{}", letter_line(view));
                }
                after = page.next;
                if after.is_none() {
                    return Ok(());
                }
            }
        }
        DeadLetters::Show(letter) => println!("{}", letter.ask("GET", "")?),
        DeadLetters::Replay(letter) => {
            letter.ask("POST", "/replay")?;
            println!("it is on its way into the store; it stays here if that fails again");
        }
        DeadLetters::Drop(letter) => {
            letter.ask("DELETE", "")?;
            println!("it is gone");
        }
    }
    Ok(())
}

fn letter_line(view: &DeadLetterView) -> String {
    let DeadLetterView { upstream, event, url, letter } = view;
    format!(
        "{upstream}/{event} {}, {} bytes, {} attempts, last {}: {}",
        url.as_deref().map_or_else(|| "no upstream any more".into(), shown),
        letter.bytes,
        letter.attempts,
        time::format(letter.last_at),
        shown(&letter.last_error)
    )
}

//! `rookery upstream follow` and what belongs to it: people who are followed, wherever they write.

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{
    operators::{JSON, Operators},
    time,
};
use crate::{
    aggregate::follow::{Followed, PersonView, PlanView, Why},
    client::shown,
    net::Follow,
    protocol::nip19,
};

#[derive(Debug, Subcommand)]
pub enum Following {
    /// Read people at the relays where they write (NIP-65)
    Follow {
        /// Who: npub1…, or 64 hexadecimal digits
        #[arg(required = true, value_name = "NPUB")]
        who: Vec<String>,
        /// And those whom they follow
        #[arg(long)]
        with_follows: bool,
        #[command(flatten)]
        node: Operators,
    },
    /// Follow people no more; what is stored of them stays
    Unfollow {
        #[arg(required = true, value_name = "NPUB")]
        who: Vec<String>,
        #[command(flatten)]
        node: Operators,
    },
    /// Print whom operators follow, or where one of them is read
    Followed {
        #[arg(value_name = "NPUB")]
        who: Option<String>,
        #[command(flatten)]
        print: Print,
    },
    /// Print which relays are read for them, and why not others
    Plan {
        /// Look at their lists again, and make it anew
        #[arg(long)]
        again: bool,
        #[command(flatten)]
        print: Print,
    },
}

/// How it is printed.
#[derive(Debug, Args)]
pub struct Print {
    /// Print what the node answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Operators,
}

/// A person, as paths name them.
fn path(who: &str) -> anyhow::Result<String> {
    let key = nip19::read_public_key(who).with_context(|| format!("{who} is nobody's key"))?;
    Ok(format!("/v1/followed/{}", nip19::npub(&key)))
}

pub fn run(what: Following) -> anyhow::Result<()> {
    match what {
        Following::Follow { who, with_follows, node } => {
            // All of them are looked at before one is followed.
            who.iter().try_for_each(|who| path(who).map(drop))?;
            for who in who {
                let body = serde_json::to_string(&Follow { who, with_follows })?;
                let followed: Followed =
                    serde_json::from_str(&node.ask("POST", "/v1/followed", JSON, &body)?)?;
                println!("{}", line(&followed));
            }
        }
        Following::Unfollow { who, node } => {
            let paths = who.iter().map(|who| path(who)).collect::<anyhow::Result<Vec<_>>>()?;
            for (who, path) in who.iter().zip(paths) {
                node.ask("DELETE", &path, JSON, "")?;
                println!("{who} is followed no more");
            }
        }
        Following::Followed { who, print: Print { json, node } } => {
            let path = who.as_deref().map(path).transpose()?;
            let answer = node.ask("GET", path.as_deref().unwrap_or("/v1/followed"), JSON, "")?;
            match (json, who) {
                (true, _) => println!("{answer}"),
                (false, Some(_)) => show(&serde_json::from_str(&answer)?),
                (false, None) => {
                    let all: Vec<Followed> = serde_json::from_str(&answer)?;
                    if all.is_empty() {
                        println!("nobody is followed; `rookery upstream follow npub1…` follows somebody");
                    }
                    all.iter().for_each(|followed| println!("{}", line(followed)));
                }
            }
        }
        Following::Plan { again, print: Print { json, node } } => {
            let answer = node.ask(if again { "POST" } else { "GET" }, "/v1/followed/plan", JSON, "")?;
            match json {
                true => println!("{answer}"),
                false => plan(&serde_json::from_str(&answer)?),
            }
        }
    }
    Ok(())
}

fn line(followed: &Followed) -> String {
    let Followed { who, with_follows, added } = followed;
    let and = if *with_follows { ", and those whom they follow" } else { "" };
    format!("{who}{and}, since {}", time::format(*added))
}

fn show(person: &PersonView) {
    match &person.followed {
        Some(followed) => println!("{}", line(followed)),
        None => println!("{}, whom somebody follows who is followed", person.who),
    }
    if person.read_at.is_empty() {
        println!("read nowhere; `rookery upstream plan` may say why");
    }
    person.read_at.iter().for_each(|url| println!("read at {}", shown(url)));
}

fn plan(view: &PlanView) {
    let summary = &view.summary;
    match summary.made {
        0 => println!("no plan has been made yet"),
        made => println!(
            "{} people, read at {} relays; made {}, and again {}",
            summary.people,
            view.relays.len(),
            time::format(made),
            if summary.next == 0 { "in a moment".into() } else { time::format(summary.next) }
        ),
    }
    if let Some(error) = &summary.error {
        println!("it could not be made: {}", shown(error));
    }
    for (count, what) in [
        (summary.people_left_out, "people are left out, as there are more than follow.people"),
        (summary.without_list, "have published no list of relays that was found"),
        (summary.nowhere, "are read nowhere"),
    ] {
        if count > 0 {
            println!("{count} {what}");
        }
    }
    summary.nowhere_such_as.iter().for_each(|who| println!("  {who}"));
    for relay in &view.relays {
        let alone = if relay.alone { "" } else { ", and for operators" };
        let (id, url) = (&relay.id, shown(&relay.url));
        println!("{id} {url} {} write there, asked for {}{alone}", relay.writers, relay.asked);
    }
    for left_out in &summary.left_out {
        println!("not read: {}, where {} write: {}", left_out.url, left_out.writers, word(left_out.why));
    }
    for indexer in &summary.indexers {
        let error = indexer.error.as_deref().map_or(String::new(), |error| format!(", {}", shown(error)));
        println!("lists at {}: {}{error}", shown(&indexer.url), indexer.lists);
    }
}

fn word(why: Why) -> &'static str {
    match why {
        Why::Silent => "it was not reached for too long",
        Why::Forbidden => "its address is not public",
        Why::Unknown => "nobody knows its name",
        Why::Paused => "it is paused",
        Why::SameAddress => "another one that is read has the same address",
        Why::Beyond => "there may be only so many (follow.relays)",
    }
}

//! `rookery accounts`: whose keys a running node keeps.

use clap::{Args, Subcommand};

use super::{
    operators::{JSON, Operators},
    time,
};
use crate::{
    client::shown,
    net::{AccountPage, AccountView, CodeView, Guests},
    store::secrets::Found,
};

#[derive(Debug, Args)]
pub struct AccountsArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print them, a line each
    List {
        /// Print what the node answers, a page a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: Operators,
    },
    /// Print a link by which somebody signs up where not everybody may
    Invite {
        /// Accounts that it is for
        #[arg(long, value_name = "COUNT", default_value_t = 1)]
        uses: u32,
        /// Days for which it is good
        #[arg(long, default_value_t = 7)]
        days: u64,
        #[command(flatten)]
        node: Operators,
    },
    /// Switch one off: it is signed out everywhere, and nobody signs in
    Disable(Which),
    /// Switch one on again
    Enable(Which),
    /// Print a link by which somebody sets their password anew, once, within a day; their key stays the same
    ResetPassword(Which),
    /// Seal what the store keeps sealed anew, under the master key that the node has now
    ///
    /// The node is given the one before in old_master_key_files. What is cut off is gone on with.
    Rekey {
        /// Only tell what is sealed under another one
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        node: Operators,
    },
    /// Remove one for good: its key is gone, what it has published stays
    Remove {
        #[command(flatten)]
        which: Which,
        /// It can not be taken back
        #[arg(long)]
        yes: bool,
    },
}

/// One of them.
#[derive(Debug, Args)]
struct Which {
    /// Its name
    name: String,
    #[command(flatten)]
    node: Operators,
}

impl Which {
    fn ask(&self, method: &str, and: &str) -> anyhow::Result<String> {
        // Names have nothing that means something in a path; what is none is not found.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let name: String = self.name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        self.node.ask(method, &format!("/v1/accounts/{name}{and}"), JSON, "")
    }

    fn tell(&self, and: &str) -> anyhow::Result<()> {
        println!("{}", line(&serde_json::from_str(&self.ask("POST", and)?)?));
        Ok(())
    }
}

pub fn run(args: AccountsArgs) -> anyhow::Result<()> {
    match args.what {
        What::List { json, node } => list(json, &node)?,
        What::Invite { uses, days, node } => {
            let body = serde_json::to_string(&Guests { uses, days })?;
            let made: CodeView = serde_json::from_str(&node.ask("POST", "/v1/invitations", JSON, &body)?)?;
            println!("{}", made.link);
        }
        What::Disable(which) => which.tell("/disable")?,
        What::Enable(which) => which.tell("/enable")?,
        What::ResetPassword(which) => {
            let made: CodeView = serde_json::from_str(&which.ask("POST", "/reset-password")?)?;
            println!("{}", made.link);
        }
        What::Rekey { check, node } => rekey(check, &node)?,
        What::Remove { which, yes } => {
            anyhow::ensure!(yes, "its key can not be brought back; say --yes if that is meant");
            which.ask("DELETE", "")?;
            println!("{} is gone", shown(&which.name));
        }
    }
    Ok(())
}

fn list(json: bool, node: &Operators) -> anyhow::Result<()> {
    let mut after = None::<String>;
    loop {
        let from = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let answer = node.ask("GET", &format!("/v1/accounts?limit=1000{from}"), JSON, "")?;
        let page: AccountPage = serde_json::from_str(&answer)?;
        match json {
            true => println!("{answer}"),
            false => page.accounts.iter().for_each(|account| println!("{}", line(account))),
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn rekey(is_check: bool, node: &Operators) -> anyhow::Result<()> {
    if !is_check {
        let Found { key, current, anew, .. } = secrets(node, "POST", "/v1/secrets/seal-anew")?;
        println!("{anew} sealed anew under the master key {key}, {} were", current - anew);
    }
    // Another node may have sealed something meanwhile.
    let Found { key, current, old, closed, .. } = secrets(node, "GET", "/v1/secrets")?;
    closed.iter().for_each(|why| println!("{}", shown(why)));
    let others = old + closed.len();
    println!("{current} are sealed under the master key {key}, {others} under others");
    match (old, &closed[..]) {
        (0, []) => Ok(()),
        (0, closed) => anyhow::bail!(
            "{} are sealed under master keys that the node does not have: name their files in old_master_key_files",
            closed.len()
        ),
        (old, _) if is_check => anyhow::bail!("{old} are to be sealed anew: rookery accounts rekey"),
        (old, _) => {
            anyhow::bail!("{old} were sealed under another master key meanwhile: give all nodes the new one")
        }
    }
}

/// What is found of all secrets.
fn secrets(node: &Operators, method: &str, path: &str) -> anyhow::Result<Found> {
    let mut all = Found::default();
    let mut from = String::new();
    loop {
        let answer = node.ask(method, &format!("{path}{from}"), JSON, "")?;
        let Found { key, current, anew, old, closed, next } = serde_json::from_str(&answer)?;
        all.key = key;
        (all.current, all.anew, all.old) = (all.current + current, all.anew + anew, all.old + old);
        all.closed.extend(closed);
        match next {
            Some(next) => from = format!("?after={next}"),
            None => return Ok(all),
        }
    }
}

/// One of them in a line.
fn line(account: &AccountView) -> String {
    let AccountView { name, npub, created, disabled, .. } = account;
    let off = if *disabled { ", switched off" } else { "" };
    format!("{} {npub}, since {}{off}", shown(name), time::format(*created))
}

//! `rookery key`: makes keys, and shows them in all their forms (NIP-19).

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::secret;
use crate::protocol::{PublicKey, nip19, sign::Keys};

#[derive(Debug, Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a new key pair
    #[command(after_help = "\
Whoever has the secret (nsec) is you, and nobody can give you a new one: keep it, and keep it secret. \
The public key (npub) is your name; share it.

Example:  rookery key new --out my.key")]
    New(NewArgs),
    /// Show a key as npub and hex
    #[command(after_help = "\
Without KEY, the key in the variable ROOKERY_KEY is shown. Hexadecimal digits count as a public key \
unless --secret is given.

Example:  rookery key show my.key")]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct NewArgs {
    /// Write the secret to this file, readable by you only, instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// npub, nsec, 64 hexadecimal digits, or a key file
    key: Option<String>,
    /// Print the secret too, and read hexadecimal digits as a secret
    #[arg(long)]
    secret: bool,
}

enum Known {
    Pair(Keys),
    Public(PublicKey),
}

pub fn run(args: KeyArgs) -> anyhow::Result<()> {
    match args.command {
        KeyCommand::New(NewArgs { out }) => {
            let keys = Keys::generate();
            if let Some(path) = &out {
                secret::write_file(path, &keys)?;
                eprintln!("the secret is in {}", path.display());
            }
            print(&Known::Pair(keys), out.is_none())
        }
        KeyCommand::Show(ShowArgs { key, secret }) => {
            let known = match key {
                Some(text) => read(&text, secret)?,
                None => Known::Pair(
                    secret::from_environment()?
                        .with_context(|| format!("no key to show: name one, or set {}", secret::VARIABLE))?,
                ),
            };
            if secret && matches!(known, Known::Public(_)) {
                bail!("a public key does not tell its secret");
            }
            print(&known, secret)
        }
    }
}

fn read(text: &str, is_secret: bool) -> anyhow::Result<Known> {
    let path = Path::new(text);
    if path.exists() {
        return secret::read_file(path).map(Known::Pair);
    }
    let bare = text.trim().to_ascii_lowercase();
    if bare.contains("nsec1") || (is_secret && !bare.contains("npub1")) {
        return secret::keys(text).map(Known::Pair);
    }
    let key = nip19::read_public_key(text).with_context(|| format!("{text:?} is no key and no file"))?;
    Ok(Known::Public(key))
}

fn print(known: &Known, with_secret: bool) -> anyhow::Result<()> {
    let public = match known {
        Known::Pair(keys) => keys.public_key(),
        Known::Public(key) => *key,
    };
    let mut text = String::new();
    if let Known::Pair(keys) = known
        && with_secret
    {
        text += &format!("nsec        {}\n", nip19::nsec(&keys.secret()));
        text += &format!("secret hex  {}\n", hex::encode(keys.secret()));
    }
    text += &format!("npub        {}\npublic hex  {public}\n", nip19::npub(&public));
    io::stdout().write_all(text.as_bytes()).context("cannot print the key")
}

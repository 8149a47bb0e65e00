//! Asking a running node what operators ask (`/v1`).

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;

use crate::{
    config,
    net::{Problem, Token},
};

/// What questions and answers are.
pub const JSON: &str = "application/json";

/// A node, as operators reach it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which node")]
pub struct Operators {
    /// Its address for operators
    #[arg(long, value_name = "ADDRESS", env = "ROOKERY_OPS_LISTEN", default_value = "127.0.0.1:9777")]
    ops_listen: String,
    /// File with the token that it asks for [default: ops.token in its folder]
    #[arg(long, value_name = "FILE", env = "ROOKERY_OPS_TOKEN_FILE")]
    ops_token_file: Option<PathBuf>,
    /// Its folder
    #[arg(long, value_name = "FOLDER", env = "ROOKERY_DATA", default_value = "./rookery-data")]
    data: PathBuf,
}

impl Operators {
    /// The store's writes have their deadlines, and end before.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Asks, and gives the body of what is answered.
    ///
    /// # Errors
    /// Nobody answers, or in words that say why not.
    pub fn ask(&self, method: &str, path: &str, media_type: &str, body: &str) -> anyhow::Result<String> {
        let named = &self.ops_listen;
        let asked = format!("no node answers at {named}; --ops-listen names its address for operators");
        let mut at = config::address(named).with_context(|| asked.clone())?;
        if at.ip().is_unspecified() {
            at.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let file = self.ops_token_file.clone().unwrap_or_else(|| Token::default_file(&self.data));
        let token = Token::read(&file)
            .context("--ops-token-file or --data says where it is; only who may read it can ask a node")?;
        let mut stream = TcpStream::connect_timeout(&at, Self::PATIENCE).with_context(|| asked.clone())?;
        stream.set_read_timeout(Some(Self::PATIENCE))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .with_context(|| asked.clone())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| asked.clone())?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| asked.clone())?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status.starts_with('2') {
            return Ok(body.to_owned());
        }
        match serde_json::from_str::<Problem>(body) {
            Ok(problem) if status == "401" => {
                bail!("{}; --data or --ops-token-file says where the one of this node is", problem.detail)
            }
            Ok(problem) => bail!("{}", problem.detail),
            Err(_) => bail!("{named} is no address of a node's operators, or of an older version"),
        }
    }
}

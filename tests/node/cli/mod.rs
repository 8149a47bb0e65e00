//! The client commands as users meet them: the built program against a relay that follows a script. And the client
//! itself.

mod client;
mod exit_codes;
mod export;
mod import;
mod keys;
pub mod program;
mod query;
pub mod relay;
mod send;
mod sync;
mod terminal;
mod tls;
mod watch;

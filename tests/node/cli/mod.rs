//! The client commands as users meet them: the built program against a relay that follows a script.

mod export;
mod import;
mod keys;
mod program;
mod query;
mod relay;
mod send;
mod terminal;
mod watch;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Memory that was freed goes back to the system after a second, also when nothing more is asked for.
/// By default a burst of answers is kept for ten, and longer on an idle relay.
#[expect(unsafe_code, reason = "jemalloc reads its defaults from the text that this symbol points to")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &u8 =
    &c"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0".to_bytes_with_nul()[0];

fn main() -> ExitCode {
    // Before any link is made.
    rookery::tls::provider();
    match rookery::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("error: {}\n", rookery::cli::told(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Says the last word, and does not wait for long: a standard error that is full, because nobody reads it, keeps no
/// process from its end.
fn say(text: String) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let (done, said) = mpsc::channel();
    thread::spawn(move || {
        // Closed, there is nobody to tell.
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = done.send(());
    });
    let _ = said.recv_timeout(PATIENCE);
}

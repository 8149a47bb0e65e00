use std::process::ExitCode;

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
            rookery::cli::say(&format!("error: {}", rookery::cli::told(&error)));
            ExitCode::FAILURE
        }
    }
}

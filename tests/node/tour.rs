//! The tours of the documents, word for word: their commands in their order, in one folder, as a stranger types them.
//! Only the ports are others.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use common::{Relay, eventually};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

/// A block of commands, typed into a terminal of its own.
struct Block {
    commands: String,
    /// Whether they stay until they are ended.
    stays: bool,
}

/// The blocks of a section. Every one is marked, so that none is forgotten.
fn tour(file: &str, heading: &str) -> Vec<Block> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut blocks = Vec::new();
    let mut pieces = section.split("```");
    while let (Some(prose), Some(code)) = (pieces.next(), pieces.next()) {
        let commands = code.strip_prefix("sh\n").unwrap_or_else(|| panic!("no shell commands: {code}"));
        let stays = match prose.trim_end().lines().last() {
            Some("<!-- tour: stays -->") => true,
            Some("<!-- tour -->") => false,
            other => panic!("{other:?} marks no block of the tour: {commands}"),
        };
        blocks.push(Block { commands: commands.to_owned(), stays });
    }
    blocks
}

/// What runs in a terminal; ended when dropped, and what it started with it.
struct Terminal {
    process: Child,
    output: std::path::PathBuf,
}

impl Terminal {
    fn printed(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

/// A folder, and a port for each that the tour names.
struct Stranger {
    folder: TempDir,
    ports: Vec<(&'static str, u16)>,
}

impl Stranger {
    fn new() -> Self {
        let names = ["7777", "9777", "7778", "9778", "7779", "9779", "7780", "9780"];
        // All at once, so that they differ.
        let free = names.map(|name| (name, TcpListener::bind("127.0.0.1:0").unwrap()));
        let ports = free.iter().map(|(name, listener)| (*name, listener.local_addr().unwrap().port()));
        Self { folder: TempDir::new().unwrap(), ports: ports.collect() }
    }

    fn address(&self, name: &str) -> SocketAddr {
        let (_, port) = self.ports.iter().find(|(known, _)| *known == name).unwrap();
        SocketAddr::from(([127, 0, 0, 1], *port))
    }

    fn types(&self, number: usize, commands: &str) -> Terminal {
        let binary = Path::new(env!("CARGO_BIN_EXE_rookery")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        let commands = self
            .ports
            .iter()
            .fold(commands.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
        for place in commands.split("127.0.0.1:").skip(1) {
            let port: String = place.chars().take_while(char::is_ascii_digit).collect();
            assert!(
                self.ports.iter().any(|(_, free)| free.to_string() == port),
                "somebody else's port: {port}"
            );
        }
        let output = self.folder.path().join(format!("terminal-{number}"));
        let file = File::create(&output).unwrap();
        let process = Command::new("bash")
            .args(["-euc", &commands])
            .current_dir(&self.folder)
            .process_group(0)
            .env("PATH", path)
            .env_remove("RUST_LOG")
            .env_remove("ROOKERY_KEY")
            // What is kept beside the data is kept there, too.
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            // The ports that are not named because they are the defaults.
            .env("ROOKERY_LISTEN", self.address("7777").to_string())
            .env("ROOKERY_OPS_LISTEN", self.address("9777").to_string())
            .env("ROOKERY_RELAY", format!("ws://{}", self.address("7777")))
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Terminal { process, output }
    }
}

/// Types all blocks, each once the one before is done or has begun: what is left running, and what was printed.
async fn take(blocks: &[Block], stranger: &Stranger) -> (Vec<Terminal>, String) {
    let mut staying: Vec<Terminal> = Vec::new();
    let mut seen = String::new();
    for (number, block) in blocks.iter().enumerate() {
        let mut terminal = stranger.types(number, &block.commands);
        if !block.stays {
            let status = terminal.process.wait().unwrap();
            assert!(status.success(), "{}\n{}", block.commands, terminal.printed());
            seen += &terminal.printed();
            continue;
        }
        if block.commands.contains("watch") {
            let operators = stranger.address("9777");
            let read = |line: &str| {
                line.strip_prefix(r#"rookery_stage_seconds_count{stage="eose"} "#)
                    .is_some_and(|times| times != "0")
            };
            eventually("a subscription", || Relay::get(operators, "/metrics", "").1.lines().any(read)).await;
        } else {
            eventually("a relay that listens", || terminal.printed().contains("listening")).await;
        }
        staying.push(terminal);
    }
    for terminal in &mut staying {
        assert!(terminal.process.try_wait().unwrap().is_none(), "it ended: {}", terminal.printed());
    }
    (staying, seen)
}

#[tokio::test]
async fn the_tour_works_word_for_word() {
    let stranger = Stranger::new();
    let (staying, seen) = take(&tour("README.md", "A quick tour"), &stranger).await;
    // What was sent was watched, found by both queries, and found again in the other relay.
    assert!(seen.contains("accepted "), "{seen}");
    assert_eq!(seen.matches(r#""content":"hello #nostr""#).count(), 3, "{seen}");
    assert!(seen.contains("exported 1 events") && seen.contains("accepted 1, known already 0"), "{seen}");
    assert_eq!(seen.matches("nothing lost, doubled, refused or unanswered").count(), 2, "{seen}");
    let watched =
        || staying.iter().any(|terminal| terminal.printed().contains(r#""content":"hello #nostr""#));
    eventually("the note", watched).await;
}

#[tokio::test]
async fn so_does_that_of_relays_that_are_read() {
    let stranger = Stranger::new();
    let (_staying, seen) = take(&tour("docs/aggregator.md", "A tour"), &stranger).await;
    // Both were found in the relay that reads.
    assert_eq!(seen.matches(r#""content":"said before""#).count(), 1, "{seen}");
    assert!(seen.contains(r#""content":"said after""#), "{seen}");
    assert!(seen.contains("stored          ") && seen.contains(r#""fill":"#), "{seen}");
}

#[tokio::test]
async fn so_does_that_of_people_who_follow_each_other() {
    let stranger = Stranger::new();
    let (staying, seen) = take(&tour("docs/feed.md", "A tour"), &stranger).await;
    let deeds = ["signed in", "followed janitor", "signed out"].map(|deed| format!(r#""content":"{deed}""#));
    // Once in the feed, and once at a new socket.
    for deed in &deeds {
        assert_eq!(seen.matches(deed).count(), 2, "{deed}: {seen}");
    }
    assert_eq!(seen.matches("What is going on?").count(), 2, "{seen}");
    let watched = || staying.iter().find(|terminal| terminal.printed().contains(r#""kind":4227"#));
    eventually("three of them, live", || {
        watched().is_some_and(|seen| deeds.iter().all(|deed| seen.printed().contains(deed)))
    })
    .await;
    let printed = watched().unwrap().printed();
    let places: Vec<usize> = deeds.iter().map(|deed| printed.find(deed).unwrap()).collect();
    assert!(places.is_sorted() && printed.matches(r#""kind":4227"#).count() == 3, "{printed}");
}

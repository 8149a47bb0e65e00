//! CQL by TLS: what is stored through servers that take nothing else, and what is said where it does not work.

use std::{
    path::Path,
    process::{Command, Output},
};

use rookery::protocol::{Event, sign::Keys};
use serde_json::json;
use tokio::{io::AsyncReadExt, time::timeout};

use common::{
    PATIENCE, Relay,
    cassandra::{self, Guarded},
    fresh, relay_command, rookery,
    tls::Authority,
};

/// Settings for the command line.
fn settings(pairs: &[(&str, &Path)]) -> Vec<String> {
    let one =
        |(name, value): &(&str, &Path)| ["--set".to_owned(), format!("scylla.{name}={}", value.display())];
    pairs.iter().flat_map(one).collect()
}

/// The same, with TLS.
fn on(pairs: &[(&str, &Path)]) -> Vec<String> {
    [settings(&[("tls", Path::new("true"))]), settings(pairs)].concat()
}

fn apply(server: &str, keyspace: &str, settings: &[String]) -> Command {
    let mut command = rookery(&["schema", "apply", "--scylla", server, "--keyspace", keyspace]);
    command.args(settings);
    command.args(["--replication", "{'class': 'SimpleStrategy', 'replication_factor': 1}"]);
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    command
}

fn made(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// What it says of a link that cannot be made, in the one line of the error.
fn refused(mut command: Command, words: &str) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&said);
    assert!(output.status.code() == Some(1) && error.contains(words), "no {words:?}: {output:?}");
}

/// What one node stores the next finds, on what it reads from the servers.
async fn stores(server: &str, keyspace: &str, settings: &[String]) {
    let arguments = ["--scylla", server, "--keyspace", keyspace, "--workers", "1"].map(str::to_owned);
    let arguments = [&arguments[..], settings].concat();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let keys = Keys::generate();
    let events: Vec<Event> = (0..20).map(|n| fresh(&keys, &n.to_string())).collect();
    let node = Relay::start(&arguments);
    let mut client = node.connect().await;
    for event in &events {
        assert!(client.publish(event).await.0);
    }
    drop(node);
    let next = Relay::start(&arguments);
    let (found, _) = next.connect().await.request("s", &[json!({ "authors": [keys.public_key()] })]).await;
    assert_eq!(found.len(), events.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_may_take_tls_alone() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let server = Guarded::start(&authority.identity("127.0.0.1"), None);
    let (address, keyspace) = (&server.address, cassandra::new_name());
    let trusting = on(&[("tls_ca", &authority.file)]);
    made(&apply(address, &keyspace, &trusting).output().unwrap());
    stores(address, &keyspace, &trusting).await;
    // The authorities of the system, as for Redis.
    let mut by_system = apply(address, &keyspace, &on(&[]));
    made(&by_system.env("SSL_CERT_FILE", &authority.file).output().unwrap());
    by_system.env("SSL_CERT_FILE", &other.file);
    refused(
        by_system,
        "an authority that this system does not know; name a file with its certificate in scylla.tls_ca",
    );

    refused(apply(address, &keyspace, &[]), "do they want TLS (scylla.tls)?");
    let (unlike, namesake) = (on(&[("tls_ca", &other.file)]), Authority::new("ours"));
    let words = |authority: &Authority| {
        format!("of an authority that is not in {} (scylla.tls_ca)", authority.file.display())
    };
    refused(apply(address, &keyspace, &unlike), &words(&other));
    refused(apply(address, &keyspace, &on(&[("tls_ca", &namesake.file)])), &words(&namesake));
    let mut relay = relay_command(other.folder.path(), &["--scylla", address, "--keyspace", &keyspace]);
    relay.args(&unlike);
    refused(relay, &words(&other));
    let named = on(&[("tls_ca", &authority.file), ("tls_name", Path::new("cql.example.com"))]);
    refused(apply(address, &keyspace, &named), "not for cql.example.com (its names:");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_may_want_a_certificate_and_have_names_only() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let server = Guarded::start(&authority.identity("cql.example.com"), Some(&authority.file));
    let (address, keyspace) = (&server.address, cassandra::new_name());
    let (ours, theirs) = (authority.identity("node"), other.identity("node"));
    let named = [("tls_ca", &*authority.file), ("tls_name", Path::new("cql.example.com"))];
    let shown = |identity| on(&[&named[..], &[("tls_cert", identity), ("tls_key", identity)]].concat());
    made(&apply(address, &keyspace, &shown(&ours)).output().unwrap());
    stores(address, &keyspace, &shown(&ours)).await;

    refused(apply(address, &keyspace, &on(&named)), "do they want a certificate of us (scylla.tls_cert");
    let words = format!("do they accept our certificate {} (scylla.tls_cert)?", theirs.display());
    refused(apply(address, &keyspace, &shown(&theirs)), &words);
    let unnamed = on(&[named[0], ("tls_cert", &ours), ("tls_key", &ours)]);
    refused(apply(address, &keyspace, &unnamed), "not for 127.0.0.1 (its names:");
}

#[test]
fn plain_servers_are_told_from_others() {
    let authority = Authority::new("ours");
    let by_tls = on(&[("tls_ca", &authority.file)]);
    refused(apply(cassandra::server(), "any", &by_tls), "they speak no TLS there, which scylla.tls asks for");
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let authority = Authority::new("ours");
    let folder = authority.folder.path();
    let (missing, text, broken) = (folder.join("missing"), folder.join("text"), folder.join("broken"));
    std::fs::write(&text, "no certificate").unwrap();
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let (one, two, ca) = (authority.identity("one"), authority.identity("two"), ("tls_ca", &*authority.file));
    // Nobody listens there: it is said before anybody is asked.
    let refused = |settings: &[String], words: &str| refused(apply("127.0.0.1:1", "any", settings), words);
    let named = |file: &Path, setting: &str| format!("{} (scylla.{setting})", file.display());
    refused(
        &on(&[("tls_ca", &missing)]),
        &format!("cannot read {}: No such file", named(&missing, "tls_ca")),
    );
    refused(&on(&[("tls_ca", &text)]), &format!("{} has no certificate in PEM", named(&text, "tls_ca")));
    refused(&on(&[("tls_ca", &broken)]), &named(&broken, "tls_ca"));
    refused(&on(&[ca, ("tls_cert", &one)]), "scylla.tls_cert is set, and scylla.tls_key is not");
    refused(&on(&[ca, ("tls_key", &one)]), "scylla.tls_key is set, and scylla.tls_cert is not");
    let no_key = named(&authority.file, "tls_key") + " has no private key";
    refused(&on(&[ca, ("tls_cert", &one), ("tls_key", &authority.file)]), &no_key);
    let unlike = format!("cannot use {} with {}", named(&one, "tls_cert"), named(&two, "tls_key"));
    refused(&on(&[ca, ("tls_cert", &one), ("tls_key", &two)]), &unlike);
    refused(&on(&[ca, ("tls_name", Path::new("not a name"))]), "scylla.tls_name \"not a name\" is no name");
    refused(&settings(&[ca]), "without scylla.tls = true");
}

/// Only where nothing is between the node and the servers.
#[test]
fn a_password_that_goes_as_it_is_is_warned_about() {
    let warned = |server: &str, settings: &[String]| {
        let mut command = apply(server, "any", settings);
        command.args(["--set", "scylla.user=u", "--set", "scylla.password=secret"]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !said.contains("secret"), "{said}");
        said.contains("the password goes to the CQL servers as it is")
    };
    // No such host is there, and the name is never to be one.
    let elsewhere = "cql.invalid:9042";
    assert!(warned(elsewhere, &[]));
    assert!(!warned(elsewhere, &on(&[("tls_ca", &Authority::new("ours").file)])));
    assert!(!warned("127.0.0.1:1", &[]));
}

/// Of the two providers that are compiled in, every link finds the one that was decided, or it would panic.
#[tokio::test(flavor = "multi_thread")]
async fn every_link_by_tls_finds_its_provider() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // The first byte of TLS is that of a handshake; that is all that is waited for.
    let heard = async |link: &str| {
        let first = timeout(PATIENCE, async { listener.accept().await.unwrap().0.read_u8().await.unwrap() });
        assert_eq!(first.await.ok(), Some(22), "{link}");
    };
    let mut query = rookery(&["query", "--relay", &format!("wss://{address}")]);
    let asking = std::thread::spawn(move || query.output().unwrap());
    heard("wss").await;
    let said = asking.join().unwrap();
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    for (name, value) in [
        ("--otlp", format!("https://{address}/v1/traces")),
        ("--otlp", format!("https://{address}")),
        ("--redis", format!("rediss://{address}")),
    ] {
        let relay = Relay::start(&[name, &value, "--set", "traces.ratio=1"]);
        drop(relay.connect().await);
        heard(&value).await;
    }
}

//! The page, as far as it is made without a browser: what is answered, in which words, and to whom. What a browser makes
//! of it stands in `web/tests/`.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use common::{Client, PATIENCE, Relay, note, now};
use rookery::protocol::{Event, EventId, Tags, nip19, sign::Keys};
use serde_json::{Value, json};

/// What browsers take.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next()
            .unwrap_or("")
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

fn get(relay: &Relay, path: &str, headers: &str) -> Answer {
    get_as(relay, path, "elmwood.example", headers)
}

/// What a form of the page sends, and the answer.
fn post(relay: &Relay, path: &str, cookie: &str, body: &str) -> String {
    send(relay, path, cookie, "application/x-www-form-urlencoded", body)
}

/// What the script of the page sends, and what is answered.
fn post_json(relay: &Relay, path: &str, cookie: &str, body: &Value) -> Value {
    let answer = send(relay, path, cookie, "application/json", &body.to_string());
    assert!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

fn send(relay: &Relay, path: &str, cookie: &str, media_type: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(relay.clients).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (host, length) = (relay.clients, body.len());
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nOrigin: http://{host}\r\nCookie: {cookie}\r\n\
         Content-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get_as(relay: &Relay, path: &str, host: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(relay.clients).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = answer[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = Vec::new();
        let mut rest = &answer[end + 4..];
        while let Some(line) = rest.windows(2).position(|two| two == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            body.extend_from_slice(&rest[line + 2..line + 2 + size]);
            rest = &rest[line + 2 + size + 2..];
            if size == 0 {
                break;
            }
        }
    }
    Answer { status, head, body }
}

async fn publish(client: &mut Client, event: &Event) {
    let (accepted, said) = client.publish(event).await;
    assert!(accepted, "{said}");
}

#[tokio::test]
async fn a_browser_gets_the_page_and_nobody_else_does() {
    let relay = Relay::start(&[]);
    let page = get(&relay, "/", BROWSER);
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "font-src 'none'",
        "worker-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ] {
        assert!(policy.split("; ").any(|found| found == part), "{part} is not in {policy}");
    }
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cross-origin-opener-policy"), "same-origin");
    assert_eq!(page.header("cross-origin-resource-policy"), "same-origin");
    assert!(page.header("access-control-allow-origin").is_empty(), "{}", page.head);

    for (accept, media_type) in [
        ("Accept: */*\r\n", "text/plain; charset=utf-8"),
        ("", "text/plain; charset=utf-8"),
        ("Accept: application/nostr+json, text/html\r\n", "application/nostr+json"),
    ] {
        let answer = get(&relay, "/", accept);
        assert_eq!(answer.header("content-type"), media_type, "{accept}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
    let relay = Relay::start(&["--set", "page.enabled=false"]);
    assert_eq!(get(&relay, "/", BROWSER).header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(get(&relay, "/eggs/00.svg", BROWSER).status, 404);
}

#[test]
fn where_nothing_is_a_browser_is_told_so_and_a_program_gets_the_status() {
    let relay = Relay::start(&["--set", "info.name=Elmwood"]);
    for path in ["/nowhere", "/a/b", "/naddr1qqqq", "/page/nothing.js", "/eggs/quill.svg"] {
        let page = get(&relay, path, BROWSER);
        assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"), "{path}");
        assert!(page.text().contains("There is nothing at this address."), "{path}");
        assert!(page.text().contains(r#"<a href="/">To the front page</a>"#), "{path}");
        assert!(page.header("content-security-policy").contains("default-src 'none'"), "{path}");
        assert!(page.header("vary").contains("Accept"), "{path}");
        for accept in ["", "Accept: */*\r\n", "Accept: application/json\r\n"] {
            let answer = get(&relay, path, accept);
            assert_eq!((answer.status, answer.body.len()), (404, 0), "{path} {accept}");
            assert_eq!(answer.header("cache-control"), "no-store", "{path} {accept}");
        }
    }
    // Only what is asked for has a page.
    let posted = post(&relay, "/nowhere", "a=b", "");
    assert!(posted.starts_with("HTTP/1.1 404") && !posted.contains("<html"), "{posted}");
    // What programs ask answers in their words, whoever asks.
    assert_eq!(get(&relay, "/v1/nowhere", BROWSER).header("content-type"), "application/problem+json");
    let without = Relay::start(&["--set", "page.enabled=false"]);
    assert!(get(&without, "/nowhere", BROWSER).body.is_empty());
}

#[tokio::test]
async fn its_files_may_be_kept_for_ever_and_come_packed() {
    let relay = Relay::start(&[]);
    let page = get(&relay, "/", BROWSER);
    let script = page.text().split("src=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let plain = get(&relay, &script, "");
    assert_eq!(plain.status, 200);
    assert_eq!(plain.header("content-type"), "text/javascript; charset=utf-8");
    assert!(plain.header("cache-control").contains("immutable"));
    let packed = get(&relay, &script, "Accept-Encoding: br, gzip\r\n");
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert_eq!(packed.header("vary"), "Accept-Encoding");
    // What the page promises to those with a slow line.
    assert!(packed.body.len() <= 100 * 1024, "{} bytes of script", packed.body.len());
    assert!(packed.body.len() < plain.body.len() / 2);
    assert_eq!(get(&relay, "/page/app-0000000000000000.js", "").status, 404);
    assert_eq!(get(&relay, "/page/../Cargo.toml", "").status, 404);
    let key = Keys::generate().public_key();
    let egg = get(&relay, &format!("/eggs/{key}.svg"), "");
    assert_eq!((egg.status, egg.header("content-type")), (200, "image/svg+xml"));
    assert_eq!(get(&relay, "/eggs/quill.svg", "").status, 404);
}

#[tokio::test]
async fn what_came_from_the_network_is_nothing_but_text() {
    let relay = Relay::start(&["--set", "page.public=all", "--set", "info.name=<b>Elm\" onload=x"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let evil = r#"</script><script>alert(1)</script><img src=x onerror=alert(1)>" onmouseover="alert(1) javascript:alert(1)"#;
    let about = json!({ "name": evil, "about": evil }).to_string();
    let profile = keys.sign(now(), 0, Tags::default(), &about);
    publish(&mut client, &profile).await;
    let post = note(&keys, now(), evil);
    publish(&mut client, &post).await;
    for path in [
        "/".to_owned(),
        format!("/{}", nip19::npub(&keys.public_key())),
        format!("/{}", nip19::note(&post.id())),
    ] {
        let page = get(&relay, &path, BROWSER);
        assert_eq!(page.status, 200, "{path}");
        let text = page.text();
        assert!(text.contains("&lt;img src=x"), "{path}");
        for markup in
            ["<img src=x", "<script>", "<b>Elm", "href=\"javascript:", "\" onmouseover=\"", "\" onload"]
        {
            assert!(!text.contains(markup), "{path} has {markup}");
        }
    }
}

#[tokio::test]
async fn strangers_see_what_strangers_may_read() {
    let relay = Relay::start(&["--set", "page.public=all"]);
    let mut client = relay.connect().await;
    let (author, friend) = (Keys::generate(), Keys::generate());
    let to_friend: Tags = Tags::from_iter([["p", &friend.public_key().to_hex()[..]]]);
    let letter = author.sign(now(), 4, to_friend, "a secret");
    publish(&mut client, &letter).await;
    let warned: Tags = Tags::from_iter([["content-warning", "spider"]]);
    let spider = author.sign(now(), 1, warned, "eight legs");
    publish(&mut client, &spider).await;
    let gone = note(&author, now(), "gone again");
    publish(&mut client, &gone).await;
    let request: Tags = Tags::from_iter([["e", &gone.id().to_hex()[..]]]);
    publish(&mut client, &author.sign(now(), 5, request, "")).await;

    let page = |path: &str| get(&relay, path, BROWSER);
    let front = page("/");
    assert!(!front.text().contains("eight legs") && !front.text().contains("gone again"));
    for hidden in [nip19::note(&letter.id()), nip19::note(&gone.id()), nip19::npub(&friend.public_key())] {
        let answer = page(&format!("/{hidden}"));
        assert_eq!(answer.status, 404, "{hidden}");
        assert!(!answer.text().contains("secret"));
    }
    // The preview of a post is its warning.
    let answer = page(&format!("/{}", nip19::note(&spider.id())));
    assert_eq!((answer.status, answer.header("cache-control")), (200, "max-age=30"));
    assert!(answer.text().contains(r#"<meta property="og:description" content="Content warning: spider">"#));
    assert_eq!(page("/npub1qqqqqq").status, 404);

    // The page is no way around what everybody has to show.
    let public = note(&author, now(), "in the open");
    publish(&mut client, &public).await;
    assert!(page("/").text().contains("in the open"));
    drop(client);
    let relay = relay.restart_after_kill(&["--set", "page.public=all", "--set", "limits.auth_required=true"]);
    for path in [
        "/".to_owned(),
        format!("/{}", nip19::note(&public.id())),
        format!("/{}", nip19::npub(&author.public_key())),
    ] {
        let answer = get(&relay, &path, BROWSER);
        assert_eq!(answer.status, if path == "/" { 200 } else { 404 }, "{path}");
        assert!(!answer.text().contains("in the open"), "{path}");
    }

    let closed = Relay::start(&["--set", "page.public=none"]);
    publish(&mut closed.connect().await, &note(&author, now(), "among ourselves")).await;
    assert!(!get(&closed, "/", BROWSER).text().contains("among ourselves"));
}

#[tokio::test]
async fn an_address_asks_the_store_so_often_and_no_more() {
    let relay = Relay::start(&["--set", "trusted_proxy=[\"127.0.0.1\"]", "--set", "page.public=all"]);
    publish(&mut relay.connect().await, &note(&Keys::generate(), now(), "hello")).await;
    let from = |from: &str| get(&relay, "/", &format!("{BROWSER}X-Forwarded-For: {from}\r\n"));
    let refused = (0..60).map(|_| from("203.0.113.7")).find(|answer| answer.status != 200).expect("refused");
    assert_eq!(refused.status, 429);
    // The browser asks again by itself.
    let seconds = refused.header("Refresh");
    assert!((2..=6).contains(&seconds.parse().unwrap()) && refused.header("Retry-After") == seconds);
    assert!(refused.text().contains("This page is loaded again in a few seconds."));
    assert_eq!(from("203.0.113.8").status, 200);
}

#[test]
fn the_theme_stands_in_the_first_answer() {
    let relay = Relay::start(&[]);
    let html = |cookie: &str| {
        let page = get(&relay, "/", &format!("{BROWSER}Cookie: a=b; rookery-theme={cookie}\r\n"));
        page.text().split("<html").nth(1).unwrap().split('>').next().unwrap().to_owned()
    };
    assert_eq!(html("dark"), r#" lang="en" data-theme="dark""#);
    assert_eq!(html("light"), r#" lang="en" data-theme="light""#);
    assert_eq!(html("\"><script>"), r#" lang="en""#);
}

/// Somebody who has signed up by the form of the page: the cookie.
fn sign_up(relay: &Relay, name: &str) -> String {
    let body = format!("username={name}&password=correct+horse+battery&activity=nobody");
    let answer = post(relay, "/v1/auth/sign-up", "a=b", &body);
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    let line = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: rookery="));
    line.unwrap().split(' ').nth(1).unwrap().trim_end_matches(';').to_owned()
}

#[tokio::test]
async fn the_front_page_is_of_people_with_accounts_and_the_feed_of_whoever_shows_the_cookie() {
    let relay = Relay::start(&[]);
    let host = relay.clients;
    let page = |path: &str, cookie: &str| {
        let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        get_as(&relay, path, &host.to_string(), &format!("{BROWSER}{cookie}"))
    };
    let (quill, nettle) = (sign_up(&relay, "quill"), sign_up(&relay, "nettle"));
    publish(&mut relay.connect().await, &note(&Keys::generate(), now(), "of a stranger")).await;
    let said = post(&relay, "/v1/posts", &quill, "content=the+tide+is+out");
    assert!(said.starts_with("HTTP/1.1 303"), "{said}");

    // Strangers see what people with accounts here say.
    let front = page("/", "");
    assert!(front.text().contains("the tide is out") && !front.text().contains("of a stranger"));
    assert!(front.text().contains("Sign up"));
    // Each their own feed, which no cache keeps for others.
    let own = page("/", &quill);
    assert!(own.text().contains("the tide is out") && own.text().contains(r#"aria-label="Write a post""#));
    assert_eq!(own.header("cache-control"), "private, no-cache");
    assert!(own.header("vary").contains("Cookie"));
    assert!(!page("/", &nettle).text().contains("the tide is out"));
    // A token stands in no document.
    let token = quill.split_once('=').unwrap().1;
    assert!(token.len() > 20 && !own.text().contains(token));
    // What is not good any more is nobody's.
    let forged = page("/", "rookery=eyJhbGciOiJub25lIn0.eyJzdWIiOiJxdWlsbCJ9.");
    assert!(forged.text().contains("Sign up"));
    assert!(page("/settings", "").text().contains("With a password"));
    assert!(page("/join", "").text().contains("Create account"));
    assert_eq!(page("/reset", "").status, 200);

    let without = Relay::start(&["--set", "accounts.enabled=false"]);
    assert_eq!(get(&without, "/sign-up", BROWSER).status, 404);
}

#[test]
fn the_first_answer_leaves_out_whom_somebody_has_muted() {
    let relay = Relay::start(&[]);
    let host = relay.clients.to_string();
    let [quill, crow] = ["quill", "crow"].map(|name| sign_up(&relay, name));
    let page = |path: &str| {
        let answer = get_as(&relay, path, &host, &format!("{BROWSER}Cookie: {quill}\r\n"));
        assert_eq!(answer.status, 200, "{path}");
        answer.text().to_owned()
    };
    let asked = post_json(&relay, "/v1/posts", &quill, &json!({ "content": "who is awake" }));
    let asked = asked["event"]["id"].as_str().unwrap();
    let thread = format!("/{}", nip19::note(&EventId::from_hex(asked).unwrap()));
    post_json(&relay, "/v1/friends/crow", &quill, &json!({}));
    let answer = json!({ "content": "caw", "tags": [["e", asked, "", "root"]] });
    post_json(&relay, "/v1/posts", &crow, &answer);
    assert!(page("/").contains("caw") && page(&thread).contains("caw"));
    post_json(&relay, "/v1/mutes/crow", &quill, &json!({}));
    for path in ["/", &thread] {
        let page = page(path);
        assert!(page.contains("who is awake") && !page.contains("caw"), "{path}");
    }
}

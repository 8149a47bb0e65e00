//! What is said: stored once and as it was said, or refused.

use common::{Relay, now};
use serde_json::{Value, json};

use super::{Here, contents};

#[tokio::test]
async fn what_is_said_is_stored_once_and_heard_by_any_client() {
    let relay = Relay::start(&[]);
    let quill = Here::sign_up(&relay, "quill", "nobody");
    let mut client = relay.connect().await;
    client.say(json!(["REQ", "live", { "authors": [quill.id], "kinds": [1, 5, 7], "limit": 0 }])).await;
    client.hear_stored("live").await;
    let at = now();
    let post =
        json!({ "content": "hello \u{1f30a}", "created_at": at, "tags": [["content-warning", "waves"]] });
    let first = quill.ask("POST", "/v1/posts", Some(&post));
    let again = quill.ask("POST", "/v1/posts", Some(&post));
    assert_eq!((first.status, again.status, &again.body["duplicate"]), (201, 200, &json!(true)));
    assert_eq!(first.body["event"], again.body["event"]);
    let event = &first.body["event"];
    assert_eq!((&event["pubkey"], &event["tags"]), (&json!(quill.id), &post["tags"]));
    assert_eq!(client.hear().await[2], *event);
    let id = event["id"].as_str().unwrap();
    let reaction = json!({ "kind": 7, "content": "+", "tags": [["e", id], ["p", quill.id]] });
    assert_eq!(quill.ask("POST", "/v1/posts", Some(&reaction)).status, 201);
    assert_eq!(client.hear().await[2]["kind"], 7);
    for _ in 0..2 {
        assert_eq!(quill.ask("DELETE", &format!("/v1/posts/{id}"), None).status, 204);
    }
    assert_eq!(client.hear().await[2]["tags"][0], json!(["e", id]));
    let (left, _) = client.request("left", &[json!({ "authors": [quill.id], "kinds": [1] })]).await;
    assert!(left.is_empty());
    // Sent again after it was deleted, it is refused in the words of the relay.
    let refused = quill.ask("POST", "/v1/posts", Some(&post));
    assert_eq!(refused.problem(), (422, "refused"));
    assert!(refused.body["detail"].as_str().unwrap().starts_with("blocked: "), "{}", refused.body);
}

#[tokio::test]
async fn what_lies_is_refused() {
    let relay = Relay::start(&[]);
    let [quill, rook] = ["quill", "rook"].map(|name| Here::sign_up(&relay, name, "nobody"));
    let of_rook = rook.say("mine");
    let id = of_rook["id"].as_str().unwrap();
    let post = |post: Value| quill.ask("POST", "/v1/posts", Some(&post));
    for (field, unfit) in [
        ("content", json!({ "content": "  " })),
        ("kind", json!({ "content": "x", "kind": 3 })),
        ("kind", json!({ "content": "x", "kind": 4227 })),
        ("pubkey", json!({ "content": "x", "pubkey": rook.id })),
        ("id", json!({ "content": "x", "id": id })),
        ("tags", json!({ "content": "x", "tags": [["p", "nobody"]] })),
        ("tags", json!({ "content": "x", "kind": 6 })),
        ("created_at", json!({ "content": "x", "created_at": now() - 3_600 })),
        ("created_at", json!({ "content": "x", "created_at": now() + 3_600 })),
    ] {
        let answer = post(unfit);
        assert_eq!(
            (answer.problem(), answer.body["field"].as_str()),
            ((400, "unfit"), Some(field)),
            "{}",
            answer.body
        );
    }
    for broken in
        [json!([]), json!({ "content": 7 }), json!({ "tags": [] }), json!({ "content": "x", "kind": -1 })]
    {
        assert_eq!(post(broken).problem(), (400, "unfit"));
    }
    assert_eq!(quill.ask("DELETE", &format!("/v1/posts/{id}"), None).problem(), (403, "not-yours"));
    let list = rook.follow("quill")["version"].as_str().unwrap().to_owned();
    assert_eq!(rook.ask("DELETE", &format!("/v1/posts/{list}"), None).problem(), (400, "unfit"));
    let unknown = "00".repeat(32);
    for (method, path) in [
        ("DELETE", format!("/v1/posts/{unknown}")),
        ("GET", format!("/v1/posts/{unknown}/thread")),
        ("GET", "/v1/posts/x/thread".to_owned()),
        ("POST", "/v1/friends/nobody-here".to_owned()),
        ("POST", "/v1/friends/..%2f..%2fetc".to_owned()),
        ("POST", format!("/v1/friends/history/{unknown}")),
    ] {
        assert_eq!(quill.ask(method, &path, None).problem(), (404, "not-found"), "{path}");
    }
    assert_eq!(quill.ask("POST", "/v1/friends/quill", None).problem(), (400, "unfit"));
    for (field, path) in [
        ("before", "/v1/feed?before=1"),
        ("before", "/v1/feed?before=-1:00"),
        ("after", "/v1/feed?after=1:xyz"),
        ("limit", "/v1/feed?limit=abc"),
        ("count", "/v1/feed?limit=5&count=many"),
        ("limit", "/v1/users?q=a&limit=-1"),
        ("limit", "/v1/notifications?limit="),
        ("confirm", "/v1/friends/rook?confirm=x"),
    ] {
        let method = if field == "confirm" { "POST" } else { "GET" };
        let answer = quill.ask(method, path, None);
        assert_eq!((answer.problem(), &answer.body["field"]), ((400, "unfit"), &json!(field)), "{path}");
    }
    // Without a token nobody is told anything.
    for path in [
        "/v1/feed",
        "/v1/friends",
        "/v1/friends/history",
        "/v1/mutes",
        "/v1/notifications",
        "/v1/users",
        "/v1/profile",
    ] {
        assert_eq!(Relay::get(relay.clients, path, "").0, 401, "{path}");
    }
}

#[tokio::test]
async fn what_is_said_comes_back_as_it_was_said() {
    let relay = Relay::start(&[]);
    let [quill, rook] = ["quill", "rook"].map(|name| Here::sign_up(&relay, name, "nobody"));
    rook.follow("quill");
    let said = [
        "<script>alert(1)</script>".to_owned(),
        r#""}],"EVENT":[{"#.to_owned(),
        "\u{0}\u{7f}\u{202e}\u{2028}'; DROP TABLE events --".to_owned(),
        "\u{1f426}".repeat(20_000),
    ];
    for (nth, content) in said.iter().enumerate() {
        let post = json!({ "content": content, "created_at": now() - 10 + nth as u64 });
        quill.ask("POST", "/v1/posts", Some(&post)).ok();
    }
    quill.ask("PUT", "/v1/profile", Some(&json!({ "name": "</b>\u{202e}\u{0}x".repeat(100) }))).ok();
    let feed = rook.get("/v1/feed");
    assert_eq!(contents(&feed), said.iter().rev().collect::<Vec<_>>());
    let name = feed["profiles"][&quill.id]["name"].as_str().unwrap();
    assert!(name.starts_with("</b>x</b>x") && name.chars().count() == 80, "{name}");
    // Too long for this relay, in its words, and for REST.
    let long = quill.ask("POST", "/v1/posts", Some(&json!({ "content": "x".repeat(300_000) })));
    assert_eq!(long.status / 100, 4);
}

//! What accounts say and see, by REST and by sockets.

mod friends;
mod posts;

use common::{Client, Relay, now, people::Person};
use rookery::protocol::{Tags, sign::Keys};
use serde_json::{Value, json};

/// What somebody's program is answered.
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.body);
        self.body
    }

    fn problem(&self) -> (u16, &str) {
        (self.status, self.body["type"].as_str().unwrap_or_default().rsplit(':').next().unwrap())
    }
}

/// Somebody who is signed in at a relay.
struct Here<'r> {
    relay: &'r Relay,
    person: Person,
    /// The public key.
    id: String,
}

impl<'r> Here<'r> {
    fn sign_up(relay: &'r Relay, name: &str, activity: &str) -> Self {
        let person = relay.sign_up_with(name, json!({ "activity": activity, "listed": true }));
        Self { relay, id: person.key.clone(), person }
    }

    fn sign_in(&self) -> Self {
        let person = self.relay.sign_in(&self.person.name);
        Self { relay: self.relay, id: person.key.clone(), person }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let answer = self.person.ask(self.relay, method, path, body.cloned().unwrap_or_default());
        Answer { status: answer.status, body: serde_json::from_str(&answer.body).unwrap_or_default() }
    }

    fn get(&self, path: &str) -> Value {
        self.ask("GET", path, None).ok()
    }

    fn follow(&self, user: &str) -> Value {
        self.ask("POST", &format!("/v1/friends/{user}"), None).ok()
    }

    fn say(&self, content: &str) -> Value {
        self.ask("POST", "/v1/posts", Some(&json!({ "content": content }))).ok()["event"].take()
    }

    async fn socket(&self) -> Client {
        self.person.connect(self.relay).await
    }
}

fn contents(page: &Value) -> Vec<&str> {
    page["events"].as_array().unwrap().iter().map(|event| event["content"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_feed_is_what_those_say_whom_one_follows_page_by_page() {
    let relay = Relay::start(&[]);
    let [quill, rook, other] = ["quill", "rook", "other"].map(|name| Here::sign_up(&relay, name, "nobody"));
    quill.follow("rook");
    other.say("not followed");
    let at = now();
    // Many of one second: pages go on after an event, not after a second.
    let mut said: Vec<String> = (0..7).map(|nth| format!("r{nth}")).collect();
    for content in &said {
        rook.ask("POST", "/v1/posts", Some(&json!({ "content": content, "created_at": at }))).ok();
    }
    quill.ask("POST", "/v1/posts", Some(&json!({ "content": "own", "created_at": at }))).ok();
    said.push("own".to_owned());
    let whole = quill.get("/v1/feed?limit=100");
    let (mut paged, mut before) = (Vec::<Value>::new(), None::<String>);
    loop {
        let before_text = before.map(|before| format!("&before={before}")).unwrap_or_default();
        let page = quill.get(&format!("/v1/feed?limit=3{before_text}"));
        paged.extend(page["events"].as_array().unwrap().iter().cloned());
        before = page["next"].as_str().map(str::to_owned);
        if before.is_none() {
            break;
        }
    }
    assert_eq!(json!(paged), whole["events"]);
    let mut found = contents(&whole);
    found.sort_unstable();
    said.sort_unstable();
    assert_eq!(found, said);
    assert_eq!(whole["profiles"][&rook.id], json!({ "name": "rook", "username": "rook" }));
    // A gap between two of them: what is in it, and how many.
    let place = |nth: usize| format!("{}:{}", paged[nth]["created_at"], paged[nth]["id"].as_str().unwrap());
    let gap = quill.get(&format!("/v1/feed?after={}&before={}&count=1", place(6), place(2)));
    assert_eq!(gap["events"], json!(paged[3..6]));
    assert_eq!(gap["count"], json!({ "number": 3, "isMore": false }));
}

#[tokio::test]
async fn a_thread_holds_notes_and_nothing_that_is_private() {
    let relay = Relay::start(&[]);
    let [quill, rook] = ["quill", "rook"].map(|name| Here::sign_up(&relay, name, "nobody"));
    let root = quill.say("root");
    let id = root["id"].as_str().unwrap();
    let answer = json!({ "content": "answer", "tags": [["e", id, "", "root"], ["p", quill.id]] });
    let answer = rook.ask("POST", "/v1/posts", Some(&answer)).ok()["event"].take();
    let answer_id = answer["id"].as_str().unwrap();
    // A private message that says that it is part of the thread.
    let stranger = Keys::generate();
    let tags = Tags::from_iter([["e", id], ["p", &rook.id]]);
    let private = stranger.sign(now(), 4, tags, "secret");
    let mut client = relay.connect().await;
    assert!(client.publish(&private).await.0);
    let naming =
        json!({ "content": "names it", "tags": [["e", private.id().to_hex()], ["e", id, "", "reply"]] });
    let naming = quill.ask("POST", "/v1/posts", Some(&naming)).ok()["event"].take();
    for person in [&quill, &rook] {
        for id in [id, answer_id, naming["id"].as_str().unwrap()] {
            let thread = person.get(&format!("/v1/posts/{id}/thread"));
            assert!(!thread.to_string().contains("secret"), "{thread}");
            assert!(contents(&thread).contains(&"root"), "{thread}");
        }
        let hidden = person.ask("GET", &format!("/v1/posts/{}/thread", private.id()), None);
        assert_eq!(hidden.problem(), (404, "not-found"));
    }
    assert_eq!(contents(&quill.get(&format!("/v1/posts/{answer_id}/thread"))).len(), 3);
    let notices = quill.get("/v1/notifications");
    assert_eq!((contents(&notices), &notices["read"]), (vec!["answer"], &Value::Null));
    let read = format!("{}:{answer_id}", answer["created_at"]);
    quill.ask("POST", "/v1/notifications/read", Some(&json!({ "read": read }))).ok();
    quill.ask("POST", "/v1/notifications/read", Some(&json!({ "read": format!("1:{answer_id}") }))).ok();
    assert_eq!(quill.get("/v1/notifications")["read"], json!(read));
}

/// Whom somebody has muted is in none of their answers, and in everybody else's.
#[tokio::test]
async fn who_is_muted_is_not_heard_of() {
    let relay = Relay::start(&[]);
    let [quill, rook, loud] = ["quill", "rook", "loud"].map(|name| Here::sign_up(&relay, name, "nobody"));
    for friend in ["rook", "loud"] {
        quill.follow(friend);
    }
    let root = quill.say("root");
    let id = root["id"].as_str().unwrap();
    let answer = |who: &Here, content: &str| {
        let tags = json!([["e", id, "", "root"], ["p", quill.id]]);
        who.ask("POST", "/v1/posts", Some(&json!({ "content": content, "tags": tags }))).ok()["event"].take()
    };
    answer(&rook, "kind words");
    let noise = answer(&loud, "NOISE");
    let repost = json!({ "kind": 6, "content": "", "tags": [["e", noise["id"]], ["p", loud.id]] });
    rook.ask("POST", "/v1/posts", Some(&repost)).ok();
    let seen = || {
        let feed = quill.get("/v1/feed?limit=100&count=1");
        assert_eq!(feed["count"]["number"], feed["events"].as_array().unwrap().len());
        let thread = quill.get(&format!("/v1/posts/{id}/thread"));
        let notices = quill.get("/v1/notifications?limit=1");
        [&feed, &thread, &notices].map(|page| page["events"].as_array().unwrap().len())
    };
    let all = seen();
    assert_eq!((all, quill.get("/v1/mutes")), ([4, 3, 1], json!({ "mutes": [] })));
    for name in ["loud", &loud.id, quill.get("/v1/users/loud")["npub"].as_str().unwrap()] {
        let muted = quill.ask("POST", &format!("/v1/mutes/{name}"), None).ok();
        assert_eq!((&muted["userId"], &muted["username"]), (&json!(loud.id), &json!("loud")));
    }
    let mutes = quill.get("/v1/mutes")["mutes"].take();
    assert_eq!((mutes.as_array().unwrap().len(), &mutes[0]["username"]), (1, &json!("loud")));
    // Their answer and the repost of it are gone.
    assert_eq!(seen(), [2, 2, 1]);
    assert_eq!(contents(&quill.get("/v1/notifications")), ["kind words"]);
    assert!(!quill.get(&format!("/v1/posts/{id}/thread")).to_string().contains("NOISE"));
    // What is asked for by name is there.
    assert_eq!(contents(&quill.get("/v1/users/loud/posts")), ["NOISE"]);
    assert!(rook.get(&format!("/v1/posts/{id}/thread")).to_string().contains("NOISE"));
    // It is a list that any client reads, and what others wrote into it stays.
    let mut client = relay.connect().await;
    let wanted = [json!({ "authors": [quill.id], "kinds": [10_000] })];
    client.say(json!(["REQ", "list", wanted[0]])).await;
    assert_eq!(client.hear().await[2]["tags"], json!([["p", loud.id]]));
    for _ in 0..2 {
        quill.ask("DELETE", "/v1/mutes/loud", None).ok();
    }
    assert_eq!(seen(), all);
    assert_eq!(quill.ask("POST", "/v1/mutes/quill", None).problem(), (400, "unfit"));
    assert_eq!(quill.ask("POST", "/v1/mutes/nobody-here", None).problem(), (404, "not-found"));
}

#[tokio::test]
async fn people_are_found_who_want_to_be_and_profiles_keep_what_is_not_named() {
    let relay = Relay::start(&[]);
    let quill = Here::sign_up(&relay, "quill", "nobody");
    let _listed = Here::sign_up(&relay, "quentin", "nobody");
    let hidden = Here::sign_up(&relay, "quiet", "nobody");
    hidden.ask("PUT", "/v1/settings", Some(&json!({ "listed": false }))).ok();
    let found = |q: &str| -> Vec<String> {
        let users = quill.get(&format!("/v1/users?q={q}"));
        users["users"]
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["username"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(found("qu"), ["quentin", "quill"]);
    assert_eq!(found("QUILL@elmwood.example"), ["quill"]);
    assert_eq!(found("quiet"), Vec::<String>::new());
    assert_eq!(quill.get("/v1/users/quiet")["userId"], json!(hidden.id));
    let put = |body: Value| quill.ask("PUT", "/v1/profile", Some(&body)).ok();
    put(json!({ "about": "\u{202e}turned", "lud16": "a@b" }));
    assert_eq!(
        put(json!({ "name": "Quill" })),
        json!({ "name": "Quill", "about": "\u{202e}turned", "lud16": "a@b" })
    );
    assert_eq!(put(json!({ "lud16": null })), quill.get("/v1/profile"));
    let shown = hidden.get("/v1/users/quill");
    assert_eq!((&shown["name"], &shown["about"]), (&json!("Quill"), &json!("turned")));
}

#[tokio::test]
async fn what_somebody_has_done_is_told_to_those_whom_they_chose() {
    let relay = Relay::start(&[]);
    let [janitor, tester, tester2] =
        [("janitor", "nobody"), ("tester", "followers"), ("tester2", "followers")]
            .map(|(name, activity)| Here::sign_up(&relay, name, activity));
    tester.follow("tester2");
    let mut socket = tester.socket().await;
    let wanted = json!({ "kinds": [4227], "authors": [tester2.id] });
    assert_eq!(socket.request("live", std::slice::from_ref(&wanted)).await.0, Vec::<String>::new());
    let again = tester2.sign_in();
    again.follow("janitor");
    assert_eq!(again.ask("POST", "/v1/auth/sign-out", None).status, 204);
    let mut live = Vec::new();
    for _ in 0..3 {
        let [verb, id, event] = serde_json::from_value::<[Value; 3]>(socket.hear().await).unwrap();
        assert_eq!((verb, id), (json!("EVENT"), json!("live")));
        live.push(event);
    }
    let words: Vec<&str> = live.iter().map(|event| event["content"].as_str().unwrap()).collect();
    assert_eq!(words, ["signed in", "followed janitor", "signed out"]);
    live.reverse();
    assert_eq!(tester.get("/v1/feed")["events"], json!(live));
    let ids: Vec<&str> = live.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(tester.socket().await.request("new", std::slice::from_ref(&wanted)).await.0, ids);
    // Who does not follow sees none, nor who is nobody.
    assert_eq!(contents(&janitor.get("/v1/feed")), Vec::<&str>::new());
    assert_eq!(janitor.socket().await.request("none", &[wanted]).await.0, Vec::<String>::new());
    // It is all taken back.
    let again = tester2.sign_in();
    again.ask("PUT", "/v1/settings", Some(&json!({ "activity": "nobody" }))).ok();
    assert_eq!(contents(&tester.get("/v1/feed")), Vec::<&str>::new());
}

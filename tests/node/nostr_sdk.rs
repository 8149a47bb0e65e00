//! The relay as `nostr-sdk` sees it, a client that we did not write. It checks every event that it
//! is sent, and gives the relay up when one does not match the filters of its subscription.

use std::{collections::HashSet, time::Duration};

use common::{PATIENCE, now};
use nostr_sdk::prelude::*;
use serde_json::{Value, json};

/// A client with these keys, connected to the relay alone.
async fn connect(relay: &common::Relay, keys: &Keys) -> (Client, Relay) {
    let options = ClientOptions::new()
        .automatic_authentication(true)
        .verify_subscriptions(true)
        .ban_relay_on_mismatch(true);
    let keeps_events = MemoryDatabaseOptions { events: true, max_events: None };
    let database = MemoryDatabase::with_opts(keeps_events);
    let client = Client::builder().signer(keys.clone()).opts(options).database(database).build();
    client.add_relay(relay.url()).await.unwrap();
    let output = client.try_connect(PATIENCE).await;
    assert!(output.failed.is_empty(), "{output:?}");
    let connection = client.relay(relay.url()).await.unwrap();
    (client, connection)
}

async fn fetch(relay: &Relay, filter: Filter) -> Vec<EventId> {
    let events = relay.fetch_events(filter, PATIENCE, ReqExitPolicy::ExitOnEOSE).await.unwrap();
    events.into_iter().map(|event| event.id).collect()
}

/// The text of the refusal of an event.
async fn refusal(relay: &Relay, event: &Event) -> String {
    match relay.send_event(event).await {
        Err(nostr_sdk::pool::relay::Error::RelayMessage(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The next events of a subscription.
async fn receive(
    notifications: &mut tokio::sync::broadcast::Receiver<RelayNotification>,
    subscription: &SubscriptionId,
    count: usize,
) -> Vec<EventId> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let notification = tokio::time::timeout(PATIENCE, notifications.recv()).await.unwrap().unwrap();
        if let RelayNotification::Message { message: RelayMessage::Event { subscription_id, event } } =
            notification
            && *subscription_id == *subscription
        {
            ids.push(event.id);
        }
    }
    ids
}

#[tokio::test]
async fn publishes_fetches_and_counts() {
    let relay = common::Relay::start(&[]);
    let keys = Keys::generate();
    let (client, connection) = connect(&relay, &keys).await;
    let start = Timestamp::now() - Duration::from_secs(1_000);
    let mut sent = Vec::new();
    for n in 0..30_u64 {
        let note = EventBuilder::text_note(format!("note {n} 🤙 \"quoted\"\n"))
            .tags([Tag::hashtag("nostr"), Tag::public_key(keys.public_key())])
            .allow_self_tagging()
            .custom_created_at(start + Duration::from_secs(n / 3));
        let event = client.sign_event_builder(note).await.unwrap();
        let output = client.send_event(&event).await.unwrap();
        assert!(output.failed.is_empty(), "{output:?}");
        sent.push(event);
    }
    sent.sort_by_key(|event| (std::cmp::Reverse(event.created_at), event.id));
    let ids: Vec<EventId> = sent.iter().map(|event| event.id).collect();
    for filter in [
        Filter::new(),
        Filter::new().author(keys.public_key()),
        Filter::new().kind(Kind::TextNote).hashtag("nostr"),
        Filter::new().pubkey(keys.public_key()).since(start),
        Filter::new().ids(ids.clone()),
    ] {
        assert_eq!(fetch(&connection, filter.clone()).await, ids, "{filter:?}");
        assert_eq!(connection.count_events(filter.clone(), PATIENCE).await.unwrap(), 30, "{filter:?}");
    }
    assert_eq!(fetch(&connection, Filter::new().limit(6)).await, ids[..6]);
    assert!(fetch(&connection, Filter::new().hashtag("bitcoin")).await.is_empty());
    // A copy is accepted, a forged event is not.
    assert_eq!(connection.send_event(&sent[0]).await.unwrap(), sent[0].id);
    let mut forged = client.sign_event_builder(EventBuilder::text_note("new")).await.unwrap();
    forged.content.push('!');
    assert!(refusal(&connection, &forged).await.starts_with("invalid: "));
    client.shutdown().await;
}

#[tokio::test]
async fn hears_live_events_of_all_its_subscriptions() {
    let relay = common::Relay::start(&[]);
    let (author, reader) = (Keys::generate(), Keys::generate());
    let (writing, _) = connect(&relay, &author).await;
    let (reading, connection) = connect(&relay, &reader).await;
    let mut notifications = connection.notifications();
    let filter = Filter::new().author(author.public_key());
    let stored = writing.send_event_builder(EventBuilder::text_note("stored")).await.unwrap().val;
    let notes = connection.subscribe(filter.clone(), SubscribeOptions::default()).await.unwrap();
    assert_eq!(receive(&mut notifications, &notes, 1).await, [stored]);
    let live = filter.kind(Kind::from(20_001)).limit(0);
    let ephemeral = connection.subscribe(live, SubscribeOptions::default()).await.unwrap();
    let sent = writing.send_event_builder(EventBuilder::text_note("live")).await.unwrap().val;
    assert_eq!(receive(&mut notifications, &notes, 1).await, [sent]);
    let typing = EventBuilder::new(Kind::from(20_001), "typing");
    let sent = writing.send_event_builder(typing).await.unwrap().val;
    assert_eq!(receive(&mut notifications, &ephemeral, 1).await, [sent]);
    assert!(fetch(&connection, Filter::new().id(sent)).await.is_empty());
    reading.shutdown().await;
    writing.shutdown().await;
}

#[tokio::test]
async fn profiles_and_lists_are_replaced() {
    let relay = common::Relay::start(&[]);
    let keys = Keys::generate();
    let friend = Keys::generate().public_key();
    let (client, connection) = connect(&relay, &keys).await;
    let then = |seconds| Timestamp::from(now() - 100 + seconds);
    for (builder, kind) in [
        (EventBuilder::metadata(&Metadata::new().name("first")), Kind::Metadata),
        (EventBuilder::contact_list([Contact::new(friend)]), Kind::ContactList),
        (
            EventBuilder::relay_list([(RelayUrl::parse("wss://relay.example.com").unwrap(), None)]),
            Kind::RelayList,
        ),
        (EventBuilder::follow_set("friends", [friend]), Kind::FollowSet),
    ] {
        let [old, new] = [0, 1].map(|at| builder.clone().custom_created_at(then(at)));
        let old = client.sign_event_builder(old).await.unwrap();
        let new = client.sign_event_builder(new).await.unwrap();
        connection.send_event(&old).await.unwrap();
        connection.send_event(&new).await.unwrap();
        let filter = Filter::new().author(keys.public_key()).kind(kind);
        assert_eq!(fetch(&connection, filter).await, [new.id], "{kind}");
        assert!(refusal(&connection, &old).await.starts_with("duplicate: "));
    }
    assert_eq!(
        client.fetch_metadata(keys.public_key(), PATIENCE).await.unwrap().unwrap().name.unwrap(),
        "first"
    );
    assert_eq!(client.get_contact_list_public_keys(PATIENCE).await.unwrap(), [friend]);
    client.shutdown().await;
}

/// People with an account at the relay are Nostr users like all others.
#[tokio::test]
async fn reads_what_accounts_say() {
    let relay = common::Relay::start(&["--set", "accounts.open=everybody"]);
    let [quill, rook] = ["quill", "rook"].map(|name| relay.sign_up(name));
    let [author, friend] = [&quill, &rook].map(|person| PublicKey::from_hex(&person.key).unwrap());
    let (client, connection) = connect(&relay, &Keys::generate()).await;
    let mut notifications = connection.notifications();
    let notes = Filter::new().author(author).kind(Kind::TextNote);
    let live = connection.subscribe(notes.clone(), SubscribeOptions::default()).await.unwrap();
    let done = |method: &str, path: &str, body: Value| {
        let answer = quill.ask(&relay, method, path, body);
        assert!((200..300).contains(&answer.status), "{answer:?}");
        answer
    };
    let posted = done("POST", "/v1/posts", json!({ "content": "hello 🤙", "tags": [["t", "rooks"]] }));
    let posted = Event::from_json(posted.json()["event"].to_string()).unwrap();
    assert_eq!(receive(&mut notifications, &live, 1).await, [posted.id]);
    let read = connection.fetch_events(notes.clone(), PATIENCE, ReqExitPolicy::ExitOnEOSE).await.unwrap();
    let read: Vec<Event> = read.into_iter().collect();
    assert_eq!(read, std::slice::from_ref(&posted));
    read[0].verify().unwrap();
    assert_eq!(fetch(&connection, Filter::new().hashtag("rooks")).await, [posted.id]);

    done("PUT", "/v1/profile", json!({ "name": "Quill", "about": "writes" }));
    let profile = client.fetch_metadata(author, PATIENCE).await.unwrap().unwrap();
    assert_eq!((profile.name.as_deref(), profile.about.as_deref()), (Some("Quill"), Some("writes")));
    done("POST", "/v1/friends/rook", Value::Null);
    let lists = Filter::new().author(author).kind(Kind::ContactList);
    let lists = connection.fetch_events(lists, PATIENCE, ReqExitPolicy::ExitOnEOSE).await.unwrap();
    let lists: Vec<Event> = lists.into_iter().collect();
    let people: Vec<PublicKey> = lists.iter().flat_map(|list| list.tags.public_keys().copied()).collect();
    assert_eq!(people, [friend]);

    done("DELETE", &format!("/v1/posts/{}", posted.id), Value::Null);
    assert!(fetch(&connection, notes).await.is_empty());
    client.shutdown().await;
}

#[tokio::test]
async fn deletes_and_vanishes() {
    let relay = common::Relay::start(&["--url", "wss://relay.example.com"]);
    let keys = Keys::generate();
    let (client, connection) = connect(&relay, &keys).await;
    let mine = Filter::new().author(keys.public_key());
    let [gone, kept] =
        ["gone", "kept"].map(|content| EventBuilder::text_note(content).sign_with_keys(&keys).unwrap());
    connection.send_event(&gone).await.unwrap();
    connection.send_event(&kept).await.unwrap();
    let request = EventBuilder::delete(EventDeletionRequest::new().id(gone.id).reason("by accident"));
    let request = client.sign_event_builder(request).await.unwrap();
    connection.send_event(&request).await.unwrap();
    assert!(refusal(&connection, &gone).await.starts_with("blocked: "));
    assert_eq!(fetch(&connection, mine.clone().kind(Kind::TextNote)).await, [kept.id]);

    let other = VanishTarget::relay(RelayUrl::parse("wss://other.example.com").unwrap());
    let ours = VanishTarget::relay(RelayUrl::parse("wss://relay.example.com").unwrap());
    let request = |target| {
        let builder = EventBuilder::request_vanish::<Vec<RelayUrl>>(target).unwrap();
        builder.custom_created_at(Timestamp::from(now() + 1)).sign_with_keys(&keys).unwrap()
    };
    assert!(refusal(&connection, &request(other)).await.starts_with("invalid: "));
    assert_eq!(connection.count_events(mine.clone(), PATIENCE).await.unwrap(), 2);
    let vanishing = request(ours);
    connection.send_event(&vanishing).await.unwrap();
    assert_eq!(fetch(&connection, mine.clone()).await, [vanishing.id]);
    assert!(refusal(&connection, &kept).await.starts_with("blocked: "));
    connection.send_event(&request(VanishTarget::all_relays())).await.unwrap();
    client.shutdown().await;
}

#[tokio::test]
async fn authenticates_when_it_is_asked_to() {
    let relay = common::Relay::start(&["--set", "limits.auth_required=true"]);
    let keys = Keys::generate();
    let (client, connection) = connect(&relay, &keys).await;
    let event = EventBuilder::text_note("members only").tag(Tag::protected()).sign_with_keys(&keys).unwrap();
    // Also what only its author may publish (NIP-70).
    assert_eq!(connection.send_event(&event).await.unwrap(), event.id);
    assert_eq!(fetch(&connection, Filter::new().author(keys.public_key())).await, [event.id]);
    let (stranger, connection) = connect(&relay, &Keys::generate()).await;
    assert!(refusal(&connection, &event).await.starts_with("restricted: "));
    stranger.shutdown().await;
    client.shutdown().await;

    // A client that does not want to is told so.
    let nobody = Client::default();
    nobody.add_relay(relay.url()).await.unwrap();
    nobody.connect().await;
    let connection = nobody.relay(relay.url()).await.unwrap();
    connection.wait_for_connection(PATIENCE).await;
    let other = EventBuilder::text_note("from nobody").sign_with_keys(&keys).unwrap();
    assert!(refusal(&connection, &other).await.starts_with("auth-required: "));
    nobody.shutdown().await;
}

#[tokio::test]
async fn private_messages_reach_their_recipient_alone() {
    let relay = common::Relay::start(&[]);
    let [alice, bob, carol] = [(); 3].map(|()| Keys::generate());
    let (sender, _) = connect(&relay, &alice).await;
    let (recipient, inbox) = connect(&relay, &bob).await;
    let (stranger, outside) = connect(&relay, &carol).await;
    let to_bob = Filter::new().kind(Kind::GiftWrap).pubkey(bob.public_key());
    // Bob's subscription is closed with auth-required at first, and comes again once he has
    // authenticated: the client does that by itself.
    let mut notifications = inbox.notifications();
    let subscription = inbox.subscribe(to_bob.clone(), SubscribeOptions::default()).await.unwrap();
    let output = sender.send_private_msg_to([relay.url()], bob.public_key(), "hello bob", []).await.unwrap();
    assert!(output.failed.is_empty(), "{output:?}");
    assert_eq!(receive(&mut notifications, &subscription, 1).await, [output.val]);
    let wraps = inbox.fetch_events(to_bob.clone(), PATIENCE, ReqExitPolicy::ExitOnEOSE).await.unwrap();
    let wrap = wraps.first().unwrap();
    let unwrapped = recipient.unwrap_gift_wrap(wrap).await.unwrap();
    assert_eq!((unwrapped.sender, &*unwrapped.rumor.content), (alice.public_key(), "hello bob"));
    // Carol: nothing by id or kind, and refused where it can only be another's.
    assert!(fetch(&outside, Filter::new().id(wrap.id)).await.is_empty());
    assert!(fetch(&outside, Filter::new().kinds([Kind::GiftWrap, Kind::TextNote])).await.is_empty());
    match outside.fetch_events(to_bob, PATIENCE, ReqExitPolicy::ExitOnEOSE).await {
        Err(nostr_sdk::pool::relay::Error::RelayMessage(text)) => assert!(text.starts_with("restricted: ")),
        other => panic!("{other:?}"),
    }
    for client in [sender, recipient, stranger] {
        client.shutdown().await;
    }
}

#[tokio::test]
async fn work_and_expiry_are_looked_at() {
    let relay = common::Relay::start(&["--set", "limits.min_pow_difficulty=8"]);
    let keys = Keys::generate();
    let (client, connection) = connect(&relay, &keys).await;
    let mined = EventBuilder::text_note("mined").pow(8).sign_with_keys(&keys).unwrap();
    connection.send_event(&mined).await.unwrap();
    let lazy = (0..).map(|n: u32| EventBuilder::text_note(n.to_string()).sign_with_keys(&keys).unwrap());
    let lazy = lazy.into_iter().find(|event| !event.check_pow(8)).unwrap();
    assert!(refusal(&connection, &lazy).await.starts_with("pow: "));
    let expired = Tag::expiration(Timestamp::from(now() - 10));
    let expired = EventBuilder::text_note("over").tag(expired).pow(8).sign_with_keys(&keys).unwrap();
    assert!(refusal(&connection, &expired).await.starts_with("invalid: "));
    client.shutdown().await;
}

/// Its set and ours, brought together in both directions.
#[tokio::test]
async fn reconciles_with_the_relay() {
    let relay = common::Relay::start(&["--set", "sync.frame_bytes=4096"]);
    let keys = Keys::generate();
    let (client, connection) = connect(&relay, &keys).await;
    let start = Timestamp::now() - Duration::from_secs(1_000);
    let notes: Vec<Event> = (0..300)
        .map(|n: u64| {
            let note = EventBuilder::text_note(n.to_string()).custom_created_at(start + n / 3);
            note.sign_with_keys(&keys).unwrap()
        })
        .collect();
    for note in &notes[..200] {
        connection.send_event(note).await.unwrap();
    }
    for note in &notes[100..] {
        client.database().save_event(note).await.unwrap();
    }
    let options = SyncOptions::new().initial_timeout(PATIENCE).direction(SyncDirection::Both);
    let done = connection.sync(Filter::new().kind(Kind::TextNote), &options).await.unwrap();
    let ids = |notes: &[Event]| notes.iter().map(|note| note.id).collect::<HashSet<_>>();
    assert_eq!((done.received, done.sent), (ids(&notes[..100]), ids(&notes[200..])));
    let filter = Filter::new().kind(Kind::TextNote);
    assert_eq!(fetch(&connection, filter).await.into_iter().collect::<HashSet<_>>(), ids(&notes));
    client.shutdown().await;
}

/// It waits for an answer for as long as its patience is, unless it understands the first one.
#[tokio::test]
async fn is_told_that_there_is_no_negentropy() {
    let relay = common::Relay::start(&["--set", "sync.max_open=0"]);
    let (client, connection) = connect(&relay, &Keys::generate()).await;
    let options = SyncOptions::new().initial_timeout(PATIENCE);
    match connection.sync(Filter::new().kind(Kind::TextNote), &options).await {
        Err(nostr_sdk::pool::relay::Error::RelayMessage(text)) => {
            assert_eq!(text, "error: negentropy is not supported");
        }
        other => panic!("{other:?}"),
    }
    client.shutdown().await;
}

#[test]
fn reads_the_information_document() {
    let relay = common::Relay::start(&["--set", "info.name=Test relay"]);
    let (status, body) = common::Relay::get(relay.clients, "/", "Accept: application/nostr+json\r\n");
    assert_eq!(status, 200);
    let document = RelayInformationDocument::from_json(body).unwrap();
    assert_eq!(document.name.as_deref(), Some("Test relay"));
    assert!(document.supported_nips.unwrap().contains(&42));
    let limitation = document.limitation.unwrap();
    assert_eq!((limitation.max_subid_length, limitation.max_limit), (Some(64), Some(5_000)));
    assert_eq!((limitation.auth_required, limitation.max_message_length), (Some(false), Some(512 * 1024)));
}

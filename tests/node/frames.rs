//! WebSocket frames that no library sends: each ends as RFC 6455 says, and nobody else notices.

use common::{
    Client, Relay, note, now,
    raw::{BINARY, CLOSE, CONTINUE, FIN, PING, PONG, Raw, TEXT, frame, header, memory},
};
use rookery::protocol::sign::Keys;
use serde_json::json;

const PROTOCOL: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

const MIB: u64 = 1024 * 1024;

/// A frame whose length is not written in the shortest way.
fn long_form(form: u8, len: u64) -> Vec<u8> {
    let written = len.to_be_bytes();
    let written = if form == 126 { &written[6..] } else { &written[..] };
    let mut frame = [&[FIN | TEXT, 0x80 | form], written, &[0; 4]].concat();
    frame.resize(frame.len() + len as usize, b' ');
    frame
}

/// Somebody else is served, before and after.
async fn works(client: &mut Client) {
    let event = note(&Keys::generate(), now(), "still here");
    assert_eq!(client.publish(&event).await, (true, String::new()));
    let (found, _) = client.request("check", &[json!({ "ids": [event.id()] })]).await;
    assert_eq!(found, [event.id().to_hex()]);
}

#[tokio::test]
async fn broken_frames_end_the_connection_that_sent_them_and_no_other() {
    let relay = Relay::start(&["--workers", "1"]);
    let mut other = relay.connect().await;
    let unmasked = [&[FIN | TEXT, 2][..], b"[]"].concat();
    let first_half = frame(TEXT, br#"["REQ","s","#);
    let then = |next: Vec<u8>| [first_half.clone(), next].concat();
    let mut cases = vec![
        ("an unmasked frame", unmasked, PROTOCOL),
        ("a continuation of nothing", frame(FIN | CONTINUE, b"{}]"), PROTOCOL),
        ("an open continuation of nothing", frame(CONTINUE, b"{}]"), PROTOCOL),
        ("text inside a message", then(frame(FIN | TEXT, b"[]")), PROTOCOL),
        ("binary inside a message", then(frame(FIN | BINARY, b"[]")), PROTOCOL),
        ("a new message inside a message", then(frame(TEXT, b"[")), PROTOCOL),
        ("a ping in fragments", frame(PING, b"a"), PROTOCOL),
        ("a close in fragments", frame(CLOSE, &1000u16.to_be_bytes()), PROTOCOL),
        ("a ping of 126 bytes", frame(FIN | PING, &[b'a'; 126]), PROTOCOL),
        ("a pong of 126 bytes", frame(FIN | PONG, &[b'a'; 126]), PROTOCOL),
        ("a close of one byte", frame(FIN | CLOSE, &[3]), PROTOCOL),
        ("a close with code 1005", frame(FIN | CLOSE, &1005u16.to_be_bytes()), PROTOCOL),
        ("a close with code 999", frame(FIN | CLOSE, &999u16.to_be_bytes()), PROTOCOL),
        ("a close whose reason is no UTF-8", frame(FIN | CLOSE, &[3, 0xe8, 0xff]), PROTOCOL),
        ("text that is no UTF-8", frame(FIN | TEXT, b"[\"REQ\",\"\xff\",{}]"), INVALID_DATA),
        ("a surrogate in UTF-8", frame(FIN | TEXT, b"[\"\xed\xa0\x80\"]"), INVALID_DATA),
        ("a length of 2^63", header(FIN | TEXT, 1 << 63), TOO_BIG),
        ("a length in three bytes that fits into one", long_form(126, 5), PROTOCOL),
        ("a length in nine bytes that fits into one", long_form(127, 5), PROTOCOL),
        ("a length in nine bytes that fits into three", long_form(127, 1_000), PROTOCOL),
        (
            "fragments that are no UTF-8",
            [frame(TEXT, b"[\"\xf0\x9f"), frame(FIN | CONTINUE, b"\x98\"]")].concat(),
            INVALID_DATA,
        ),
    ];
    for rsv in [0x40, 0x20, 0x10] {
        cases.push(("a reserved bit", frame(FIN | TEXT | rsv, b"[]"), PROTOCOL));
    }
    for opcode in (3..8).chain(11..16) {
        cases.push(("a reserved opcode", frame(FIN | opcode, b"[]"), PROTOCOL));
    }
    for (what, bytes, code) in cases {
        let mut raw = Raw::connect(relay.clients);
        raw.send(&bytes);
        let (got, last) = raw.hear_close();
        assert_eq!(got, code, "{what}: {last:?}");
        let notice = last.unwrap_or_else(|| panic!("{what}: a NOTICE was expected"));
        assert_eq!(notice[0], "NOTICE", "{what}");
        assert!(notice[1].as_str().unwrap().starts_with("invalid: "), "{what}: {notice}");
        works(&mut other).await;
    }
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let relay = Relay::start(&["--workers", "1"]);
    for (payload, code) in
        [(vec![], 1000), (1000u16.to_be_bytes().into(), 1000), (4321u16.to_be_bytes().into(), 4321)]
    {
        let mut raw = Raw::connect(relay.clients);
        raw.send_frame(FIN | CLOSE, &payload);
        // What comes after a close frame is not looked at.
        raw.try_send(&frame(FIN | TEXT, b"[]"));
        assert_eq!(raw.hear_close(), (code, None));
    }
}

/// A client that breaks the protocol may still be sending; it is given a while to hear why.
#[tokio::test]
async fn a_client_that_says_goodbye_is_not_waited_for() {
    let relay = Relay::start(&["--workers", "1"]);
    let mut broken = Raw::connect(relay.clients);
    broken.send_frame(FIN | TEXT, b"\xff");
    while broken.read_frame().is_some_and(|(opcode, _)| opcode != CLOSE) {}
    // Both keep their side open. The one that came later is through first.
    let mut polite = Raw::connect(relay.clients);
    polite.send_frame(FIN | CLOSE, b"");
    assert_eq!(polite.read_frame().map(|(opcode, _)| opcode), Some(CLOSE));
    assert_eq!(polite.read_to_end(), b"");
    assert!(broken.is_open(), "the relay waited for a client that had closed");
    assert_eq!(broken.read_to_end(), b"");
}

#[tokio::test]
async fn control_frames_may_stand_between_fragments() {
    let relay = Relay::start(&[]);
    let mut raw = Raw::connect(relay.clients);
    let event = note(&Keys::generate(), now(), "ein Stück 🪶, noch eines");
    let message = format!(r#"["EVENT",{}]"#, event.json());
    // Every byte a fragment, so that characters are cut too; a ping after each of the first ones.
    let last = message.len() - 1;
    for (at, byte) in message.bytes().enumerate() {
        let first = if at == 0 { TEXT } else { CONTINUE };
        let fin = if at == last { FIN } else { 0 };
        raw.send_frame(fin | first, &[byte]);
        if at < 20 {
            let ping = at.to_string();
            raw.send_frame(FIN | PING, ping.as_bytes());
            assert_eq!(raw.read_frame(), Some((PONG, ping.into_bytes())));
            raw.send_frame(FIN | PONG, b"not asked for");
        }
    }
    assert_eq!(raw.hear(), json!(["OK", event.id(), true, ""]));
    // Fragments of no bytes are fragments too.
    raw.send_frame(TEXT, b"");
    for _ in 0..10_000 {
        raw.send_frame(CONTINUE, b"");
    }
    raw.send_frame(CONTINUE, br#"["REQ","s",{"ids":[""#);
    raw.send_frame(CONTINUE, event.id().to_hex().as_bytes());
    raw.send_frame(FIN | CONTINUE, br#""]}]"#);
    assert_eq!(raw.hear()[2]["id"], event.id().to_hex());
    assert_eq!(raw.hear()[0], "EOSE");
}

#[tokio::test]
async fn frames_may_come_byte_by_byte_or_many_at_once() {
    let relay = Relay::start(&[]);
    let mut raw = Raw::connect(relay.clients);
    for byte in frame(FIN | TEXT, br#"["REQ","slow",{"limit":0}]"#) {
        raw.send(&[byte]);
    }
    assert_eq!(raw.hear(), json!(["EOSE", "slow"]));
    let ids: Vec<String> = (0..200).map(|n| format!("s{n}")).collect();
    let many: Vec<u8> = ids
        .iter()
        .flat_map(|id| frame(FIN | TEXT, json!(["REQ", id, { "kinds": [] }]).to_string().as_bytes()))
        .collect();
    raw.send(&many);
    // Each is answered once; in which order is the relay's affair.
    let mut answered: Vec<_> = ids.iter().map(|_| raw.hear()).collect();
    let mut expected: Vec<_> = ids.iter().map(|id| json!(["EOSE", id, ["finish"]])).collect();
    answered.sort_by_key(ToString::to_string);
    expected.sort_by_key(ToString::to_string);
    assert_eq!(answered, expected);
}

#[tokio::test]
async fn json_in_binary_frames_is_a_message_too() {
    let relay = Relay::start(&[]);
    let mut raw = Raw::connect(relay.clients);
    raw.send_frame(FIN | BINARY, br#"["REQ","s",{"limit":0}]"#);
    assert_eq!(raw.hear(), json!(["EOSE", "s"]));
    raw.send(&[frame(BINARY, br#"["REQ","t","#), frame(FIN | CONTINUE, br#"{"limit":0}]"#)].concat());
    assert_eq!(raw.hear(), json!(["EOSE", "t"]));
    // Other bytes are none. Unlike in a text frame, that is no fault of the protocol.
    raw.send_frame(FIN | BINARY, b"\x00\xff");
    raw.send(&[frame(BINARY, b"\xff"), frame(FIN | CONTINUE, b"\xff")].concat());
    for _ in 0..2 {
        let notice = raw.hear();
        assert_eq!(notice[0], "NOTICE");
        assert!(notice[1].as_str().unwrap().starts_with("invalid: "), "{notice}");
    }
    raw.say(r#"["REQ","s",{"limit":0}]"#);
    assert_eq!(raw.hear(), json!(["EOSE", "s"]));
}

/// A message in so many frames.
fn cut(text: &[u8], pieces: usize) -> Vec<u8> {
    let size = text.len().div_ceil(pieces);
    let mut bytes = Vec::new();
    for (nth, piece) in text.chunks(size).enumerate() {
        let first = if nth == 0 { TEXT } else { CONTINUE };
        bytes.extend(frame(if (nth + 1) * size >= text.len() { FIN | first } else { first }, piece));
    }
    bytes
}

#[tokio::test]
async fn the_bounds_of_a_message_hold_to_the_byte_however_it_is_cut() {
    const MAX: usize = 10_000;
    const MOST: usize = 50_000;
    let bounds = [format!("limits.max_message_bytes={MAX}"), format!("limits.max_refused_bytes={MOST}")];
    let relay = Relay::start(&["--set", &bounds[0], "--set", &bounds[1]]);
    let mut other = relay.connect().await;
    let message = |len: usize| {
        let mut text = br#"["REQ","s",{"limit":0}]"#.to_vec();
        text.resize(len, b' ');
        text
    };
    let mut raw = Raw::connect(relay.clients);
    for pieces in [1, 2, 3, 1_000, MAX] {
        raw.send(&cut(&message(MAX), pieces));
        assert_eq!(raw.hear(), json!(["EOSE", "s"]), "{pieces}");
        for len in [MAX + 1, MOST] {
            raw.send(&cut(&message(len), pieces));
            let closed = raw.hear();
            assert_eq!((&closed[0], &closed[1]), (&json!("CLOSED"), &json!("s")), "{pieces}");
            assert!(closed[2].as_str().unwrap().starts_with("invalid: "), "{closed}");
        }
        let mut doomed = Raw::connect(relay.clients);
        doomed.try_send(&cut(&message(MOST + 1), pieces));
        let (code, last) = doomed.hear_close();
        assert_eq!(code, TOO_BIG, "{pieces}: {last:?}");
    }
    works(&mut other).await;
}

#[tokio::test]
async fn a_message_that_is_too_long_is_answered_and_not_gathered() {
    let relay = Relay::start(&["--workers", "1"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    client.request("live", &[json!({ "authors": [keys.public_key()] })]).await;
    works(&mut client).await;
    let before = memory(relay.process.id(), "VmHWM");
    let long = "x".repeat(7 << 20);
    let event = note(&keys, now(), &long);
    let with_id_last: serde_json::Value = serde_json::from_str(event.json()).unwrap();
    let with_id_last = format!(
        r#"{{"content":{},"kind":1,"created_at":{},"tags":[["id","x"]],"sig":{},"pubkey":{},"id":{}}}"#,
        with_id_last["content"],
        with_id_last["created_at"],
        with_id_last["sig"],
        with_id_last["pubkey"],
        with_id_last["id"],
    );
    for round in 0..5 {
        for json in [event.json(), &with_id_last] {
            let (accepted, text) = {
                client.say_text(format!(r#"["EVENT",{json}]"#)).await;
                client.hear_ok(&event.id().to_hex()).await
            };
            assert!(!accepted && text.starts_with("invalid: "), "{round}: {text}");
        }
        for (verb, answer) in [("REQ", "CLOSED"), ("COUNT", "CLOSED"), ("NEG-OPEN", "NEG-ERR")] {
            client.say(json!([verb, "too long", { "#t": [long] }])).await;
            let said = client.hear().await;
            assert_eq!((&said[0], &said[1]), (&json!(answer), &json!("too long")), "{said}");
        }
        client.say(json!(["NOPE", long])).await;
        assert_eq!(client.hear().await[0], "NOTICE");
    }
    let grown = memory(relay.process.id(), "VmHWM") - before;
    assert!(grown < 16 * MIB, "{grown} bytes for messages that are passed over");
    // The subscription that was there still is.
    let event = note(&keys, now(), "short");
    client.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
    let heard = [client.hear().await, client.hear().await];
    assert!(heard.iter().any(|message| message[0] == "EVENT" && message[1] == "live"), "{heard:?}");
}

#[tokio::test]
async fn a_frame_that_is_announced_as_huge_is_refused_before_it_comes() {
    const GIB: u64 = 1 << 30;
    let relay = Relay::start(&[]);
    let mut other = relay.connect().await;
    works(&mut other).await;
    let before = memory(relay.process.id(), "VmHWM");
    for first in [FIN | TEXT, TEXT, FIN | BINARY, BINARY, FIN | PING] {
        let mut raw = Raw::connect(relay.clients);
        raw.send(&header(first, 64 * GIB));
        let (code, last) = raw.hear_close();
        assert_eq!(code, TOO_BIG, "{last:?}");
        // The same, behind a message that is whole, and with as much of the payload as is taken.
        let mut raw = Raw::connect(relay.clients);
        raw.send(&frame(TEXT, b"["));
        raw.send(&header(FIN | CONTINUE, 64 * GIB));
        let junk = vec![b' '; MIB as usize];
        let _ = (0..64).all(|_| raw.try_send(&junk));
        let (code, last) = raw.hear_close();
        assert_eq!(code, TOO_BIG, "{last:?}");
    }
    let grown = memory(relay.process.id(), "VmHWM") - before;
    assert!(grown < 16 * MIB, "{grown} bytes for frames that were only announced");
    works(&mut other).await;
}

#[tokio::test]
async fn endless_fragments_do_not_gather() {
    let relay = Relay::start(&[]);
    let mut other = relay.connect().await;
    works(&mut other).await;
    let before = memory(relay.process.id(), "VmHWM");
    // 640 MB are sent; what the allocator keeps for later is allowed for. Each far under the bound, together far over it.
    let piece = frame(CONTINUE, &vec![b' '; 100_000]);
    for _ in 0..10 {
        let mut raw = Raw::connect(relay.clients);
        raw.send(&frame(TEXT, b"["));
        let _ = (0..640).all(|_| raw.try_send(&piece));
        let (code, last) = raw.hear_close();
        assert_eq!(code, TOO_BIG, "{last:?}");
    }
    let grown = memory(relay.process.id(), "VmHWM") - before;
    assert!(grown < 64 * MIB, "{grown} bytes for messages that never end");
    works(&mut other).await;
}

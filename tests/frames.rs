//! WebSocket frames that no library sends: each ends as RFC 6455 says, and nobody else notices.

mod common;

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
    // A client that keeps its side open is not waited for for long.
    let mut raw = Raw::connect(relay.clients);
    raw.send_frame(FIN | CLOSE, b"");
    assert_eq!(raw.read_frame().map(|(opcode, _)| opcode), Some(CLOSE));
    assert_eq!(raw.read_to_end(), b"");
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
async fn binary_messages_are_refused_and_the_connection_goes_on() {
    let relay = Relay::start(&[]);
    let mut raw = Raw::connect(relay.clients);
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

#[tokio::test]
async fn the_bound_of_a_message_holds_to_the_byte_however_it_is_cut() {
    const MAX: usize = 10_000;
    let relay = Relay::start(&["--set", &format!("limits.max_message_bytes={MAX}")]);
    let mut other = relay.connect().await;
    let message = |len: usize| {
        let mut text = br#"["REQ","s",{"limit":0}]"#.to_vec();
        text.resize(len, b' ');
        text
    };
    let mut raw = Raw::connect(relay.clients);
    let cut = |text: &[u8], pieces: usize| {
        let size = text.len().div_ceil(pieces);
        let mut bytes = Vec::new();
        for (nth, piece) in text.chunks(size).enumerate() {
            let first = if nth == 0 { TEXT } else { CONTINUE };
            bytes.extend(frame(if (nth + 1) * size >= text.len() { FIN | first } else { first }, piece));
        }
        bytes
    };
    for pieces in [1, 2, 3, 1_000, MAX] {
        raw.send(&cut(&message(MAX), pieces));
        assert_eq!(raw.hear(), json!(["EOSE", "s"]), "{pieces}");
        let mut doomed = Raw::connect(relay.clients);
        doomed.try_send(&cut(&message(MAX + 1), pieces));
        let (code, last) = doomed.hear_close();
        assert_eq!(code, TOO_BIG, "{pieces}: {last:?}");
    }
    works(&mut other).await;
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

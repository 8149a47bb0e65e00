//! Follow lists (NIP-02) and relay lists (NIP-65): replaceable events like any other.

use rookery::protocol::sign::Keys;
use serde_json::json;

use common::ask::{event, ids};
use common::{Relay, now};

#[tokio::test]
async fn a_new_list_takes_the_place_of_the_old_one() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let friends: Vec<String> = (0..1_000).map(|_| Keys::generate().public_key().to_hex()).collect();
    for (kind, letter) in [(3, "p"), (10_002, "r"), (10_050, "relay")] {
        let keys = Keys::generate();
        let value = |n: usize| match letter {
            "p" => friends[n].clone(),
            _ => format!("wss://{n}.example.com"),
        };
        let list = |at: u64, numbers: std::ops::Range<usize>| {
            let tags: Vec<[String; 3]> =
                numbers.map(|n| [letter.to_owned(), value(n), "read".to_owned()]).collect();
            keys.sign(at, kind, tags.iter().collect(), "")
        };
        let at = now() - 10;
        let (old, new) = (list(at, 0..999), list(at + 1, 1..1_000));
        client.put(&old).await;
        client.put(&new).await;
        let filter = json!({ "authors": [keys.public_key()], "kinds": [kind] });
        assert_eq!(client.find_any(&[filter]).await, (ids([&new]), Some("finish".into())));
        assert_eq!(client.refused(&old).await, "duplicate");
        if letter.len() == 1 {
            // Served by what is in it, and no more by what is not.
            let by = |n| json!({ "kinds": [kind], format!("#{letter}"): [value(n)] });
            assert_eq!(client.find(by(999)).await, ids([&new]));
            assert!(client.find(by(0)).await.is_empty());
            assert_eq!(client.count(&[by(500)]).await["count"], 1);
        }
        // An empty list is a list.
        let empty = event(&keys, at + 2, kind, &[], "");
        client.put(&empty).await;
        assert_eq!(client.find(json!({ "authors": [keys.public_key()] })).await, ids([&empty]));
    }
}

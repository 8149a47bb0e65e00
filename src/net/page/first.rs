//! What the script begins with: the same as the document shows, as data.

use maud::{Markup, html};
use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::read::{People, Posts, Thread, raw};
use crate::{
    account::{Activity, SignedIn},
    config::{Settings, SignUp},
    net::{Problem, info::supported},
    protocol::{Event, Filter, PublicKey, Timestamp, nip19},
};

/// The relay, as the page speaks of it.
#[derive(Debug, Serialize)]
pub struct Relay {
    pub name: String,
    pub description: String,
    /// Where Nostr clients reach it.
    pub address: String,
    /// Its name on the network.
    pub host: String,
    pub contact: String,
    pub nips: Vec<u16>,
    pub max_message_bytes: usize,
    pub max_subscriptions: usize,
    pub max_limit: usize,
    pub max_ahead_seconds: u64,
    pub write: String,
    pub version: &'static str,
    /// What strangers see at `/`, as filters to be subscribed to; `None`: nothing.
    pub live: Option<Vec<Filter>>,
}

/// Who is signed in.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Me {
    #[serde(rename = "userId")]
    pub key: PublicKey,
    pub npub: String,
    pub username: String,
    pub activity: Activity,
    pub listed: bool,
    /// When the password was set anew by leave of whoever runs the relay.
    #[serde(rename = "passwordReset", skip_serializing_if = "Option::is_none")]
    pub reset_at: Option<Timestamp>,
}

impl Me {
    /// Whoever has an account here: keys of one's own are for programs as yet.
    pub fn of(SignedIn { account, name, activity, listed, reset_at, .. }: SignedIn) -> Option<Self> {
        let (npub, username) = (nip19::npub(&account), name?.to_string());
        Some(Self { key: account, npub, username, activity, listed, reset_at })
    }
}

impl Relay {
    pub fn of(settings: &Settings, address: String, host: String, live: Option<Vec<Filter>>) -> Self {
        let Settings { info, limits, .. } = settings;
        let needs = [
            limits.auth_required.then(|| "whoever has signed in".to_owned()),
            (limits.min_pow_difficulty > 0)
                .then(|| format!("with proof of work ({} bits)", limits.min_pow_difficulty)),
        ];
        let needs: Vec<String> = needs.into_iter().flatten().collect();
        Self {
            name: super::words::clean(&info.name),
            description: info.description.clone(),
            address,
            host,
            contact: info.contact.clone(),
            nips: supported(settings).collect(),
            max_message_bytes: limits.max_message_bytes,
            max_subscriptions: limits.max_subscriptions,
            max_limit: limits.max_limit,
            max_ahead_seconds: limits.max_ahead_seconds,
            write: if needs.is_empty() {
                "open, no payment, no proof of work".into()
            } else {
                needs.join(", ")
            },
            version: env!("CARGO_PKG_VERSION"),
            live,
        }
    }
}

/// What a document is of.
pub enum Screen {
    Landing(Posts),
    /// The feed of whoever is signed in.
    Home(Posts),
    SignIn(Option<Problem>),
    SignUp(Option<Problem>),
    /// A form that was not taken.
    Failed(Problem),
    /// What is drawn by the script alone, and its title.
    Own(&'static str),
    Person(PublicKey, Posts),
    Thread(Thread),
    /// There is nothing that a stranger may read.
    Missing(&'static str),
    /// The store does not answer, or the address asks too much.
    Late,
}

impl Screen {
    fn data(&self) -> Value {
        let events = |events: &[Event]| events.iter().filter_map(raw).collect::<Vec<Box<RawValue>>>();
        let posts = |name: &str, posts: &Posts| json!({ "name": name, "events": events(&posts.events), "profiles": people(&posts.people) });
        match self {
            Self::Landing(shown) => posts("landing", shown),
            Self::Home(shown) => posts("home", shown),
            Self::SignIn(_) | Self::SignUp(_) | Self::Failed(_) | Self::Own(_) => json!({ "name": "other" }),
            Self::Person(key, shown) => {
                let mut data = posts("person", shown);
                data["pubkey"] = json!(key);
                data["npub"] = json!(nip19::npub(key));
                data
            }
            Self::Thread(thread) => {
                let all = thread
                    .above
                    .iter()
                    .chain([&thread.post])
                    .chain(thread.below.iter().map(|(event, _)| event));
                json!({
                    "name": "thread",
                    "id": thread.post.id(),
                    "events": all.filter_map(raw).collect::<Vec<_>>(),
                    "profiles": people(&thread.people),
                })
            }
            Self::Missing(what) => json!({ "name": "missing", "what": what }),
            Self::Late => json!({ "name": "late" }),
        }
    }
}

fn people(people: &People) -> Value {
    json!(people)
}

/// The data as a part of the document. In an attribute: the template writes it safely, and nothing of it can run.
pub fn first(
    relay: &Relay,
    screen: &Screen,
    me: Option<&Me>,
    open: Option<SignUp>,
    now: Timestamp,
) -> Markup {
    let accounts = open.map(|open| json!({ "open": open }));
    let data = json!({ "relay": relay, "screen": screen.data(), "now": now, "me": me, "accounts": accounts });
    html! { meta name="first" content=(data.to_string()); }
}

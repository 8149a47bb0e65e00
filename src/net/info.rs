//! The relay information document (NIP-11).

use serde_json::{Map, Value, json};

use crate::{config::Settings, protocol::message::MAX_SUBSCRIPTION_ID};

/// The protocols that this relay speaks.
pub const SUPPORTED_NIPS: &[u16] = &[1, 2, 9, 11, 13, 17, 40, 42, 45, 59, 62, 65, 67, 70, RECONCILIATION];

/// Which may be switched off.
const RECONCILIATION: u16 = 77;

/// Those that are not switched off.
pub fn supported(settings: &Settings) -> impl Iterator<Item = u16> {
    let reconciles = settings.sync.max_open > 0;
    SUPPORTED_NIPS.iter().copied().filter(move |nip| *nip != RECONCILIATION || reconciles)
}

/// Where the software lives.
const SOFTWARE: &str = env!("CARGO_PKG_REPOSITORY");

/// The document, with the limits that are really in force. Empty fields are left out.
pub fn document(settings: &Settings) -> String {
    let Settings { info, limits, .. } = settings;
    let mut document = Map::new();
    for (name, value) in [
        ("name", &info.name),
        ("description", &info.description),
        ("banner", &info.banner),
        ("icon", &info.icon),
        ("pubkey", &info.pubkey),
        ("contact", &info.contact),
        ("terms_of_service", &info.terms_of_service),
    ] {
        if !value.is_empty() {
            document.insert(name.to_owned(), Value::from(value.as_str()));
        }
    }
    document.insert("supported_nips".to_owned(), supported(settings).map(Value::from).collect());
    document.insert("software".to_owned(), json!(SOFTWARE));
    document.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    document.insert(
        "limitation".to_owned(),
        json!({
            "max_message_length": limits.max_message_bytes,
            "max_subscriptions": limits.max_subscriptions,
            "max_limit": limits.max_limit,
            "max_subid_length": MAX_SUBSCRIPTION_ID,
            "max_event_tags": limits.max_tags,
            "min_pow_difficulty": limits.min_pow_difficulty,
            "auth_required": limits.auth_required,
            "payment_required": false,
            "restricted_writes": limits.auth_required || limits.min_pow_difficulty > 0,
            "created_at_upper_limit": limits.max_ahead_seconds,
            "default_limit": limits.default_limit,
        }),
    );
    Value::Object(document).to_string()
}

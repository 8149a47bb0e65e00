//! The texts of NIP-11.

use serde::{Deserialize, Serialize};

use super::setting::section;

section! {
    /// What the relay says of itself (NIP-11). Empty fields are left out.
    Info {
        /// Name. Clients show the first 30 characters or so (NIP-11).
        name: live String = "Rookery".into(),
        /// What the relay is for; no markup.
        description: live String = String::new(),
        /// Public key of the operator, 64 hexadecimal digits.
        pubkey: live String = String::new(),
        /// Other way to reach the operator, a URI such as "mailto:…".
        contact: live String = String::new(),
        /// Link to a square image.
        icon: live String = String::new(),
        /// Link to a wide image.
        banner: live String = String::new(),
        /// Link to the terms of service.
        terms_of_service: live String = String::new(),
    }
}

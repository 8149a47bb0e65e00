//! `/.well-known/nostr.json`: who is called so here (NIP-05).

use std::collections::BTreeMap;

use actix_web::{
    HttpResponse,
    http::header,
    web::{self, Data},
};
use serde::{Deserialize, Serialize};

use super::People;
use crate::net::{Parameters, Problem, described::get};

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Default, Serialize)]
struct Names {
    names: BTreeMap<String, String>,
    /// By key: where it is found.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    relays: BTreeMap<String, Vec<String>>,
}

/// Adds the route. Everybody may ask, from every page.
pub fn serve(people: &People, config: &mut web::ServiceConfig) {
    let resource = web::resource("/.well-known/nostr.json");
    config.service(resource.app_data(Data::new(people.clone())).route(get().to(show)));
}

async fn show(people: Data<People>, Parameters(asked): Parameters<Asked>) -> Result<HttpResponse, Problem> {
    let mut found = Names::default();
    let account = people.accounts.named(&asked.name).await?.filter(|account| !account.disabled);
    if let Some(account) = account {
        let key = account.key.to_hex();
        if let Some(url) = &people.url {
            found.relays.insert(key.clone(), vec![url.to_string()]);
        }
        // As it was asked for, or clients do not find it.
        found.names.insert(asked.name, key);
    }
    Ok(HttpResponse::Ok().insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")).json(found))
}

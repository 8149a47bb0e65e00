//! Refuses what could not work, and says which setting it is.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use toml::{Table, Value};

use super::{
    Config, General, SECTIONS, Setting, log_filter, ranges,
    table::{lookup, path},
};

impl Config {
    /// Refuses what could not work.
    ///
    /// # Errors
    /// Names the setting and what it must be.
    pub fn validate(&self) -> anyhow::Result<()> {
        let Self { session, store, scylla, traces, info, general, .. } = self;
        check_ranges(&Table::try_from(self).context("the configuration")?)?;
        log_filter(&general.log).with_context(|| format!("log can not be {:?}", general.log))?;
        ensure!(
            scylla.nodes.is_empty() || store.sweep_margin_seconds >= 2 * scylla.clock_tolerance_seconds,
            "store.sweep_margin_seconds must be at least twice scylla.clock_tolerance_seconds"
        );
        ensure!(
            scylla.tls
                || scylla.tls_name.is_empty()
                    && [&scylla.tls_ca, &scylla.tls_cert, &scylla.tls_key]
                        .iter()
                        .all(|file| file.as_os_str().is_empty()),
            "scylla.tls_ca, tls_cert, tls_key and tls_name mean nothing without scylla.tls = true"
        );
        ensure!(
            session.mailbox > session.window,
            "session.mailbox must be larger than session.window, or answers would not fit"
        );
        ensure!(
            session.idle_seconds > session.ping_seconds,
            "session.idle_seconds must be larger than session.ping_seconds"
        );
        ensure!(
            info.pubkey.is_empty() || crate::protocol::PublicKey::from_hex(&info.pubkey).is_some(),
            "info.pubkey must be 64 lowercase hexadecimal digits"
        );
        ensure!(
            !general.proxy_protocol || !general.trusted_proxy.is_empty(),
            "proxy_protocol needs trusted_proxy: no header is read of others"
        );
        ensure!(
            ["", "grpc", "http/protobuf"].contains(&traces.protocol.as_str()),
            "traces.protocol must be \"grpc\" or \"http/protobuf\", not {:?}",
            traces.protocol
        );
        if !general.url.is_empty() {
            let rest = ["ws://", "wss://"].iter().find_map(|scheme| general.url.strip_prefix(scheme));
            ensure!(
                rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')),
                "url must look like wss://relay.example.com, not {:?}",
                general.url
            );
        }
        Ok(())
    }
}

/// Refuses numbers beyond their ranges.
pub(super) fn check_ranges(table: &Table) -> anyhow::Result<()> {
    for (section, name, range) in ranges() {
        if let Some(value) = lookup(table, section, name).filter(|value| !range.has(value)) {
            bail!("{} must be from {range}, not {value}", path(section, name));
        }
    }
    Ok(())
}

/// Where a table can not be read. The sections' errors say which setting it is, those of the general
/// ones, which are read through serde's `flatten`, do not.
pub(super) fn name_fault(table: &Table) -> String {
    let general = table.iter().filter(|(name, _)| General::SETTINGS.iter().any(|known| known.name == *name));
    let mut faults = general.filter(|(name, value)| {
        let alone = Table::from_iter([((*name).clone(), (*value).clone())]);
        Value::Table(alone).try_into::<General>().is_err()
    });
    match faults.next() {
        Some((name, value)) => format!("in the configuration: {name} can not be {value}"),
        None => "in the configuration".into(),
    }
}

/// Refuses unknown names, and says which names there are.
pub(super) fn check_names(table: &Table) -> anyhow::Result<()> {
    let known: BTreeMap<&str, &[Setting]> = SECTIONS.iter().map(|(name, _, all)| (*name, *all)).collect();
    let check = |section: &str, name: &str| {
        let settings = known.get(section).copied().unwrap_or_default();
        if settings.iter().any(|setting| setting.name == name) {
            return Ok(());
        }
        let names: Vec<_> = settings.iter().map(|setting| setting.name).collect();
        bail!("unknown setting {name:?}; here are known: {}", names.join(", "))
    };
    for (name, value) in table {
        match value {
            Value::Table(inner) if known.contains_key(name.as_str()) => {
                inner.keys().try_for_each(|inner| check(name, inner)).with_context(|| format!("[{name}]"))?;
            }
            _ => check("", name)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Range, load::tests::load, table::insert};

    #[test]
    fn mistakes_are_named() {
        for (file, env, expected) in [
            ("listne = '1'", vec![], "unknown setting \"listne\""),
            ("[limits]\nmax_filter = 1", vec![], "unknown setting \"max_filter\""),
            ("[limits]\nmax_filters = 'x'", vec![], "max_filters"),
            ("", vec![("ROOKERY_LIMITS_MAX_TAGS", "many")], "ROOKERY_LIMITS_MAX_TAGS"),
            ("[limits]\nmax_filters = 0", vec![], "limits.max_filters must be from 1 to 65536, not 0"),
            ("url = 'relay.example.com'", vec![], "url must look like"),
            ("listen = '7777x'", vec![], "listen can not be \"7777x\""),
            ("listen = 77777", vec![], "listen can not be 77777"),
            ("trusted_proxy = ['10.0.0.300/8']", vec![], "trusted_proxy"),
            ("trusted_proxy = ['proxy-1']", vec![], "\"proxy-1\" is no network"),
            ("log = 'warning'", vec![], "log can not be \"warning\""),
            ("", vec![("ROOKERY_LOG", "rookery=verbose")], "log can not be \"rookery=verbose\""),
            ("proxy_protocol = true", vec![], "proxy_protocol needs trusted_proxy"),
            ("[scylla]\ntls_ca = 'ca.pem'", vec![], "without scylla.tls = true"),
            ("[scylla]\ntls_name = 'cql'", vec![], "without scylla.tls = true"),
        ] {
            let error = format!("{:#}", load(file, &env, "").unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_number_has_a_range_and_nothing_beyond_it_is_taken() {
        let defaults = Table::try_from(Config::default()).unwrap();
        for (section, _, settings) in SECTIONS {
            for Setting { name, range, .. } in *settings {
                let default = lookup(&defaults, section, name).unwrap();
                assert_eq!(default.is_integer() || default.is_float(), range.is_some(), "{section}.{name}");
            }
        }
        let refusal = |section: &str, name: &str, value: Value| {
            let mut flags = Table::new();
            insert(&mut flags, section, name, value);
            let loaded = Config::load(None, |_| None, flags);
            // Some must be larger than others as well.
            loaded.err().map(|error| error.to_string()).filter(|text| text.contains(" must be from "))
        };
        for (section, name, range) in ranges() {
            let (inside, beyond) = match range {
                Range::Whole(from, to) => {
                    let beyond = [from.checked_sub(1), to.checked_add(1)].into_iter().flatten();
                    (vec![from.into(), to.into()], beyond.map(Value::Integer).collect::<Vec<_>>())
                }
                Range::Part(from, to) => {
                    let beyond = [from - 0.001, to + 0.001, f64::NAN];
                    (vec![from.into(), to.into()], beyond.map(Value::Float).into())
                }
            };
            for value in inside {
                assert_eq!(refusal(section, name, value), None, "{section}.{name}");
            }
            for value in beyond {
                let text = refusal(section, name, value.clone()).unwrap();
                assert!(text.ends_with(&format!("{name} must be from {range}, not {value}")), "{text}");
            }
        }
    }
}

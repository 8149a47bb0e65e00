//! Refuses what could not work, and says which setting it is.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use redis::IntoConnectionInfo;
use toml::{Table, Value};
use url::Url;

use super::{
    Config, General, QueueKind, SECTIONS, Setting, log_filter, paths, ranges,
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
        // A brace would begin the part of a channel that says which server has it; the others are signs of patterns in
        // the rights of Redis.
        ensure!(
            !self.bus.prefix.is_empty()
                && self
                    .bus
                    .prefix
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !br"{}*?[]\".contains(&byte)),
            "bus.prefix must be letters, digits and signs other than {{}}*?[]\\, not {:?}",
            self.bus.prefix
        );
        let aggregator = &self.aggregator;
        ensure!(
            aggregator.queue == QueueKind::Memory || !general.redis.is_empty(),
            "aggregator.queue = \"redis\" needs redis"
        );
        ensure!(
            aggregator.role.reads() == aggregator.role.consumes()
                || (aggregator.queue == QueueKind::Redis && !scylla.nodes.is_empty()),
            "aggregator.role = \"read\" or \"consume\" needs aggregator.queue = \"redis\" and scylla.nodes: the \
             processes share the store"
        );
        ensure!(
            ["", "grpc", "http/protobuf"].contains(&traces.protocol.as_str()),
            "traces.protocol must be \"grpc\" or \"http/protobuf\", not {:?}",
            traces.protocol
        );
        for (index, url) in general.redis.iter().enumerate() {
            // What is no URL may be a password.
            ensure!(
                url.as_str().into_connection_info().is_ok(),
                "redis must look like redis://127.0.0.1:6379; number {} does not",
                index + 1
            );
        }
        ensure!(
            traces.otlp.is_empty()
                || Url::parse(&traces.otlp)
                    .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host()),
            "traces.otlp must look like http://127.0.0.1:4317"
        );
        if !general.url.is_empty() {
            let rest = ["ws://", "wss://"].iter().find_map(|scheme| general.url.strip_prefix(scheme));
            ensure!(
                rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')),
                "url must look like wss://relay.example.com, not {:?}",
                general.url
            );
            self.relay_url()?;
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

/// Settings that may be written as a number too: a port.
pub(super) const ADDRESSES: [&str; 2] = ["listen", "ops_listen"];

/// Refuses values of another kind than the default's, in words of our own.
pub(super) fn check_kinds(table: &Table) -> anyhow::Result<()> {
    let defaults = Table::try_from(Config::default()).context("the defaults")?;
    for (section, name, called) in paths() {
        let (Some(value), Some(default)) = (lookup(table, section, name), lookup(&defaults, section, name))
        else {
            continue;
        };
        let (fits, kind) = match default {
            Value::Integer(_) => (value.is_integer(), "a whole number"),
            Value::Float(_) => (value.is_float() || value.is_integer(), "a number"),
            Value::Boolean(_) => (value.is_bool(), "true or false"),
            Value::Array(_) => (
                value.as_array().is_some_and(|list| list.iter().all(Value::is_str)),
                "a list of texts, such as [\"a\", \"b\"]",
            ),
            _ => (value.is_str() || ADDRESSES.contains(&&*called) && value.is_integer(), "a text in quotes"),
        };
        ensure!(fits, "{called} must be {kind}, not {value}");
    }
    Ok(())
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
        let is_section = !name.is_empty() && known.contains_key(name.as_str());
        match value {
            Value::Table(inner) if is_section => {
                inner.keys().try_for_each(|inner| check(name, inner)).with_context(|| format!("[{name}]"))?;
            }
            Value::Table(_) => {
                let sections: Vec<_> = known.keys().filter(|section| !section.is_empty()).collect();
                let sections = sections.iter().map(|section| format!("[{section}]")).collect::<Vec<_>>();
                bail!("unknown section [{name}]; there are: {}", sections.join(", "));
            }
            _ if is_section => bail!("{name} is a section: its settings stand below a line [{name}]"),
            _ => check("", name)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Range, Sources, Trust, load::tests::load, table::insert};

    #[test]
    fn mistakes_are_named() {
        for (file, env, expected) in [
            ("listne = '1'", vec![], "unknown setting \"listne\""),
            ("[limits]\nmax_filter = 1", vec![], "unknown setting \"max_filter\""),
            ("[limits]\nmax_filters = 'x'", vec![], "limits.max_filters must be a whole number, not \"x\""),
            ("[limits]\nauth_required = 1", vec![], "limits.auth_required must be true or false, not 1"),
            ("[limits]\nmax_filters = 'x'", vec![], "rookery.toml: limits.max_filters"),
            ("trusted_proxy = '10.0.0.1'", vec![], "trusted_proxy must be a list of texts"),
            ("url = 7", vec![], "url must be a text in quotes, not 7"),
            (
                "[limit]\nmax_filters = 1",
                vec![],
                "unknown section [limit]; there are: [accounts], [aggregator], [bus]",
            ),
            ("limits = 1", vec![], "limits is a section"),
            (
                "[bus]\nprefix = '{x}*?'",
                vec![],
                "bus.prefix must be letters, digits and signs other than {}*?[]",
            ),
            ("redis = ['127.0.0.1:6379']", vec![], "redis must look like redis://127.0.0.1:6379"),
            ("[aggregator]\nqueue = 'redis'", vec![], "aggregator.queue = \"redis\" needs redis"),
            ("[aggregator]\nrole = 'read'", vec![], "needs aggregator.queue = \"redis\" and scylla.nodes"),
            ("", vec![("ROOKERY_TRACES_OTLP", "127.0.0.1:4317")], "traces.otlp must look like http://"),
            ("url = 'ws://a b'", vec![], "url \"ws://a b\" is not valid"),
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
            let loaded = Sources::new(None, |_| None, flags).load(&Table::new(), Trust::Any);
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

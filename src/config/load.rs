//! Puts the configuration together from the command line, the environment, a file and the defaults.

use std::path::Path;

use anyhow::{Context, ensure};
use toml::{Table, Value};

use super::{
    Config, SECTIONS,
    check::{check_names, check_ranges, name_fault},
    network,
    table::{insert, lookup, merge, parse_like, variable},
};

impl Config {
    /// Puts the configuration together: `flags` win over the environment, the environment over the
    /// file, the file over the defaults.
    ///
    /// # Errors
    /// Says which setting, and where it came from.
    pub fn load(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
        flags: Table,
    ) -> anyhow::Result<Self> {
        let mut table = match file {
            Some(path) => read(path)?,
            None => Table::new(),
        };
        check_names(&table).with_context(|| match file {
            Some(path) => format!("in {}", path.display()),
            None => String::new(),
        })?;
        let defaults = Table::try_from(Self::default()).context("the defaults")?;
        for (section, _, settings) in SECTIONS {
            for setting in *settings {
                let variable = variable(section, setting.name);
                let Some(text) = env(&variable) else { continue };
                let value = parse_like(lookup(&defaults, section, setting.name), &text)
                    .with_context(|| format!("in the environment variable {variable}"))?;
                insert(&mut table, section, setting.name, value);
            }
        }
        merge(&mut table, flags);
        for name in ["listen", "ops_listen"] {
            if let Some(value) = table.get_mut(name) {
                *value =
                    network::socket_address(value).with_context(|| format!("{name} can not be {value}"))?;
            }
        }
        check_ranges(&table)?;
        let config: Self = Value::Table(table.clone()).try_into().with_context(|| name_fault(&table))?;
        config.validate()?;
        Ok(config)
    }
}

/// Takes `section.name=value` (or `name=value`) from the command line.
///
/// # Errors
/// Says what is wrong with the text.
pub fn set(flags: &mut Table, text: &str) -> anyhow::Result<()> {
    let (path, value) = text.split_once('=').with_context(|| format!("{text:?} is not SETTING=VALUE"))?;
    let (section, name) = path.split_once('.').unwrap_or(("", path));
    let defaults = Table::try_from(Config::default()).context("the defaults")?;
    let default = lookup(&defaults, section, name);
    ensure!(default.is_some(), "unknown setting {path:?}; `rookery config` prints them all");
    let value = parse_like(default, value).with_context(|| format!("in --set {text}"))?;
    insert(flags, section, name, value);
    Ok(())
}

/// The environment variables of all settings.
pub fn variables() -> impl Iterator<Item = String> {
    SECTIONS
        .iter()
        .flat_map(|(section, _, settings)| settings.iter().map(|setting| variable(section, setting.name)))
}

pub(super) fn read(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not valid TOML", path.display()))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    pub(in crate::config) fn load(file: &str, env: &[(&str, &str)], flags: &str) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("rookery.toml");
        std::fs::write(&path, file)?;
        let env: BTreeMap<_, _> = env.iter().copied().collect();
        Config::load(Some(&path), |name| env.get(name).map(|v| (*v).to_owned()), flags.parse()?)
    }

    #[test]
    fn flags_win_over_variables_over_file_over_defaults() {
        let file = "url = 'ws://file'\nnode_id = 'file'\nlog = 'file'\n[limits]\nmax_filters = 3\n";
        let env = [("ROOKERY_URL", "ws://env"), ("ROOKERY_NODE_ID", "env"), ("ROOKERY_LIMITS_MAX_TAGS", "9")];
        let config = load(file, &env, "url = 'ws://flag'").unwrap();
        assert_eq!(config.general.url, "ws://flag");
        assert_eq!(config.general.node_id, "env");
        assert_eq!(config.general.log, "file");
        assert_eq!((config.limits.max_filters, config.limits.max_tags), (3, 9));
        assert_eq!(config.limits.max_limit, 5_000);
    }

    #[test]
    fn lists_come_from_variables() {
        let config = load("", &[("ROOKERY_TRUSTED_PROXY", "10.0.0.0/8, ::1")], "").unwrap();
        assert_eq!(config.general.trusted_proxy.len(), 2);
    }

    #[test]
    fn addresses_may_be_names_or_ports_alone() {
        for (file, expected) in [
            ("listen = '7000'", "127.0.0.1:7000"),
            ("listen = 7000", "127.0.0.1:7000"),
            ("listen = 'localhost:7000'", "127.0.0.1:7000"),
            ("listen = '0.0.0.0:7000'", "0.0.0.0:7000"),
            ("listen = '[::1]:7000'", "[::1]:7000"),
        ] {
            assert_eq!(load(file, &[], "").unwrap().general.listen.to_string(), expected);
        }
        assert_eq!(load("", &[("ROOKERY_LISTEN", "7001")], "").unwrap().general.listen.port(), 7_001);
    }

    #[test]
    fn proxies_may_be_addresses_or_networks() {
        let file = "trusted_proxy = ['10.0.0.5', '10.1.0.0/16', '::1']\n[traces]\ntrusted = ['192.0.2.1']";
        let config = load(file, &[], "").unwrap();
        let shown = config.general.trusted_proxy.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown, ["10.0.0.5/32", "10.1.0.0/16", "::1/128"]);
        assert!(config.traces.trusted[0].contains("192.0.2.1".parse().unwrap()));
        let read_back = load(&config.to_toml(), &[], "").unwrap();
        assert_eq!(read_back.general.trusted_proxy, config.general.trusted_proxy);
    }
}

//! Puts the configuration together from the command line, records, the environment, a file and the defaults.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use toml::{Table, Value};

use super::{
    Config, SECTIONS,
    check::{ADDRESSES, check_kinds, check_ranges, name_fault},
    file::{Trust, read},
    log_filter, network,
    renamed::{OldName, current, old_names, rename},
    source::Source,
    table::{insert, lookup, merge, parse_like, split, variable},
};

/// What programs in Rust are told by what to log; wins over the setting `log`.
const RUST_LOG: &str = "RUST_LOG";

/// Answers for variables.
type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where settings come from. A node reads them again while it runs.
pub struct Sources {
    file: Option<PathBuf>,
    /// What stands in the place of a file where there is none.
    given: Table,
    env: Environment,
    flags: Table,
}

/// A configuration, and which source each setting has.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// What each source says, the weakest first.
    layers: [(Source, Table); 4],
    /// The old names of settings that sources use.
    pub old_names: Vec<OldName>,
}

impl Sources {
    /// `env` answers for variables, `flags` is what the command line says.
    pub fn new(
        file: Option<PathBuf>,
        env: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
        flags: Table,
    ) -> Self {
        Self { file, given: Table::new(), env: Box::new(env), flags }
    }

    /// A configuration that was made by a program, and that no file or variable changes.
    ///
    /// # Errors
    /// It can not be told as a table.
    pub fn fixed(config: &Config) -> anyhow::Result<Self> {
        let given = Table::try_from(config).context("the configuration")?;
        Ok(Self { file: None, given, env: Box::new(|_| None), flags: Table::new() })
    }

    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Puts the configuration together: flags win over `records`, these over variables, variables over the file, and
    /// the file over the defaults. All of it is checked as a whole.
    ///
    /// # Errors
    /// Says which setting, and where it came from.
    pub fn load(&self, records: &Table, trust: Trust) -> anyhow::Result<Loaded> {
        let (file, mut old_names) = match &self.file {
            Some(path) => read(path, trust)?,
            None => (self.given.clone(), Vec::new()),
        };
        let (mut variables, mut flags) = (self.variables()?, self.flags()?);
        old_names.extend(rename(&mut variables, Source::Variable)?);
        old_names.extend(rename(&mut flags, Source::Flag)?);
        let layers = [
            (Source::File, file),
            (Source::Variable, variables),
            (Source::Record, records.clone()),
            (Source::Flag, flags),
        ];
        Loaded::of(layers, old_names)
    }

    /// What the command line says; [`RUST_LOG`] wins over that too.
    fn flags(&self) -> anyhow::Result<Table> {
        let mut flags = self.flags.clone();
        if let Some(filter) = (self.env)(RUST_LOG).filter(|filter| !filter.is_empty()) {
            log_filter(&filter).with_context(|| format!("the variable {RUST_LOG} can not be {filter:?}"))?;
            flags.insert("log".to_owned(), Value::String(filter));
        }
        Ok(flags)
    }

    fn variables(&self) -> anyhow::Result<Table> {
        let defaults = Table::try_from(Config::default()).context("the defaults")?;
        let mut table = Table::new();
        for (section, _, settings) in SECTIONS {
            for setting in *settings {
                for (section, name) in names(section, setting.name) {
                    let variable = variable(section, name);
                    let Some(text) = (self.env)(&variable) else { continue };
                    let value = parse_like(default(&defaults, section, name), &text)
                        .with_context(|| format!("in the environment variable {variable}"))?;
                    insert(&mut table, section, name, value);
                }
            }
        }
        Ok(table)
    }
}

impl Loaded {
    fn of(layers: [(Source, Table); 4], old_names: Vec<OldName>) -> anyhow::Result<Self> {
        let mut table = Table::new();
        for (_, layer) in &layers {
            merge(&mut table, layer.clone());
        }
        check_kinds(&table)?;
        for name in ADDRESSES {
            if let Some(value) = table.get_mut(name) {
                *value =
                    network::socket_address(value).with_context(|| format!("{name} can not be {value}"))?;
            }
        }
        check_ranges(&table)?;
        let config: Config = Value::Table(table.clone()).try_into().with_context(|| name_fault(&table))?;
        config.validate()?;
        Ok(Self { config, layers, old_names })
    }

    /// The same with other records.
    ///
    /// # Errors
    /// Says which setting can not be.
    pub fn with_records(&self, records: &Table) -> anyhow::Result<Self> {
        let mut layers = self.layers.clone();
        for (source, table) in &mut layers {
            if *source == Source::Record {
                *table = records.clone();
            }
        }
        Self::of(layers, self.old_names.clone())
    }

    /// Where the value of a setting comes from.
    pub fn source(&self, section: &str, name: &str) -> Source {
        let says =
            |(source, table): &&(Source, Table)| lookup(table, section, name).is_some().then_some(*source);
        self.layers.iter().rev().find_map(|layer| says(&layer)).unwrap_or(Source::Default)
    }

    /// What a source says of a setting.
    pub fn said(&self, source: Source, section: &str, name: &str) -> Option<&Value> {
        let (_, table) = self.layers.iter().find(|(layer, _)| *layer == source)?;
        lookup(table, section, name)
    }
}

/// Takes `section.name=value` (or `name=value`) from the command line.
///
/// # Errors
/// Says what is wrong with the text.
pub fn set(flags: &mut Table, text: &str) -> anyhow::Result<()> {
    let (path, value) = text.split_once('=').with_context(|| format!("{text:?} is not SETTING=VALUE"))?;
    let (section, name) = split(path);
    let defaults = Table::try_from(Config::default()).context("the defaults")?;
    let default = default(&defaults, section, name);
    ensure!(default.is_some(), "unknown setting {path:?}; `rookery config` prints them all");
    let value = parse_like(default, value).with_context(|| format!("in --set {text}"))?;
    insert(flags, section, name, value);
    Ok(())
}

/// The environment variables of all settings, those of old names included.
pub fn variables() -> impl Iterator<Item = String> {
    let all = SECTIONS
        .iter()
        .flat_map(|(section, _, settings)| settings.iter().map(move |setting| (*section, setting.name)));
    all.flat_map(|(section, name)| names(section, name)).map(|(section, name)| variable(section, name))
}

/// The name of a setting, and its old ones.
fn names(section: &'static str, name: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    std::iter::once((section, name)).chain(old_names(section, name))
}

/// The default of a setting, which may be called by its old name.
fn default<'a>(defaults: &'a Table, section: &str, name: &str) -> Option<&'a Value> {
    let (section, name) = current(section, name);
    lookup(defaults, section, name)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    pub(in crate::config) fn load(file: &str, env: &[(&str, &str)], flags: &str) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("rookery.toml");
        std::fs::write(&path, file)?;
        let env: BTreeMap<_, _> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let sources = Sources::new(Some(path), move |name| env.get(name).cloned(), flags.parse()?);
        Ok(sources.load(&Table::new(), Trust::Any)?.config)
    }

    #[test]
    fn flags_win_over_variables_over_file_over_defaults() {
        let file = "url = 'ws://file'\nnode_id = 'file'\nlog = 'warn'\n[limits]\nmax_filters = 3\n";
        let env = [("ROOKERY_URL", "ws://env"), ("ROOKERY_NODE_ID", "env"), ("ROOKERY_LIMITS_MAX_TAGS", "9")];
        let config = load(file, &env, "url = 'ws://flag'").unwrap();
        assert_eq!(config.general.url, "ws://flag");
        assert_eq!(config.general.node_id, "env");
        assert_eq!(config.general.log, "warn");
        assert_eq!((config.limits.max_filters, config.limits.max_tags), (3, 9));
        assert_eq!(config.limits.max_limit, 5_000);
    }

    #[test]
    fn rust_log_wins_over_all() {
        let log = |rust_log| load("log = 'warn'", &[("RUST_LOG", rust_log)], "log = 'error'");
        assert_eq!(log("rookery=trace").unwrap().general.log, "rookery=trace");
        assert_eq!(log("").unwrap().general.log, "error");
        for wrong in ["warning", "foo=bar"] {
            let error = format!("{:#}", log(wrong).unwrap_err());
            assert!(error.contains("RUST_LOG can not be"), "{error}");
        }
    }

    #[test]
    fn lists_come_from_variables_with_commas_or_as_in_the_file() {
        for text in ["10.0.0.0/8, ::1", r#"["10.0.0.0/8", "::1"]"#, " ['10.0.0.0/8', '::1',] "] {
            let config = load("", &[("ROOKERY_TRUSTED_PROXY", text)], "").unwrap();
            assert_eq!(config.general.trusted_proxy.len(), 2, "{text}");
            let mut flags = Table::new();
            set(&mut flags, &format!("trusted_proxy={text}")).unwrap();
            assert_eq!(flags["trusted_proxy"].as_array().unwrap().len(), 2, "{text}");
        }
        let nodes = load("", &[("ROOKERY_SCYLLA_NODES", "[::1]:9042,[::2]:9042")], "").unwrap().scylla.nodes;
        assert_eq!(nodes, ["[::1]:9042", "[::2]:9042"]);
        assert_eq!(load("", &[("ROOKERY_SCYLLA_NODES", "[]")], "").unwrap().scylla.nodes, [""; 0]);
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

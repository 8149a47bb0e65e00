//! What may change while a node runs: what is in force, and what a change is.

use std::sync::Arc;

use anyhow::{Context, bail};
use arc_swap::{ArcSwap, Guard};
use toml::{Table, Value};

use super::{
    Config, Info, Limits, OldName, Rate, SECTIONS, Session, Setting, Source, Sync, TakesEffect,
    renamed::{current, old_name, old_names, remove_overruled, rename},
    table::{insert, lookup, parse_like, path, remove, split},
};

/// The sections of which something may change while a node runs. What is fixed in them is as at the start.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub info: Info,
    pub limits: Limits,
    pub rate: Rate,
    pub session: Session,
    pub sync: Sync,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let Config { info, limits, rate, session, sync, .. } = config.clone();
        Self { info, limits, rate, session, sync }
    }
}

/// The settings in force. Whoever acts on a message takes them once, so that the whole of it is judged alike.
pub struct Live(ArcSwap<Settings>);

impl Live {
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(settings)))
    }

    /// Those of now. To be held for a moment only: what is kept for long is not replaced.
    pub fn load(&self) -> Guard<Arc<Settings>> {
        self.0.load()
    }

    /// The same, for as long as one waits.
    pub fn load_full(&self) -> Arc<Settings> {
        self.0.load_full()
    }

    pub fn replace(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
    }
}

/// A setting that two configurations do not agree about.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub section: &'static str,
    pub setting: &'static str,
    pub change: TakesEffect,
    old: Option<Value>,
    new: Option<Value>,
}

impl Difference {
    /// What operators call the setting.
    pub fn path(&self) -> String {
        path(self.section, self.setting)
    }

    /// For the log: `limits.max_tags 5000 → 9`. Only what is live is shown whole: there is no secret in it.
    pub fn told(&self) -> String {
        let shown = |value: &Option<Value>| value.as_ref().map(ToString::to_string).unwrap_or_default();
        match self.change {
            TakesEffect::Live => format!("{} {} → {}", self.path(), shown(&self.old), shown(&self.new)),
            TakesEffect::AtStart => self.path(),
        }
    }
}

/// The settings in which two configurations differ.
pub fn differences(old: &Config, new: &Config) -> Vec<Difference> {
    let table = |config| Table::try_from(config).unwrap_or_default();
    let (old, new) = (table(old), table(new));
    let difference = |section: &'static str, setting: &'static Setting| {
        let of = |table| lookup(table, section, setting.name).cloned();
        let (old, new) = (of(&old), of(&new));
        let change = setting.change;
        (old != new).then_some(Difference { section, setting: setting.name, change, old, new })
    };
    all().filter_map(|(section, setting)| difference(section, setting)).collect()
}

impl Config {
    /// The same with what is live in another one.
    ///
    /// # Errors
    /// When the two together can not be.
    pub fn with_live(&self, newer: &Self) -> anyhow::Result<Self> {
        let mut table = Table::try_from(self).context("the configuration")?;
        let newer = Table::try_from(newer).context("the configuration")?;
        for (section, setting) in all().filter(|(_, setting)| setting.change == TakesEffect::Live) {
            if let Some(value) = lookup(&newer, section, setting.name) {
                insert(&mut table, section, setting.name, value.clone());
            }
        }
        let config: Self = Value::Table(table).try_into().context("the configuration")?;
        config.validate()?;
        Ok(config)
    }
}

/// Changes one setting in a table of settings that nodes share: to what the text says, or back to what each node has.
/// Where it is called by its old name, says so.
///
/// # Errors
/// There is no such setting, it can not change while nodes run, or the text is nothing for it.
pub fn change(records: &mut Table, called: &str, text: Option<&str>) -> anyhow::Result<Option<OldName>> {
    let (old_section, name_given) = split(called);
    let (section, name) = current(old_section, name_given);
    let path = path(section, name);
    let defaults = Table::try_from(Config::default()).context("the defaults")?;
    match find(section, name).map(|setting| setting.change) {
        None => bail!("unknown setting {path:?}; `rookery config` prints them all"),
        Some(TakesEffect::AtStart) => {
            bail!("{path} takes effect at the start of a node: set it in the file, a variable or a flag")
        }
        Some(TakesEffect::Live) => {}
    }
    match text {
        Some(text) => {
            let value = parse_like(lookup(&defaults, section, name), text).with_context(|| path)?;
            insert(records, section, name, value);
        }
        None => {
            remove(records, section, name);
        }
    }
    for (section, name) in old_names(section, name) {
        remove(records, section, name);
    }
    Ok(old_name(old_section, name_given))
}

/// What of shared settings this program can use.
pub struct Usable {
    pub settings: Table,
    /// The names of what it can not use: a program of another version may have written it.
    pub unfit: Vec<String>,
    pub old_names: Vec<OldName>,
}

/// Takes out of shared settings what this program can use.
pub fn usable(records: &Table) -> Usable {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let mut records = records.clone();
    let (mut fit, mut unfit) = (Table::new(), remove_overruled(&mut records));
    let old_names = rename(&mut records, Source::Record).unwrap_or_default();
    let mut sort = |section: &str, name: &str, value: &Value| {
        let setting = find(section, name).filter(|setting| setting.change == TakesEffect::Live);
        let is_fit = setting.is_some_and(|setting| {
            let is_like = lookup(&defaults, section, name).is_some_and(|default| default.same_type(value));
            is_like && setting.range.is_none_or(|range| range.has(value))
        });
        match is_fit {
            true => insert(&mut fit, section, name, value.clone()),
            false => unfit.push(path(section, name)),
        }
    };
    for (section, value) in &records {
        match value {
            Value::Table(settings) => settings.iter().for_each(|(name, value)| sort(section, name, value)),
            value => sort("", section, value),
        }
    }
    Usable { settings: fit, unfit, old_names }
}

/// All settings, each with its section.
fn all() -> impl Iterator<Item = (&'static str, &'static Setting)> {
    SECTIONS.iter().flat_map(|(section, _, settings)| settings.iter().map(|setting| (*section, setting)))
}

fn find(section: &str, name: &str) -> Option<&'static Setting> {
    all().find(|(its, setting)| *its == section && setting.name == name).map(|(_, setting)| setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_live_is_taken_over_and_nothing_else() {
        let old = Config::default();
        let mut new = Config::default();
        new.limits.max_tags = 9;
        new.scylla.password = "secret".into();
        let told: Vec<String> = differences(&old, &new).iter().map(Difference::told).collect();
        assert_eq!(told, ["limits.max_tags 5000 → 9", "scylla.password"]);
        let running = old.with_live(&new).unwrap();
        assert_eq!((running.limits.max_tags, &*running.scylla.password), (9, ""));
    }

    #[test]
    fn what_is_not_live_can_not_be_shared() {
        let mut records = Table::new();
        for path in ["listen", "url", "trusted_proxy", "redis", "scylla.password", "data", "session.mailbox"]
        {
            let refusal = change(&mut records, path, Some("1")).unwrap_err().to_string();
            assert!(refusal.contains("takes effect at the start"), "{refusal}");
        }
        assert!(
            change(&mut records, "limits.max_tag", Some("1")).unwrap_err().to_string().contains("unknown")
        );
        assert!(
            format!("{:#}", change(&mut records, "limits.max_tags", Some("x")).unwrap_err())
                .contains("whole")
        );
        assert!(records.is_empty());
        change(&mut records, "limits.max_tags", Some("9")).unwrap();
        assert_eq!(lookup(&records, "limits", "max_tags"), Some(&Value::Integer(9)));
        change(&mut records, "limits.max_tags", None).unwrap();
        assert_eq!(lookup(&records, "limits", "max_tags"), None);
    }

    #[test]
    fn what_another_version_wrote_is_left_out_by_name() {
        let text = "new = 1\nlisten = '127.0.0.1:1'\n[limits]\nmax_tags = 9\nmax_filters = 0\nmax_limit = 'x'\n[x]\ny = 1";
        let Usable { settings, unfit, old_names } = usable(&text.parse().unwrap());
        assert_eq!(old_names, []);
        assert_eq!(settings.to_string(), "[limits]\nmax_tags = 9\n");
        assert_eq!(unfit, ["limits.max_filters", "limits.max_limit", "listen", "new", "x.y"]);
    }
}

//! Shows the configuration: what is in force, and what could be set.

use toml::Table;
use url::Url;

use super::{
    Config, Loaded, SECTIONS, Setting, Source, TakesEffect,
    renamed::{RENAMED, Renamed},
    table::{lookup, path, variable},
};

impl Config {
    /// The configuration without passwords, to be shown.
    pub fn without_secrets(&self) -> Self {
        let mut shown = self.clone();
        if !shown.scylla.password.is_empty() {
            shown.scylla.password = HIDDEN.to_owned();
        }
        for url in &mut shown.general.redis {
            *url = without_password(url);
        }
        if !shown.traces.otlp.is_empty() {
            shown.traces.otlp = without_password(&shown.traces.otlp);
        }
        shown
    }

    /// The effective configuration as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

impl Loaded {
    /// The effective configuration as a file, without passwords; behind each value that is not the default, where it
    /// comes from.
    pub fn to_toml(&self) -> String {
        let shown = Table::try_from(self.config.without_secrets()).unwrap_or_default();
        let mut out = String::new();
        for (section, _, settings) in SECTIONS {
            if !section.is_empty() {
                out.push_str(&format!("\n[{section}]\n"));
            }
            for Setting { name, .. } in *settings {
                let value = lookup(&shown, section, name).map(ToString::to_string).unwrap_or_default();
                let source = match self.source(section, name) {
                    Source::Default => String::new(),
                    source => format!(" # {}", source.told(section, name)),
                };
                out.push_str(&format!("{name} = {value}{source}\n"));
            }
        }
        out
    }
}

/// Stands where a password is.
const HIDDEN: &str = "hidden";

fn without_password(text: &str) -> String {
    // What is no such URL may be anything, and a query may have one.
    let Some(mut url) = Url::parse(text).ok().filter(|url| url.has_host() && url.query().is_none()) else {
        return HIDDEN.to_owned();
    };
    // A URL that is left as it is keeps its spelling too.
    match url.password().is_some() && url.set_password(Some(HIDDEN)).is_ok() {
        true => url.into(),
        false => text.to_owned(),
    }
}

/// `rookery.example.toml`: every setting with its explanation and default, commented out.
pub fn example() -> String {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let mut out = String::from(
        "# Every setting of Rookery with its default. Made by `rookery config --example`.\n\
         # Flags win over what was changed while nodes run, that over ROOKERY_… variables, these over this file.\n\
         # In a flag or a variable a list is written with commas (a,b), or as here.\n\
         # What is live takes effect when this file changes; the rest at the next start.\n",
    );
    for (section, about, settings) in SECTIONS {
        out.push('\n');
        for line in *about {
            out.push_str(&format!("#{line}\n"));
        }
        if !section.is_empty() {
            out.push_str(&format!("[{section}]\n"));
        }
        for setting in *settings {
            out.push('\n');
            for line in setting.doc {
                out.push_str(&format!("#{line}\n"));
            }
            if let Some(range) = setting.range {
                out.push_str(&format!("# From {range}.\n"));
            }
            if setting.change == TakesEffect::Live {
                out.push_str("# Live.\n");
            }
            let value = lookup(&defaults, section, setting.name).map(ToString::to_string).unwrap_or_default();
            out.push_str(&format!("#{} = {value}\n", setting.name));
        }
    }
    out
}

/// `docs/configuration.md`: the same as a reference.
pub fn reference() -> String {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let mut out = String::from(
        "# Configuration\n\n\
         Made from the code by `rookery config --reference`.\n\n\
         A setting is taken from the first of: the command line, what was changed while nodes run (a record\n\
         of the store, for all nodes that share it), the environment, the file given with `--config` (or\n\
         `ROOKERY_CONFIG`), its default. `rookery config` prints what a node would start with, and\n\
         `rookery config running` what is in force in one that runs; both say where each value comes from,\n\
         and show no passwords.\n\n\
         In a variable and after `--set` a list is written with commas\n\
         (`ROOKERY_TRUSTED_PROXY=10.0.0.5,10.1.0.0/16`), or as in the file.\n\n\
         What is *live* may change while a node runs: see\n\
         [operations.md](operations.md#changing-settings-while-it-runs). All else takes effect at the next\n\
         start.\n",
    );
    for (section, about, settings) in SECTIONS {
        let title = if section.is_empty() { "General".to_owned() } else { format!("[{section}]") };
        out.push_str(&format!("\n## {title}\n\n"));
        for line in *about {
            out.push_str(&format!("{}\n", line.trim_start()));
        }
        out.push_str(
            "\n| setting | default | from – to | live | variable | meaning |\n|---|---|---|---|---|---|\n",
        );
        for setting in *settings {
            let value = lookup(&defaults, section, setting.name).map(ToString::to_string).unwrap_or_default();
            let doc: Vec<_> = setting.doc.iter().map(|line| line.trim_start()).collect();
            out.push_str(&format!(
                "| `{}` | `{value}` | {} | {} | `{}` | {} |\n",
                setting.name,
                setting.range.map(|range| range.to_string().replace(" to ", " – ")).unwrap_or_default(),
                if setting.change == TakesEffect::Live { "yes" } else { "" },
                variable(section, setting.name),
                doc.join(" ")
            ));
        }
    }
    out.push_str(
        "\n## Old names\n\nThe names that settings had in the version before are understood, with a warning.\n\n\
         | old name | setting |\n|---|---|\n",
    );
    for Renamed { old, new } in RENAMED {
        out.push_str(&format!("| `{}` | `{}` |\n", path(old.0, old.1), path(new.0, new.1)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::tests::load;

    #[test]
    fn passwords_are_not_shown() {
        let mut config = Config::default();
        config.scylla.password = "secret".into();
        config.general.redis = [
            "redis://user:secret@redis-1:6379",
            "rediss://:secret@redis-2",
            "unix:///run/redis?user=u&pass=secret",
            "user:secret@redis-3:6379",
            "redis://redis-4:6379",
        ]
        .map(str::to_owned)
        .to_vec();
        let shown = config.without_secrets();
        assert!(!shown.to_toml().contains("secret"), "{}", shown.to_toml());
        assert_eq!(shown.general.redis[0], "redis://user:hidden@redis-1:6379");
        assert_eq!(shown.general.redis[4], "redis://redis-4:6379");
        assert_eq!(Config::default().without_secrets().to_toml(), Config::default().to_toml());
    }

    #[test]
    fn the_example_with_its_comments_taken_away_is_the_default() {
        let uncommented: String = example()
            .lines()
            .filter_map(|line| line.strip_prefix('#').map_or(Some(line), |l| l.contains(" = ").then_some(l)))
            .filter(|line| !line.starts_with(' '))
            .map(|line| format!("{line}\n"))
            .collect();
        let config = load(&uncommented, &[], "").unwrap();
        assert_eq!(config.to_toml(), Config::default().to_toml());
    }

    #[test]
    fn the_effective_configuration_can_be_read_back() {
        let text = Config::default().to_toml();
        assert_eq!(load(&text, &[], "").unwrap().to_toml(), text);
    }
}

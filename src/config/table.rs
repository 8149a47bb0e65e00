//! Settings as a table: one of TOML, in which those of a section stand in a table of its name, and the general ones at
//! the top.

use anyhow::Context;
use toml::{Table, Value};

/// Lays `over` onto `table`, table by table.
pub(super) fn merge(table: &mut Table, over: Table) {
    for (name, value) in over {
        match (table.get_mut(&name), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => merge(inner, over),
            (_, value) => {
                table.insert(name, value);
            }
        }
    }
}

/// The environment variable of a setting: `ROOKERY_LISTEN`, `ROOKERY_LIMITS_MAX_FILTERS`.
pub(super) fn variable(section: &str, name: &str) -> String {
    match section {
        "" => format!("ROOKERY_{name}"),
        section => format!("ROOKERY_{section}_{name}"),
    }
    .to_uppercase()
}

pub(super) fn lookup<'a>(table: &'a Table, section: &str, name: &str) -> Option<&'a Value> {
    match section {
        "" => table.get(name),
        section => table.get(section)?.get(name),
    }
}

pub(super) fn insert(table: &mut Table, section: &str, name: &str, value: Value) {
    let target = match section {
        "" => table,
        section => {
            let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = entry else { return };
            inner
        }
    };
    target.insert(name.to_owned(), value);
}

/// Reads a variable as the type that the setting's default has. A list is written with commas, or as in the file.
pub(super) fn parse_like(default: Option<&Value>, text: &str) -> anyhow::Result<Value> {
    Ok(match default {
        Some(Value::Integer(_)) => Value::Integer(text.parse().context("a whole number is expected")?),
        Some(Value::Float(_)) => Value::Float(text.parse().context("a number is expected")?),
        Some(Value::Boolean(_)) => Value::Boolean(text.parse().context("true or false is expected")?),
        Some(Value::Array(_)) => Value::Array(list(text)),
        _ => Value::String(text.to_owned()),
    })
}

fn list(text: &str) -> Vec<Value> {
    // An address of IPv6 begins with a bracket as well, but is no TOML.
    let as_in_file = format!("list = {}", text.trim()).parse::<Table>();
    if let Some(Value::Array(list)) = as_in_file.ok().and_then(|mut table| table.remove("list")) {
        return list;
    }
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| Value::String(part.to_owned())).collect()
}

/// Takes a setting out of a table.
pub(super) fn remove(table: &mut Table, section: &str, name: &str) -> Option<Value> {
    match section {
        "" => table.remove(name),
        section => table.get_mut(section)?.as_table_mut()?.remove(name),
    }
}

/// What operators call a setting: `listen`, `limits.max_filters`.
pub(super) fn path(section: &str, name: &str) -> String {
    match section {
        "" => name.to_owned(),
        section => format!("{section}.{name}"),
    }
}

/// The section and the name of a setting that is called so.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.split_once('.').unwrap_or(("", path))
}

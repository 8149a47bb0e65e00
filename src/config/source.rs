//! Where settings come from.

use super::table::variable;

/// Where a setting's value comes from, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    File,
    Variable,
    /// Changed while nodes ran, for all nodes that share the store.
    Record,
    Flag,
}

impl Source {
    /// What operators call it, of that setting.
    pub fn told(self, section: &str, name: &str) -> String {
        match self {
            Self::Default => "the default".to_owned(),
            Self::File => "the file".to_owned(),
            Self::Variable => variable(section, name),
            Self::Record => "a record of the store".to_owned(),
            Self::Flag => "the command line".to_owned(),
        }
    }
}

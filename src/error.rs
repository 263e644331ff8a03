//! What is wrong with an argument, in words that name it.

use std::fmt;

/// A configuration value that is out of range. Nothing was created or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigError {
    /// Name of the argument, the same in every language.
    pub argument: &'static str,
    /// The value that was given.
    pub value: u64,
    /// What is allowed instead.
    pub allowed: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {}, allowed is {}", self.argument, self.value, self.allowed)
    }
}

impl std::error::Error for ConfigError {}

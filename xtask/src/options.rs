//! The options of a command: `--name value`, `--flag`, and words.

use std::collections::BTreeMap;

use crate::shell::Failure;

/// What came after the command's name.
pub struct Options {
    words: Vec<String>,
    named: BTreeMap<String, String>,
}

impl Options {
    /// Sorts `--name value` from the words. The words keep everything, for commands that pass them on.
    pub fn parse(words: Vec<String>) -> Result<Self, Failure> {
        let mut named = BTreeMap::new();
        for (index, word) in words.iter().enumerate() {
            if let Some(name) = word.strip_prefix("--") {
                let value = words.get(index + 1).filter(|next| !next.starts_with("--"));
                named.insert(name.to_owned(), value.cloned().unwrap_or_default());
            }
        }
        Ok(Self { words, named })
    }

    /// Everything, as it was given.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The words that are neither an option nor an option's value.
    pub fn plain(&self) -> Vec<&str> {
        let mut plain = Vec::new();
        let mut is_value = false;
        for word in &self.words {
            if !is_value && !word.starts_with("--") {
                plain.push(word.as_str());
            }
            is_value = word.starts_with("--");
        }
        plain
    }

    /// Whether `--name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// What was given as `--name`, if anything was.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.named
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The number that was given as `--name`, or `default`.
    ///
    /// # Errors
    /// When it is not a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, Failure> {
        match self.named.get(name) {
            None => Ok(default),
            Some(value) => value
                .parse()
                .map_err(|_| Failure::new(format!("--{name} needs a number, not {value:?}"))),
        }
    }
}

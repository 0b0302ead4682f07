//! Every dependency's licence, held against a list of permissive ones.
//!
//! A small reader of SPDX expressions is enough here and spares every build a checker that takes minutes to
//! compile. A dependency without a `license` field fails: somebody has to look at it.

use serde_json::Value;

use crate::shell::{Context as _, Failure, Workspace};

/// Licences that ask for no more than their own notice.
const PERMISSIVE: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks all dependencies of the workspace, and that what is vendored brings its licence.
///
/// # Errors
/// Names each that does not pass.
pub fn check(workspace: &Workspace) -> Result<String, Failure> {
    let metadata = workspace
        .cargo(&["metadata", "--format-version", "1", "--locked"])
        .output()?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or_else(|| Failure::new("cargo metadata lists no packages"))?;
    let mut refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(is_permissive))
        .map(|package| {
            format!(
                "{} {}: {}",
                package["name"], package["version"], package["license"]
            )
        })
        .collect();
    refused.extend(unlicensed_vendored(workspace)?);
    if refused.is_empty() {
        return Ok(format!("{} packages, all permissive", packages.len()));
    }
    Err(Failure::new(format!(
        "not in the list of permissive licences:\n  {}",
        refused.join("\n  ")
    )))
}

/// Whether a choice that the expression offers is permissive.
fn is_permissive(expression: &str) -> bool {
    // The old form `MIT/Apache-2.0` means OR.
    let expression = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    let mut parser = Parser { words: &words, at: 0 };
    let is_permissive = parser.any();
    is_permissive && parser.at == words.len()
}

struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let is_next = self
            .words
            .get(self.at)
            .is_some_and(|next| next.eq_ignore_ascii_case(word));
        self.at += usize::from(is_next);
        is_next
    }

    fn any(&mut self) -> bool {
        let mut any = self.all();
        while self.take("OR") {
            any |= self.all();
        }
        any
    }

    fn all(&mut self) -> bool {
        let mut all = self.one();
        while self.take("AND") {
            all &= self.one();
        }
        all
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let inner = self.any();
            return self.take(")") && inner;
        }
        let Some(name) = self.words.get(self.at) else {
            return false;
        };
        self.at += 1;
        let mut name = (*name).to_owned();
        if self.take("WITH") {
            name = format!("{name} WITH {}", self.words.get(self.at).unwrap_or(&""));
            self.at += 1;
        }
        PERMISSIVE.contains(&name.as_str())
    }
}

/// Directories with vendored code that have no licence file anywhere beneath them.
fn unlicensed_vendored(workspace: &Workspace) -> Result<Vec<String>, Failure> {
    let vendor = workspace.root().join("static/vendor");
    let Ok(entries) = std::fs::read_dir(&vendor) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.context(vendor.display())?.path());
    }
    let is_licence = |path: &std::path::PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().to_ascii_lowercase().contains("licen"))
    };
    let has_own = |directory: &std::path::PathBuf| {
        std::fs::read_dir(directory).is_ok_and(|files| files.flatten().any(|file| is_licence(&file.path())))
    };
    // Either each directory has its licence, or the licences lie beside the files.
    let flat = names.iter().any(is_licence) || names.iter().any(|path| path.ends_with("licences"));
    Ok(names
        .iter()
        .filter(|path| path.is_dir() && !flat && !has_own(path))
        .map(|path| format!("{} has no licence file", path.display()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::is_permissive;

    #[test]
    fn one_permissive_choice_is_enough() {
        for expression in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
        ] {
            assert!(is_permissive(expression), "{expression}");
        }
    }

    #[test]
    fn what_is_not_in_the_list_is_refused() {
        for expression in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MPL-2.0",
            "",
            "(MIT",
            "EUPL-1.2 OR MIT AND GPL-2.0",
        ] {
            assert!(!is_permissive(expression), "{expression}");
        }
    }
}

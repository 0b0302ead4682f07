//! Holds the tree to the house's rules: sizes, rooms, what must not stand in code.
//!
//! Every rule is a function from a path and a text to what it breaks, so that a test can show that it finds
//! something. The lists of exceptions only shrink.

mod code;
mod rooms;

use std::{fmt, fs, path::Path};

use code::Source;

/// Folders that are not ours, or are made by tools.
const SKIPPED_FOLDERS: [&str; 7] = [
    "target",
    "node_modules",
    "vendor",
    ".git",
    "callboard-data",
    "corpus",
    "artifacts",
];
/// Longest file, lines.
const LINES_MAX: usize = 600;
/// Files that are one list or one contract, and are read by searching.
const LONG_FILES: [&str; 2] = ["docs/protocol.md", "CHANGELOG.md"];
/// Longest README: a page.
const README_LINES_MAX: usize = 80;
/// Longest ARCHITECTURE.md.
const ARCHITECTURE_LINES_MAX: usize = 200;

/// A place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.what)
    }
}

fn violation(path: &str, line: usize, what: impl Into<String>) -> Violation {
    Violation {
        path: path.to_owned(),
        line,
        what: what.into(),
    }
}

/// Everything that a file breaks by itself. `is_test` says whether it is compiled for tests only.
fn check(path: &str, text: &str, is_test: bool) -> Vec<Violation> {
    let mut found = Vec::new();
    length(path, text, &mut found);
    hosts(path, text, &mut found);
    if path.ends_with(".rs") {
        if !text.starts_with("//!") {
            found.push(violation(path, 1, "begins without a module's header (//!)"));
        }
        if !is_test {
            let code = Source::new(text).without_tests();
            code::forbidden(path, &code, &mut found);
            rooms::imports(path, &code, &mut found);
        }
    }
    if path.ends_with("Cargo.toml") {
        rooms::dependencies(path, text, &mut found);
    }
    found
}

fn length(path: &str, text: &str, found: &mut Vec<Violation>) {
    let lines = text.lines().count();
    let lines_max = match path {
        "README.md" => README_LINES_MAX,
        "ARCHITECTURE.md" => ARCHITECTURE_LINES_MAX,
        _ if LONG_FILES.contains(&path) => usize::MAX,
        _ if [".rs", ".js", ".mjs", ".css", ".html", ".md"]
            .iter()
            .any(|end| path.ends_with(end)) =>
        {
            LINES_MAX
        }
        _ => usize::MAX,
    };
    if lines > lines_max {
        found.push(violation(
            path,
            lines,
            format!("has {lines} lines; {lines_max} are allowed"),
        ));
    }
}

/// Names of package registries: where a package comes from is the business of whoever builds.
fn hosts(path: &str, text: &str, found: &mut Vec<Violation>) {
    if path.ends_with("Cargo.lock") {
        return; // Written by cargo, which names its registry in it.
    }
    // Put together, so that this file does not hold what it looks for.
    let names = [
        ("crates", "io"),
        ("npmjs", "org"),
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("debian", "org"),
    ]
    .map(|(name, end)| format!("{name}.{end}"));
    for (index, line) in text.lines().enumerate() {
        for name in names.iter().filter(|name| line.contains(name.as_str())) {
            found.push(violation(
                path,
                index + 1,
                format!("names a registry's host, {name}"),
            ));
        }
    }
}

/// Every text file of the tree with its path from the root.
fn tree() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                let name = entry.file_name();
                // A virtual environment or a cache of a tool: named with a dot, except our own.
                let is_hidden = name.to_string_lossy().starts_with('.') && name != ".ci" && name != ".cargo";
                if !is_hidden && !SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped) {
                    folders.push(path);
                }
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                files.push((relative(root, &path), text));
            }
        }
    }
    files.sort();
    files
}

fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).expect("found below the root");
    inside.to_string_lossy().replace('\\', "/")
}

#[test]
fn the_tree_keeps_the_rules_of_the_house() {
    let files = tree();
    assert!(files.len() > 30, "the tree was not found: {} files", files.len());
    let tests = code::test_modules(&files);
    let found: Vec<Violation> = files
        .iter()
        .flat_map(|(path, text)| check(path, text, code::is_test(path, &tests)))
        .collect();
    let list: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(
        found.is_empty(),
        "{} violations:\n{}",
        list.len(),
        list.join("\n")
    );
}

/// The lines at which `text`, put at `path`, breaks a rule.
fn lines(path: &str, text: &str) -> Vec<usize> {
    check(path, text, false)
        .into_iter()
        .map(|violation| violation.line)
        .collect()
}

#[test]
fn every_rule_finds_what_breaks_it() {
    for (path, text, at) in [
        ("src/actors/a.rs", "//! A.\nuse crate::web::ws;\n", 2),
        (
            "src/actors/a.rs",
            "//! A.\nuse crate::{\n    store::Log,\n    web,\n};\n",
            4,
        ),
        (
            "src/actors/a.rs",
            "//! A.\nfn f() {\n    crate::cli::run();\n}\n",
            3,
        ),
        ("src/actors/a.rs", "//! A.\nuse callboard_client::Client;\n", 2),
        ("src/store/a.rs", "//! A.\nuse crate::actors::hub;\n", 2),
        ("src/store/a.rs", "//! A.\nuse actix::Actor;\n", 2),
        ("src/web/a.rs", "//! A.\nuse crate::store::Log;\n", 2),
        ("src/cli/a.rs", "//! A.\nuse crate::actors::hub;\n", 2),
        (
            "src/cli/a.rs",
            "//! A.\nuse callboard::{config, store::Log};\n",
            2,
        ),
        ("crates/core/src/a.rs", "//! A.\nuse tokio::time;\n", 2),
        (
            "crates/core/src/a.rs",
            "//! A.\nuse std::{\n    collections::HashMap,\n    time::Instant,\n};\n",
            4,
        ),
        ("crates/core/src/a.rs", "//! A.\nuse std::fs::File;\n", 2),
        (
            "crates/protocol/src/a.rs",
            "//! A.\nuse callboard_core::record;\n",
            2,
        ),
        ("crates/client/src/a.rs", "//! A.\nuse callboard::actors;\n", 2),
        (
            "crates/load/src/a.rs",
            "//! A.\nuse callboard_protocol::Offset;\n",
            2,
        ),
        (
            "crates/peers/src/a.rs",
            "//! A.\nuse callboard_core::record;\n",
            2,
        ),
        (
            "crates/core/Cargo.toml",
            "[package]\n[dependencies]\ntokio = \"1\"\n",
            3,
        ),
        (
            "crates/protocol/Cargo.toml",
            "[dependencies.callboard-core]\npath = \"../core\"\n",
            1,
        ),
        (
            "crates/client/Cargo.toml",
            "[dependencies]\ncallboard-core.workspace = true\n",
            2,
        ),
        (
            "src/a.rs",
            "//! A.\nfn f(x: Option<u8>) {\n    x.unwrap();\n}\n",
            3,
        ),
        (
            "src/a.rs",
            "//! A.\nfn f(x: Option<u8>) {\n    x\n        .unwrap ( );\n}\n",
            4,
        ),
        ("src/a.rs", "//! A.\nfn f() {\n    todo!(\"later\")\n}\n", 3),
        (
            "src/a.rs",
            "//! A.\n#[cfg(test)]\nmod tests {\n    fn f() { None.unwrap() }\n}\nfn g() { unimplemented!() }\n",
            6,
        ),
        ("src/a.rs", "//! A.\n#[allow(dead_code)]\nfn f() {}\n", 2),
        ("src/a.rs", "fn f() {}\n", 1),
    ] {
        assert_eq!(lines(path, text), [at], "{path}\n{text}");
    }
    let host = ["see https://crates", "io/crates/x"].join(".");
    assert_eq!(lines("docs/a.md", &format!("fine\n{host}\n")), [2]);
    assert_eq!(lines("docs/a.md", &"line\n".repeat(601)), [601]);
    assert_eq!(lines("README.md", &"line\n".repeat(81)), [81]);
    assert_eq!(lines("static/app.js", &"//\n".repeat(601)), [601]);
}

#[test]
fn what_is_allowed_is_not_found() {
    for (path, text) in [
        (
            "src/actors/a.rs",
            "//! A.\nuse crate::{actors::hub, store::Log};\nuse callboard_core::record;\n",
        ),
        (
            "src/web/a.rs",
            "//! A, see crate::store.\nuse crate::actors::Shared;\n// crate::store\nconst A: &str = \"crate::cli\";\n",
        ),
        (
            "src/a.rs",
            "//! A.\nfn f<'a>(x: &'a str) -> char { '\"' }\n// .unwrap()\nconst B: &str = r#\"todo!() \" .unwrap()\"#;\n",
        ),
        (
            "src/a.rs",
            "//! A.\nfn f(x: Option<u8>) -> u8 { x.unwrap_or(1) }\n/* todo!() /* nested */ .unwrap() */\n",
        ),
        (
            "src/a.rs",
            "//! A.\n#[cfg(test)]\n#[expect(clippy::unwrap_used, reason = \"tests\")]\nmod tests {\n    fn f() { None::<u8>.unwrap(); }\n}\n",
        ),
        (
            "crates/core/src/a.rs",
            "//! A.\nuse std::time::Duration;\nuse callboard_protocol::Offset;\n",
        ),
        (
            "crates/core/Cargo.toml",
            "[dependencies]\nbytes = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n",
        ),
        ("docs/protocol.md", "line\n"),
    ] {
        assert_eq!(check(path, text, false), [], "{path}\n{text}");
    }
    assert_eq!(lines("docs/protocol.md", &"line\n".repeat(1_000)), [0; 0]);
}

//! What runs under Node: core as WebAssembly, and the dashboard in Chromium.

use std::path::{Path, PathBuf};

use crate::{
    shell::{Context as _, Failure, Program, Workspace},
    tally::Counts,
    tools,
};

/// Builds core's promises for WebAssembly and runs them.
///
/// # Errors
/// When something is missing or does not build.
pub fn wasm(workspace: &Workspace) -> Result<Counts, Failure> {
    let node = match tools::node() {
        Ok(node) => node,
        Err(missing) => return Ok(Counts::skip(missing)),
    };
    tools::wasm_target(workspace)?;
    workspace
        .cargo(&[
            "build",
            "--package",
            "callboard-core-conformance",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .run()?;
    let mut counts = Counts::default();
    let outcome = Program::new(node)
        .args(&["xtask/wasm/run.mjs", "--target-dir"])
        .args(&[workspace.target()])
        .dir(workspace.root())
        .watch(|line| {
            if let Some(name) = line.strip_prefix("FAILED ") {
                counts.failed.push(name.to_owned());
            } else if let Some(passed) = line
                .split_once(" passed, ")
                .and_then(|(passed, _)| passed.parse().ok())
            {
                counts.passed = passed;
            }
        })?;
    Ok(counts.settle(outcome))
}

/// Drives the dashboard of a live broker in Chromium. The tests start and stop `binary` themselves.
///
/// # Errors
/// When npm cannot install what the tests' lock file names.
pub fn browser(workspace: &Workspace, binary: &Path) -> Result<Counts, Failure> {
    let directory = workspace.root().join("tests/browser");
    let tests = test_files(&directory)?;
    let (node, chromium) = match tools::node().and_then(|node| Ok((node, tools::chromium()?))) {
        Ok(found) => found,
        Err(missing) => return Ok(Counts::skip(missing)),
    };
    tools::npm(&directory).args(&["ci"]).run()?;
    let mut program = Program::new(node)
        .args(&["--test", "--test-concurrency=1", "--test-reporter=tap"])
        .args(&tests)
        .dir(&directory)
        .env("CALLBOARD_BIN", binary)
        .env("CHROMIUM", chromium);
    match tools::datasets(workspace) {
        Ok(datasets) => program = program.env("CALLBOARD_DATASETS", datasets),
        // The one test that needs them says so as well.
        Err(missing) => println!("{missing}"),
    }
    let mut counts = Counts::default();
    let mut tap = Tap::default();
    let outcome = program.watch(|line| tap.read(line, &mut counts))?;
    Ok(counts.settle(outcome))
}

fn test_files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut tests = Vec::new();
    for entry in std::fs::read_dir(directory).context(directory.display())? {
        let path = entry.context(directory.display())?.path();
        if path.to_string_lossy().ends_with(".test.mjs") {
            tests.push(path);
        }
    }
    tests.sort();
    Ok(tests)
}

/// Reads what Node's test runner prints. Only tests without tests inside count; Node's own sum leaves files
/// and suites out in one version and counts them in another.
#[derive(Default)]
struct Tap {
    has_children: Vec<bool>,
}

impl Tap {
    fn read(&mut self, line: &str, counts: &mut Counts) {
        let depth = (line.len() - line.trim_start().len()) / 4;
        let line = line.trim_start();
        let is_ok = line.starts_with("ok ");
        if !is_ok && !line.starts_with("not ok ") {
            return;
        }
        self.has_children
            .resize(self.has_children.len().max(depth + 2), false);
        if depth > 0 {
            self.has_children[depth - 1] = true;
        }
        if std::mem::take(&mut self.has_children[depth]) {
            return;
        }
        let name = line.split_once(" - ").map_or(line, |(_, name)| name);
        if let Some((name, reason)) = name.split_once(" # SKIP") {
            counts.skipped.push(format!("{name}: {}", reason.trim()));
        } else if is_ok {
            counts.passed += 1;
        } else {
            counts.failed.push(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tap;
    use crate::tally::Counts;

    #[test]
    fn only_tests_without_tests_inside_are_counted() {
        let mut counts = Counts::default();
        let mut tap = Tap::default();
        let output = "TAP version 13\n# Subtest: a file\n    # Subtest: one\n    ok 1 - one\n      ---\n      ...\n    \
                      not ok 2 - two\n    ok 3 - three # SKIP no network\n    1..3\nnot ok 1 - a file\nok 2 - alone\n";
        output.lines().for_each(|line| tap.read(line, &mut counts));
        assert_eq!(counts.passed, 2);
        assert_eq!(counts.failed, ["two"]);
        assert_eq!(counts.skipped, ["three: no network"]);
    }
}

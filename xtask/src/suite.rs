//! `cargo xtask test`: every check there is, cheapest first, each counted.
//!
//! A step that lacks something installs it or is skipped with its reason; a step that ran and found something
//! fails. No step ends the suite, so that one run says everything.

use std::{collections::BTreeMap, process::ExitCode};

use crate::{
    crash, fuzz, instructions, licences, node, openapi,
    shell::{Failure, Profile, Workspace},
    tally::{Counts, Tally},
    tools,
};

mod small_disk;

/// Kills of a broker under load.
const CRASH_RUNS: u64 = 20;
/// For each fuzz target.
const FUZZ_SECONDS: u32 = 30;

/// Runs everything and reports.
pub fn run(workspace: &Workspace) -> ExitCode {
    let mut tally = Tally::default();
    let passed = |()| Counts::one();
    tally.step("toolchain", || tools::rust_parts(workspace).map(passed));
    tally.step("format", || {
        workspace.cargo(&["fmt", "--all", "--check"]).run().map(passed)
    });
    tally.step("licences", || {
        println!("{}", licences::check(workspace)?);
        Ok(Counts::one())
    });
    tally.step("clippy", || {
        let arguments = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ];
        workspace.cargo(&arguments).run().map(passed)
    });
    tally.step("documentation", || docs(workspace).map(passed));
    tally.step("cargo test", || cargo_test(workspace));
    tally.step("core as WebAssembly", || node::wasm(workspace));
    let mut binary = None;
    tally.step("release build", || {
        binary = Some(workspace.build_binary(Profile::Release)?);
        Ok(Counts::one())
    });
    // Without a binary the build has failed already, and that is counted.
    if let Some(binary) = binary {
        tally.step("crash runs", || crash::for_suite(&binary, CRASH_RUNS));
        tally.step("crash runs of groups", || crash::groups::for_suite(&binary));
        tally.step("OpenAPI", || openapi::check(workspace, &binary));
        tally.step("dashboard in Chromium", || node::browser(workspace, &binary));
    }
    tally.step("instruction counts", || instructions::for_suite(workspace));
    tally.step("fuzz targets", || fuzz::all(workspace, FUZZ_SECONDS));
    tally.report()
}

/// Builds the documentation of all crates with warnings denied.
///
/// # Errors
/// When it has warnings.
pub fn docs(workspace: &Workspace) -> Result<(), Failure> {
    workspace
        .cargo(&[
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--locked",
            "--quiet",
        ])
        // Headers are read in the source and may name what is private; the links are checked all the same.
        .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links")
        .run()
}

/// All tests that cargo knows. Those that are ignored say what they need as `needs NAME`; where that can be
/// had they run in a second round with `NAME` in their environment.
fn cargo_test(workspace: &Workspace) -> Result<Counts, Failure> {
    let mut seen = LibTest::default();
    let outcome = workspace
        .cargo(&["test", "--workspace", "--no-fail-fast", "--locked"])
        .watch(|line| seen.read(line))?;
    let ignored = std::mem::take(&mut seen.ignored);
    let mut counts = seen.into_counts().settle(outcome);
    counts.add(run_ignored(workspace, ignored)?);
    Ok(counts)
}

fn run_ignored(workspace: &Workspace, ignored: Vec<Ignored>) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    let mut by_need: BTreeMap<String, Vec<Ignored>> = BTreeMap::new();
    for test in ignored {
        match test.need() {
            Some(need) => by_need.entry(need.to_owned()).or_default().push(test),
            None => counts.skipped.push(format!("{}: {}", test.name, test.reason)),
        }
    }
    for (need, tests) in by_need {
        match Provided::get(workspace, &need) {
            Ok(provided) => counts.add(run_with(workspace, &need, &provided, &tests)?),
            Err(missing) => {
                counts
                    .skipped
                    .extend(tests.iter().map(|test| format!("{}: {missing}", test.name)));
            }
        }
    }
    Ok(counts)
}

fn run_with(
    workspace: &Workspace,
    need: &str,
    provided: &Provided,
    tests: &[Ignored],
) -> Result<Counts, Failure> {
    let mut arguments = vec![
        "test",
        "--package",
        "callboard",
        "--test",
        "it",
        "--locked",
        "--",
        "--ignored",
        "--exact",
    ];
    arguments.extend(tests.iter().map(|test| test.name.as_str()));
    let mut seen = LibTest::default();
    let outcome = workspace
        .cargo(&arguments)
        .env(need, provided.path())
        .watch(|line| seen.read(line))?;
    let mut counts = seen.into_counts().settle(outcome);
    if counts.passed + counts.failed.len() as u64 != tests.len() as u64 {
        counts.failed.push(format!(
            "not every test that needs {need} was found again in the binary `it`"
        ));
    }
    Ok(counts)
}

/// Something that a test needs and this machine could give.
enum Provided {
    Datasets(std::path::PathBuf),
    SmallDisk(small_disk::SmallDisk),
}

impl Provided {
    fn get(workspace: &Workspace, need: &str) -> Result<Self, Failure> {
        match need {
            "CALLBOARD_DATASETS" => tools::datasets(workspace).map(Self::Datasets),
            "CALLBOARD_SMALL_DISK" => small_disk::SmallDisk::mount().map(Self::SmallDisk),
            other => Err(Failure::new(format!("needs {other}, which xtask does not know"))),
        }
    }

    fn path(&self) -> &std::path::Path {
        match self {
            Self::Datasets(path) => path,
            Self::SmallDisk(disk) => disk.path(),
        }
    }
}

struct Ignored {
    name: String,
    reason: String,
}

impl Ignored {
    fn need(&self) -> Option<&str> {
        let need = self.reason.strip_prefix("needs ")?;
        let end = need
            .find(|c: char| !c.is_ascii_uppercase() && c != '_')
            .unwrap_or(need.len());
        Some(&need[..end]).filter(|need| need.starts_with("CALLBOARD_"))
    }
}

/// Reads what Rust's test runner prints.
#[derive(Default)]
struct LibTest {
    passed: u64,
    failed_count: u64,
    failed: Vec<String>,
    ignored: Vec<Ignored>,
}

impl LibTest {
    fn read(&mut self, line: &str) {
        if let Some(sums) = line.strip_prefix("test result: ") {
            self.passed += number_before(sums, " passed");
            self.failed_count += number_before(sums, " failed");
            return;
        }
        let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        else {
            return;
        };
        if result == "FAILED" {
            self.failed.push(name.to_owned());
        } else if let Some(reason) = result.strip_prefix("ignored") {
            let reason = reason.trim_start_matches(", ");
            let reason = if reason.is_empty() {
                "marked as ignored"
            } else {
                reason
            };
            self.ignored.push(Ignored {
                name: name.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }

    fn into_counts(mut self) -> Counts {
        // A test that prints while it runs tears its own line; the sum still has it.
        while (self.failed.len() as u64) < self.failed_count {
            self.failed
                .push("a test whose name was torn, see above".to_owned());
        }
        Counts {
            passed: self.passed,
            failed: self.failed,
            skipped: Vec::new(),
        }
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    text.find(word)
        .and_then(|end| text[..end].rsplit(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::LibTest;

    #[test]
    fn what_the_test_runner_prints_is_counted() {
        let mut seen = LibTest::default();
        let output = "running 4 tests\ntest a::one ... ok\ntest a::two ... FAILED\n\
            test disk::full ... ignored, needs CALLBOARD_SMALL_DISK: a few MiB\ntest slow ... ignored\n\
            test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        output.lines().for_each(|line| seen.read(line));
        let needs: Vec<Option<&str>> = seen.ignored.iter().map(super::Ignored::need).collect();
        assert_eq!(needs, [Some("CALLBOARD_SMALL_DISK"), None]);
        let counts = seen.into_counts();
        assert_eq!(counts.passed, 31);
        assert_eq!(counts.failed, ["a::two"]);
    }
}

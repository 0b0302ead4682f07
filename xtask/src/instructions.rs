//! How many instructions the hot path takes, held against figures that are committed.
//!
//! The benchmarks are `crates/instructions`; callgrind counts, started by gungraun's runner. A count does not depend
//! on how busy or fast a machine is. It does depend on which instructions the processor has (a faster `memchr` is
//! chosen at run time), so there are figures for each kind, and elsewhere the check is skipped.

mod figures;

use std::path::PathBuf;

use figures::{Figures, File, TOLERANCE_PERCENT, Verdict, compare};
use serde_json::Value;

use crate::{
    options::Options,
    shell::{Context as _, Failure, Program, Workspace},
    tally::Counts,
    tools,
};

const PACKAGE: &str = "callboard-instructions";
const MANIFEST: &str = "crates/instructions/Cargo.toml";
const FIGURES: &str = "crates/instructions/instructions.toml";

/// `cargo xtask instructions [--accept]`.
///
/// # Errors
/// When what it takes is missing, or something takes more instructions than it may.
pub fn command(workspace: &Workspace, options: &Options) -> Result<(), Failure> {
    let tools = Tools::get(workspace)?;
    let now = count(workspace, &tools)?;
    let path = workspace.root().join(FIGURES);
    let mut file = read(&path)?;
    let former = file.0.entry(tools.processor.to_owned()).or_default();
    let failed = report(&now, former);
    if options.has("accept") {
        *former = now;
        std::fs::write(&path, file.text()).context(path.display())?;
        println!("written: {FIGURES}");
        return Ok(());
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(failed.join("\n  ")))
}

/// The same as a step of the suite, one check for each benchmark.
///
/// # Errors
/// When the benchmarks do not build or do not run.
pub fn for_suite(workspace: &Workspace) -> Result<Counts, Failure> {
    let tools = match Tools::get(workspace) {
        Ok(tools) => tools,
        Err(missing) => return Ok(Counts::skip(missing)),
    };
    let file = read(&workspace.root().join(FIGURES))?;
    let Some(former) = file.0.get(tools.processor) else {
        return Ok(Counts::skip(format!(
            "there are no figures for {}; cargo xtask instructions --accept makes them",
            tools.processor
        )));
    };
    let now = count(workspace, &tools)?;
    let failed = report(&now, former);
    Ok(Counts {
        passed: now.len().saturating_sub(failed.len()) as u64,
        failed,
        ..Counts::default()
    })
}

fn read(path: &std::path::Path) -> Result<File, Failure> {
    File::parse(&std::fs::read_to_string(path).context(path.display())?)
}

/// Prints what was counted beside the figures, and returns what fails.
fn report(now: &Figures, former: &Figures) -> Vec<String> {
    println!(
        "{:<38} {:>12} {:>12} {:>10}",
        "instructions", "now", "figure", "change"
    );
    let compared = compare(now, former);
    for each in &compared {
        println!("{}", each.line());
    }
    for each in compared.iter().filter(|each| each.verdict == Verdict::Better) {
        println!(
            "NOTE: {} takes {TOLERANCE_PERCENT} % fewer or better; cargo xtask instructions --accept, so that it stays so",
            each.name
        );
    }
    compared.iter().filter_map(figures::Compared::failure).collect()
}

/// What counting takes.
struct Tools {
    /// The kind of processor that callgrind shows to what it counts.
    processor: &'static str,
    /// Where the runner is.
    runner: PathBuf,
}

impl Tools {
    /// Finds or installs them.
    ///
    /// # Errors
    /// Says what is missing and could not be installed.
    fn get(workspace: &Workspace) -> Result<Self, Failure> {
        let processor = processor()?;
        tools::ensure(&["valgrind"], &["valgrind"])?;
        let runner = runner(workspace)?;
        Ok(Self { processor, runner })
    }
}

/// The kind of this processor.
///
/// Callgrind has the program believe in one of a few processors, however new the real one is; on x86-64 all since
/// about 2013 are one kind, and those without AVX2 would count other instructions in `memchr` and in libc.
fn processor() -> Result<&'static str, Failure> {
    let kind = std::env::consts::ARCH;
    if kind == "x86_64" {
        let known = std::fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        if !known.split_whitespace().any(|flag| flag == "avx2") {
            return Err(Failure::new(
                "the figures are of processors with AVX2, and this one has none",
            ));
        }
    }
    Ok(kind)
}

/// gungraun's runner, of the very version that the benchmarks are built with; built once into the cache.
fn runner(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let version = gungraun_version(workspace)?;
    let home = workspace.cache(&format!("gungraun-{version}"))?;
    let directory = home.join("bin");
    if !directory.join("gungraun-runner").is_file() {
        println!("installing gungraun-runner {version}: this takes minutes, once");
        let target = home.join("target");
        let installed = workspace
            // Without optimization, because it only starts callgrind, and that way it is there much sooner.
            .cargo(&[
                "install",
                "gungraun-runner",
                "--version",
                &version,
                "--locked",
                "--debug",
            ])
            .args(&["--root"])
            .args(&[&home])
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0")
            .output();
        // What is left of the build is large and never needed again.
        let _ = std::fs::remove_dir_all(&target);
        installed?;
    }
    Ok(directory)
}

/// The version that the benchmarks ask for.
fn gungraun_version(workspace: &Workspace) -> Result<String, Failure> {
    let path = workspace.root().join(MANIFEST);
    let manifest = std::fs::read_to_string(&path).context(path.display())?;
    manifest
        .lines()
        .find_map(|line| line.strip_prefix("gungraun = \"=")?.strip_suffix('"'))
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{MANIFEST} names no exact version of gungraun")))
}

/// Builds the benchmarks, runs each once under callgrind and reads the counts.
fn count(workspace: &Workspace, tools: &Tools) -> Result<Figures, Failure> {
    println!("counting instructions");
    let before = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools.runner.clone()).chain(std::env::split_paths(&before));
    let path = std::env::join_paths(paths).context("PATH")?;
    let run = |program: Program| program.env("PATH", &path);
    let bench = ["bench", "--package", PACKAGE, "--bench", "hot", "--locked"];
    run(workspace.cargo(&bench).args(&["--no-run"])).run()?;
    let printed = run(workspace.cargo(&bench))
        .env("GUNGRAUN_HOME", workspace.target().join("gungraun"))
        .env("GUNGRAUN_OUTPUT_FORMAT", "json")
        .output()?;
    let counts: Result<Figures, Failure> = printed
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(figure)
        .collect();
    counts.and_then(|counts| match counts.is_empty() {
        true => Err(Failure::new("callgrind counted nothing")),
        false => Ok(counts),
    })
}

/// One benchmark's name and count from the line that the runner prints of it.
fn figure(line: &str) -> Result<(String, u64), Failure> {
    let summary: Value = serde_json::from_str(line).context("what gungraun printed")?;
    let profiles = summary["profiles"].as_array().into_iter().flatten();
    let count = profiles
        .filter(|profile| {
            profile["tool"]
                .as_str()
                .is_some_and(|tool| tool.eq_ignore_ascii_case("callgrind"))
        })
        .find_map(|profile| profile.pointer("/data/total/metrics/Ir/values/new")?.as_u64());
    match (summary["function_name"].as_str(), summary["id"].as_str(), count) {
        (Some(function), Some(id), Some(count)) => Ok((format!("{function}.{id}"), count)),
        _ => Err(Failure::new(format!(
            "gungraun printed no count that is known here: {line}"
        ))),
    }
}

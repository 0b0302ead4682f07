//! The fuzz targets, each for a while. They need a nightly compiler and cargo-fuzz, which are not installed
//! for it: compiling cargo-fuzz alone would cost continuous integration several minutes.

use crate::{
    options::Options,
    shell::{Context as _, Failure, Program, Workspace},
    tally::Counts,
    tools,
};

/// `cargo xtask fuzz [--seconds N] [TARGET…]`.
///
/// # Errors
/// When a target has a finding, or what it takes is missing.
pub fn command(workspace: &Workspace, options: &Options) -> Result<(), Failure> {
    let seconds = options.number("seconds", 60)?;
    let wanted = options.plain();
    if let Some(missing) = missing() {
        return Err(Failure::new(missing));
    }
    for target in targets(workspace)? {
        if wanted.is_empty() || wanted.contains(&target.as_str()) {
            run_target(workspace, &target, seconds)?;
        }
    }
    Ok(())
}

/// All targets for `seconds` each, counted.
///
/// # Errors
/// When the list of targets cannot be read.
pub fn all(workspace: &Workspace, seconds: u32) -> Result<Counts, Failure> {
    let targets = targets(workspace)?;
    let mut counts = Counts::default();
    for target in targets {
        counts.add(match missing() {
            Some(missing) => Counts::skip(format!("{target}: {missing}")),
            None => match run_target(workspace, &target, seconds) {
                Ok(()) => Counts::one(),
                Err(failure) => Counts {
                    failed: vec![failure.to_string()],
                    ..Counts::default()
                },
            },
        });
    }
    Ok(counts)
}

fn missing() -> Option<&'static str> {
    let nightly = || {
        Program::new("rustup")
            .args(&["run", "nightly", "rustc", "--version"])
            .output()
    };
    if tools::find(&["cargo-fuzz"]).is_none() {
        Some("needs cargo-fuzz: cargo install cargo-fuzz")
    } else if nightly().is_err() {
        Some("needs a nightly compiler: rustup toolchain install nightly --profile minimal")
    } else if tools::find(&["c++", "g++", "clang++"]).is_none() {
        Some("needs a C++ compiler: apt-get install g++")
    } else {
        None
    }
}

fn targets(workspace: &Workspace) -> Result<Vec<String>, Failure> {
    let directory = workspace.root().join("fuzz/fuzz_targets");
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(&directory).context(directory.display())? {
        let path = entry.context(directory.display())?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            targets.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    targets.sort();
    Ok(targets)
}

fn run_target(workspace: &Workspace, target: &str, seconds: u32) -> Result<(), Failure> {
    println!("fuzzing {target} for {seconds} s");
    // Found inputs grow outside the clone, so that a later run goes on from them.
    let corpus = workspace.cache(&format!("fuzz/{target}"))?;
    Program::new("rustup")
        .args(&["run", "nightly", "cargo", "fuzz", "run", target])
        .args(&[&corpus])
        .args(&[
            "--",
            &format!("-max_total_time={seconds}"),
            "-verbosity=0",
            "-print_final_stats=1",
            "-timeout=10",
        ])
        .dir(workspace.root())
        .env("CARGO_TARGET_DIR", workspace.target().join("fuzz"))
        .run()
}

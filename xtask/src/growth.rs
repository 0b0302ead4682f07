//! `cargo xtask growth`: what Callboard costs as things get many, in tables and pictures.
//!
//! Builds the broker and the load, and starts the load with the paths. What is measured, and how, is in `crates/peers`.

use std::path::PathBuf;

use crate::{
    options::Options,
    shell::{Context as _, Failure, Profile, Program, Workspace},
};

/// Measures all curves; `options` goes on to `callboard-peers growth` as it is.
///
/// # Errors
/// The broker or the load does not build, or a run fails.
pub fn command(workspace: &Workspace, options: &Options) -> Result<(), Failure> {
    let broker = workspace.build_binary(Profile::Release)?;
    workspace
        .cargo(&["build", "--release", "--package", "callboard-peers"])
        .run()?;
    let mut defaults = Vec::new();
    // Temporary directories are memory on many systems, where a flush costs nothing.
    for (name, path) in [
        ("data", workspace.target().join("growth/data")),
        ("json", workspace.target().join("growth/readings.json")),
        ("images", workspace.target().join("growth/images")),
    ] {
        // What is drawn again is not written again.
        let is_wanted = name != "json" || !options.has("from");
        if is_wanted && !options.has(name) {
            std::fs::create_dir_all(path.parent().unwrap_or(&path)).context(path.display())?;
            defaults.extend([PathBuf::from(format!("--{name}")), path]);
        }
    }
    Program::new(workspace.target().join("release/callboard-peers"))
        .args(&["growth"])
        .args(options.words())
        .args(&defaults)
        .args(&["--callboard"])
        .args(&[&broker])
        .dir(workspace.root())
        .run()
}

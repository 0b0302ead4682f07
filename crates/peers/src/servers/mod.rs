//! The peers as they are started: programs, configuration files, addresses.
//!
//! Each server gets a directory of its own, which goes when it is stopped, and a configuration that is written
//! here in full, so that nothing of the machine's own configuration takes part. `docs/benchmarks.md` shows them.

pub mod bun;
pub mod mosquitto;
pub mod nats;
pub mod redis;

use std::path::{Path, PathBuf};

use callboard_load::Failure;

/// Where the programs are. What is missing is not measured.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    pub nats_server: Option<PathBuf>,
    pub redis_server: Option<PathBuf>,
    pub mosquitto: Option<PathBuf>,
    pub bun: Option<PathBuf>,
    /// Shared libraries of the peers that the system does not have.
    pub libraries: Option<PathBuf>,
}

/// What a program says when it is asked for its version.
///
/// # Errors
/// It cannot be started.
pub fn version(program: &Path, arguments: &[&str], libraries: Option<&Path>) -> Result<String, Failure> {
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let output = command
        .output()
        .map_err(|error| Failure::new(format!("{}: {error}", program.display())))?;
    let said = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    let said = String::from_utf8_lossy(&said)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    Ok(number_in(&said).unwrap_or(said))
}

/// The first word, or part of one, that is a version: digits with a point.
fn number_in(said: &str) -> Option<String> {
    said.split(|letter: char| !(letter.is_ascii_digit() || letter == '.'))
        .find(|word| word.contains('.') && word.starts_with(|letter: char| letter.is_ascii_digit()))
        .map(|word| word.trim_end_matches('.').to_owned())
}

/// Writes a configuration file into the directory of a server.
fn write(directory: &Path, name: &str, text: &str) -> Result<String, Failure> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join(name);
    std::fs::write(&path, text)?;
    Ok(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::number_in;

    #[test]
    fn version_is_found_in_what_programs_say() {
        for (said, version) in [
            ("nats-server: v2.15.1", "2.15.1"),
            (
                "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64",
                "7.0.15",
            ),
            ("mosquitto version 2.0.11", "2.0.11"),
            ("1.4.4", "1.4.4"),
        ] {
            assert_eq!(number_in(said).as_deref(), Some(version));
        }
        assert_eq!(number_in("unknown"), None);
    }
}

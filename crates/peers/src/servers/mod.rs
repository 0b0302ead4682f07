//! The peers as they are started: programs, configuration files, addresses.
//!
//! Each server gets a directory of its own, which goes when it is stopped, and a configuration that is written
//! here in full, so that nothing of the machine's own configuration takes part. `docs/benchmarks.md` shows them.

pub mod broker;
pub mod bun;
pub mod mosquitto;
pub mod nats;
pub mod redis;

use std::path::{Path, PathBuf};

use callboard_load::{
    Failure,
    process::{Launch, Pinning, Ready, free_port},
};

/// Where a server lives while it is measured.
#[derive(Clone, Debug)]
pub struct Place {
    pub program: PathBuf,
    /// Shared libraries of the peers that the system does not have.
    pub libraries: Option<PathBuf>,
    /// Removed when the server is stopped.
    pub directory: PathBuf,
    pub pinning: Pinning,
}

impl Place {
    fn launch(self, arguments: Vec<String>, ready: Ready) -> Launch {
        let libraries = self.libraries.map(|path| path.to_string_lossy().into_owned());
        Launch {
            program: self.program,
            arguments,
            environment: libraries
                .map(|path| ("LD_LIBRARY_PATH".to_owned(), path))
                .into_iter()
                .collect(),
            directory: Some(self.directory),
            pinning: self.pinning,
            ready,
        }
    }

    /// Writes a configuration file and says where it is.
    fn write(&self, name: &str, text: &str) -> Result<String, Failure> {
        std::fs::create_dir_all(&self.directory)?;
        let path = self.directory.join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }
}

fn free_address() -> Result<String, Failure> {
    Ok(format!("127.0.0.1:{}", free_port()?))
}

/// What a program says when it is asked for its version.
///
/// # Errors
/// It cannot be started.
pub fn version(program: &Path, argument: &str, libraries: Option<&Path>) -> Result<String, Failure> {
    let mut command = std::process::Command::new(program);
    command.arg(argument);
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let output = command
        .output()
        .map_err(|error| Failure::new(format!("{}: {error}", program.display())))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let said = said.lines().next().unwrap_or_default();
    Ok(number_in(said).unwrap_or_else(|| said.to_owned()))
}

/// The first part of what was said that is a version: digits with a point.
fn number_in(said: &str) -> Option<String> {
    said.split(|letter: char| !(letter.is_ascii_digit() || letter == '.'))
        .find(|word| word.contains('.') && word.starts_with(|letter: char| letter.is_ascii_digit()))
        .map(|word| word.trim_end_matches('.').to_owned())
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

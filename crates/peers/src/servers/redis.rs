//! redis-server, for its streams.

use std::path::{Path, PathBuf};

use callboard_load::{
    Failure,
    launch::{Launch, Ready, free_address},
};

/// When Redis flushes its append-only file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// Before it answers.
    Always,
    /// Once a second.
    EverySecond,
}

impl Append {
    /// # Errors
    /// There is no free port, or the directory cannot be written to.
    pub fn launch(
        self,
        program: &Path,
        libraries: Option<&Path>,
        directory: PathBuf,
    ) -> Result<Launch, Failure> {
        let address = free_address()?;
        let text = self.configuration(&address, &directory);
        let file = super::write(&directory, "redis.conf", &text)?;
        Ok(Launch {
            program: program.to_owned(),
            arguments: vec![file],
            libraries: libraries.map(Path::to_owned),
            directory: Some(directory),
            ready: Ready::Accepts(address),
        })
    }

    /// No snapshots and no rewrites beside the append-only file: they would only take time from what is measured.
    fn configuration(self, address: &str, directory: &Path) -> String {
        let (host, port) = address.rsplit_once(':').unwrap_or(("127.0.0.1", address));
        let when = match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
        };
        format!(
            "bind {host}\nport {port}\ndir {directory:?}\nsave \"\"\nappendonly yes\nappendfsync {when}\n\
             auto-aof-rewrite-percentage 0\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_says_what_is_measured() {
        let text = Append::Always.configuration("127.0.0.1:7", Path::new("/d"));
        for line in [
            "bind 127.0.0.1",
            "port 7",
            "dir \"/d\"",
            "save \"\"",
            "appendonly yes",
            "appendfsync always",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        let text = Append::EverySecond.configuration("127.0.0.1:7", Path::new("/d"));
        assert!(text.contains("appendfsync everysec"), "{text}");
    }
}

//! redis-server, for its streams.

use std::path::Path;

use callboard_load::{
    Failure,
    process::{Launch, Ready},
};

use super::{Place, free_address};

/// When Redis flushes its append-only file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// Before it answers.
    Always,
    /// Once a second.
    EverySecond,
}

impl Append {
    /// How it is started.
    ///
    /// # Errors
    /// There is no free port, or the directory cannot be written to.
    pub fn launch(self, place: Place) -> Result<Launch, Failure> {
        let address = free_address()?;
        let file = place.write("redis.conf", &self.configuration(&address, &place.directory))?;
        Ok(place.launch(vec![file], Ready::Accepts(address)))
    }

    /// No snapshots and no rewrites beside the append-only file: they would only take time from what is measured.
    fn configuration(self, address: &str, directory: &Path) -> String {
        let (host, port) = address.rsplit_once(':').unwrap_or(("127.0.0.1", address));
        let when = match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
        };
        format!(
            "bind {host}\nport {port}\ndir {directory:?}\nlogfile \"log\"\nsave \"\"\nappendonly yes\n\
             appendfsync {when}\nauto-aof-rewrite-percentage 0\n"
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

//! nats-server: core over TCP or WebSocket, and JetStream with a file store.

use std::path::Path;

use callboard_load::{
    Failure,
    process::{Launch, Pinning, Ready},
};

use super::{Place, free_address};

/// What clients speak to it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    WebSocket,
}

/// When JetStream flushes what it has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// As it comes: every two minutes.
    Default,
    /// After each write, before the ack.
    Always,
}

/// What is measured of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nats {
    pub transport: Transport,
    /// Whether streams are kept, and how.
    pub store: Option<Sync>,
}

impl Nats {
    /// How it is started.
    ///
    /// # Errors
    /// There is no free port, or the directory cannot be written to.
    pub fn launch(self, place: Place) -> Result<Launch, Failure> {
        let (tcp, websocket) = (free_address()?, free_address()?);
        let file = place.write(
            "nats.conf",
            &self.configuration(&tcp, &websocket, &place.directory),
        )?;
        let address = match self.transport {
            Transport::Tcp => tcp,
            Transport::WebSocket => websocket,
        };
        let pinning = place.pinning;
        let mut launch = place.launch(vec!["--config".to_owned(), file], Ready::Accepts(address));
        if pinning == Pinning::On {
            // Go finds the one core by itself, but does better when it is told.
            launch.environment.push(("GOMAXPROCS".to_owned(), "1".to_owned()));
        }
        Ok(launch)
    }

    /// `max_pending` is raised because with the default of 64 MiB a client that lags behind for a moment at full
    /// speed is cut off.
    fn configuration(self, tcp: &str, websocket: &str, directory: &Path) -> String {
        let log = directory.join("log");
        let mut text = format!("listen: \"{tcp}\"\nmax_pending: 1GB\nlog_file: {log:?}\n");
        if self.transport == Transport::WebSocket {
            text += &format!(
                "websocket {{\n  listen: \"{websocket}\"\n  no_tls: true\n  compression: false\n}}\n"
            );
        }
        if let Some(sync) = self.store {
            let store = directory.join("store");
            text += &format!("jetstream {{\n  store_dir: {store:?}\n  max_file_store: 64GB\n");
            if sync == Sync::Always {
                text += "  sync_interval: always\n";
            }
            text += "}\n";
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_says_what_is_measured() {
        let of = |transport, store| {
            Nats { transport, store }.configuration("127.0.0.1:1", "127.0.0.1:2", Path::new("/d"))
        };
        let core = of(Transport::Tcp, None);
        assert!(
            !core.contains("jetstream") && !core.contains("websocket"),
            "{core}"
        );
        assert!(of(Transport::WebSocket, None).contains("listen: \"127.0.0.1:2\""));
        assert!(!of(Transport::Tcp, Some(Sync::Default)).contains("sync_interval"));
        let flushed = of(Transport::Tcp, Some(Sync::Always));
        assert!(flushed.contains("store_dir: \"/d/store\""), "{flushed}");
        assert!(flushed.contains("sync_interval: always"), "{flushed}");
    }
}

//! Where the broker is: one option for the WebSocket and for REST.

use clap::Args;

use super::Failure;

/// Which broker to speak to.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// The broker's address
    #[arg(
        long,
        env = "CALLBOARD_SERVER",
        value_name = "URL",
        default_value = "ws://127.0.0.1:8080/ws"
    )]
    pub(crate) server: String,
}

impl ServerArgs {
    /// `http://host:port` of the same broker.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the address is not a broker's.
    pub(crate) fn http(&self) -> Result<String, Failure> {
        http(&self.server)
    }

    /// `ws://host:port/ws`, also if it was given as `http://host:port`.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the address is not a broker's.
    pub(crate) fn web_socket(&self) -> Result<String, Failure> {
        Ok(format!("ws{}/ws", self.http()?.trim_start_matches("http")))
    }

    /// What to say when nobody answers.
    pub(crate) fn hint(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::new(format!(
            "{error}\n  Is a broker running there? Start one with `callboard serve`, or name another with --server."
        ))
    }
}

fn http(server: &str) -> Result<String, Failure> {
    let rest = server
        .strip_prefix("ws://")
        .or_else(|| server.strip_prefix("http://"));
    let host = rest
        .map(|rest| rest.split('/').next().unwrap_or(rest))
        .filter(|host| !host.is_empty());
    host.map(|host| format!("http://{host}")).ok_or_else(|| {
        let reason = if server.starts_with("wss://") || server.starts_with("https://") {
            "TLS is not available in this version"
        } else {
            "write it as ws://host:port/ws"
        };
        Failure::Usage(format!("--server {server}: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_come_from_one() {
        for server in [
            "ws://127.0.0.1:8080/ws",
            "http://127.0.0.1:8080",
            "ws://127.0.0.1:8080/",
        ] {
            let args = ServerArgs {
                server: server.to_owned(),
            };
            assert!(matches!(args.http(), Ok(url) if url == "http://127.0.0.1:8080"));
            assert!(matches!(args.web_socket(), Ok(url) if url == "ws://127.0.0.1:8080/ws"));
        }
    }

    #[test]
    fn address_that_cannot_work_is_wrong_usage() {
        for server in ["localhost:8080", "wss://a/ws", "ws:///ws", ""] {
            assert!(matches!(http(server), Err(Failure::Usage(_))), "{server}");
        }
    }
}

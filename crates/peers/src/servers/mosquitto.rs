//! mosquitto, with its WebSocket listener.

use std::path::Path;

use callboard_load::{
    Failure,
    process::{Launch, Ready},
};

use super::{Place, free_address};

/// How it is started.
///
/// # Errors
/// There is no free port, or the directory cannot be written to.
pub fn launch(place: Place) -> Result<Launch, Failure> {
    let address = free_address()?;
    let file = place.write("mosquitto.conf", &configuration(&address, &place.directory))?;
    Ok(place.launch(vec!["-c".to_owned(), file], Ready::Accepts(address)))
}

/// The limits whose default drops messages silently are off. Version 2.0.11 ends at once if WebSocket is its only
/// listener, so it gets a second one that nobody uses.
fn configuration(address: &str, directory: &Path) -> String {
    let (host, port) = address.rsplit_once(':').unwrap_or(("127.0.0.1", address));
    let unused = directory.join("unused.sock");
    let (log, unused) = (directory.join("log"), unused.display());
    format!(
        "user root\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nmax_inflight_messages 0\n\
         max_connections -1\nset_tcp_nodelay true\nlog_dest file {}\nlog_type error\nlog_type warning\n\
         listener {port} {host}\nprotocol websockets\nlistener 0 {unused}\n",
        log.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_drops_nothing_and_listens_on_loopback_only() {
        let text = configuration("127.0.0.1:7", Path::new("/d"));
        for line in [
            "listener 7 127.0.0.1",
            "protocol websockets",
            "max_queued_messages 0",
            "listener 0 /d/unused.sock",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}

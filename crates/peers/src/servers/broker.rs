//! Callboard, and the server with no broker in it that its program also has.

use callboard_load::{
    Failure,
    process::{Launch, Ready},
};

use super::Place;

/// Whether the bare server answers publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    Each,
    None,
}

/// How the broker is started.
///
/// # Errors
/// None; the shape is that of all servers.
pub fn launch(place: Place) -> Result<Launch, Failure> {
    let data = place.directory.to_string_lossy().into_owned();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--data", &data].map(str::to_owned);
    Ok(quiet(place.launch(arguments.to_vec(), Ready::Says)))
}

/// How the bare server is started.
///
/// # Errors
/// None; the shape is that of all servers.
pub fn bare(place: Place, replies: Replies) -> Result<Launch, Failure> {
    let mut arguments = ["bench", "bare-server"].map(str::to_owned).to_vec();
    if replies == Replies::None {
        arguments.push("--silent".to_owned());
    }
    Ok(quiet(place.launch(arguments, Ready::Says)))
}

fn quiet(launch: Launch) -> Launch {
    Launch {
        environment: vec![("RUST_LOG".to_owned(), "error".to_owned())],
        ..launch
    }
}

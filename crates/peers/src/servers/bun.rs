//! uWebSockets' own publish and subscribe, in the runtime that ships it.

use callboard_load::{
    Failure,
    process::{Launch, Ready},
};

use super::Place;

/// The whole server.
const SCRIPT: &str = include_str!("../../servers/uwebsockets.js");

/// How it is started.
///
/// # Errors
/// The directory cannot be written to.
pub fn launch(place: Place) -> Result<Launch, Failure> {
    let file = place.write("uwebsockets.js", SCRIPT)?;
    Ok(place.launch(vec!["run".to_owned(), file], Ready::Says))
}

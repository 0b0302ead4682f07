//! uWebSockets' own publish and subscribe, in the runtime that ships it.

use std::path::{Path, PathBuf};

use callboard_load::{
    Failure,
    launch::{Launch, Ready},
};

/// The whole server.
const SCRIPT: &str = include_str!("../../servers/uwebsockets.js");

/// How it is started.
///
/// # Errors
/// The directory cannot be written to.
pub fn launch(program: &Path, directory: PathBuf) -> Result<Launch, Failure> {
    let file = super::write(&directory, "uwebsockets.js", SCRIPT)?;
    Ok(Launch {
        program: program.to_owned(),
        arguments: vec!["run".to_owned(), file],
        libraries: None,
        directory: Some(directory),
        ready: Ready::Says,
    })
}

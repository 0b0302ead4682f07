//! The command line.

use std::process::ExitCode;

use callboard::config::{ServeArgs, ServeConfig};
use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
}

fn main() -> ExitCode {
    match ServeConfig::resolve(Cli::parse().serve) {
        Ok(config) => callboard::serve::run(config),
        Err(error) => {
            eprintln!("callboard: {error}");
            ExitCode::from(2)
        }
    }
}

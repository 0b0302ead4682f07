//! `callboard-peers`: Callboard measured beside the servers that one would pick instead.
//!
//! The load is `crates/load` and the same for all; here is only what is said to each server, how each is started,
//! and who is compared with whom. `cargo xtask peers` fetches the servers and calls this.
//!
//! - [`catalogue`]: the comparisons. [`compare`]: runs them in turn. [`contender`]: who takes part.
//!   [`roster`]: what each has to offer. [`targets`]: what was asked.
//! - [`servers`]: how each is started and configured.
//! - [`nats`], [`jetstream`], [`redis`], [`mosquitto`], [`bun`]: what is said to them.
//! - [`growth`]: Callboard alone, as things get many. [`pictures`]: of what was compared.
//! - [`messages`], [`resp`], [`mqtt`], [`carry`]: what they say, taken apart.

mod bun;
mod carry;
mod catalogue;
mod compare;
mod contender;
mod groupless;
mod growth;
mod jetstream;
mod messages;
mod mosquitto;
mod mqtt;
mod nats;
mod pictures;
#[cfg(test)]
mod pieces;
mod redis;
mod resp;
mod roster;
mod servers;
mod targets;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "callboard-peers", about = "Measures Callboard beside other servers")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The same load on each server, turn by turn
    Compare(compare::CompareArgs),
    /// What Callboard costs as things get many
    Growth(growth::GrowthArgs),
    /// Pictures of what `compare` has measured
    Pictures(pictures::PicturesArgs),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().what {
        What::Compare(args) => compare::run(&args),
        What::Growth(args) => growth::run(&args),
        What::Pictures(args) => pictures::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("callboard-peers: {failure}");
            ExitCode::FAILURE
        }
    }
}

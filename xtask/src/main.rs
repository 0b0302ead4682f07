//! `cargo xtask`: what one does by hand with this repository, as commands.
//!
//! `test` is the whole suite as continuous integration runs it; the others are its parts, or tools. Nothing
//! here is needed to build or to use Callboard.

mod broker;
mod chance;
mod crash;
mod debian;
mod fuzz;
mod growth;
mod instructions;
mod licences;
mod node;
mod openapi;
mod options;
mod peers;
mod shell;
mod suite;
mod tally;
mod tools;
mod websocket;

use std::process::ExitCode;

use options::Options;
use shell::{Failure, Workspace};

const USAGE: &str = "cargo xtask COMMAND

  test                       the full suite: installs what it needs, starts and stops its own servers
  crash --runs N [--seed S] [--seconds MAX] [--dev]
                             kill a broker under load N times; nothing acked may be lost. --seconds is the
                             longest life of a broker before it is killed, --dev takes the debug build
  crash --groups [partitioned|shared] [--seed S] [--seconds N] [--dev]
                             kill members of groups, their processes and the broker at random, for N seconds (15)
                             each kind: nothing committed or acked may be lost, and nothing succeed twice
  fuzz [--seconds N] [TARGET…]
                             run the fuzz targets, each for N seconds (60)
  instructions [--accept]    instructions of the hot path, held against the committed figures; --accept renews those
  wasm                       core's promises as WebAssembly under Node
  browser                    the dashboard in Chromium
  openapi                    schemathesis against a live broker
  licences                   every dependency's licence is permissive
  tidy                       file sizes, imports between rooms, words that must not appear
  docs                       rustdoc, warnings denied
  bench [ARGUMENTS…]         `callboard bench` in a release build
  growth [ARGUMENTS…]        what Callboard costs as things get many: subscribers, topics, partitions, patterns,
                             bindings, bytes; about a quarter of an hour, `--quick` one minute; 11 GB of disk for a
                             while. `growth --help` says what the arguments are
  peers [ARGUMENTS…]         Callboard beside NATS, Redis, mosquitto and uWebSockets, which it fetches, starts and
                             stops; `peers --help` says what the arguments are
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let outcome = Options::parse(arguments.collect()).and_then(|options| dispatch(&command, &options));
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &str, options: &Options) -> Result<ExitCode, Failure> {
    let workspace = Workspace::find()?;
    match command {
        "test" => return Ok(suite::run(&workspace)),
        "crash" if options.has("groups") => return crash::groups::command(&workspace, options),
        "crash" => return crash::command(&workspace, options),
        // Not for people: `crash --groups` starts itself so.
        crash::groups::member::COMMAND => return crash::groups::member::command(options),
        "fuzz" => fuzz::command(&workspace, options)?,
        "instructions" => instructions::command(&workspace, options)?,
        "wasm" => return Ok(alone("core as WebAssembly", || node::wasm(&workspace))),
        "browser" => {
            let binary = workspace.build_binary(shell::Profile::Release)?;
            return Ok(alone("dashboard in Chromium", || {
                node::browser(&workspace, &binary)
            }));
        }
        "openapi" => {
            let binary = workspace.build_binary(shell::Profile::Release)?;
            return Ok(alone("OpenAPI", || openapi::check(&workspace, &binary)));
        }
        "licences" => println!("{}", licences::check(&workspace)?),
        "tidy" => workspace
            .cargo(&["test", "--package", "callboard", "--test", "it", "tidy"])
            .run()?,
        "docs" => suite::docs(&workspace)?,
        "bench" => {
            let mut bench = vec!["run", "--release", "--package", "callboard", "--", "bench"];
            bench.extend(options.words().iter().map(String::as_str));
            workspace.cargo(&bench).run()?;
        }
        "growth" => growth::command(&workspace, options)?,
        "peers" => peers::command(&workspace, options)?,
        "" | "help" | "--help" | "-h" => print!("{USAGE}"),
        unknown => {
            eprintln!("error: there is no command {unknown:?}\n\n{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One step of the suite by itself.
fn alone(title: &'static str, run: impl FnOnce() -> Result<tally::Counts, Failure>) -> ExitCode {
    let mut tally = tally::Tally::default();
    tally.step(title, run);
    tally.report()
}

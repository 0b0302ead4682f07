//! Runs the comparisons turn by turn and says what came out.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_load::{
    Failure,
    ceiling::{self, Ceiling},
    process::{self, Pinning},
    report,
    sample::Sample,
    table::Table,
    workload::Timing,
};
use clap::Args;
use serde_json::json;

use crate::{
    catalogue::{Comparison, comparisons},
    contender::Conditions,
    roster::Programs,
    targets,
};

/// Length of the measured part of a run with `--quick`, seconds.
const QUICK_SECONDS: f64 = 0.5;

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The broker's program
    #[arg(long, value_name = "FILE")]
    callboard: PathBuf,

    /// The program of NATS; without it, NATS takes no part
    #[arg(long, value_name = "FILE")]
    nats_server: Option<PathBuf>,

    /// The program of Redis; without it, Redis takes no part
    #[arg(long, value_name = "FILE")]
    redis_server: Option<PathBuf>,

    /// The program of mosquitto; without it, mosquitto takes no part
    #[arg(long, value_name = "FILE")]
    mosquitto: Option<PathBuf>,

    /// The runtime with uWebSockets in it; without it, uWebSockets takes no part
    #[arg(long, value_name = "FILE")]
    bun: Option<PathBuf>,

    /// Directory of shared libraries for the servers
    #[arg(long, value_name = "DIR")]
    libraries: Option<PathBuf>,

    /// Only these scenarios, by the first word of their names, or more of it
    #[arg(long, value_delimiter = ';')]
    only: Vec<String>,

    /// Only servers whose names begin so
    #[arg(long, value_delimiter = ';')]
    servers: Vec<String>,

    /// Length of the measured part of each run
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,

    /// Runs of each scenario on each server, in turn; the median is shown
    #[arg(long, default_value_t = 3)]
    repeat: usize,

    /// One short run of each: shows that all works, and says nothing of speed
    #[arg(long)]
    quick: bool,

    /// Length of each payload
    #[arg(long, default_value_t = 128)]
    payload_bytes: usize,

    /// Leave it to the system on which cores server and load run
    #[arg(long)]
    no_pin: bool,

    /// Directory for the servers' records, on a real disk; each server gets a new one in it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Print each run as JSON on standard output
    #[arg(long)]
    ndjson: bool,

    /// Write all runs, and who took part in them, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl CompareArgs {
    fn programs(&self) -> Programs {
        Programs {
            callboard: self.callboard.clone(),
            nats_server: self.nats_server.clone(),
            redis_server: self.redis_server.clone(),
            mosquitto: self.mosquitto.clone(),
            bun: self.bun.clone(),
        }
    }

    fn conditions(&self) -> Conditions {
        let wanted = if self.no_pin { Pinning::Off } else { Pinning::On };
        let seconds = if self.quick { QUICK_SECONDS } else { self.seconds };
        Conditions {
            timing: Timing {
                warm_up: Duration::from_secs_f64((seconds / 5.0).min(1.0)),
                duration: Duration::from_secs_f64(seconds),
                payload_bytes: self.payload_bytes,
            },
            pinning: process::pin_load(wanted),
            data: self.data.clone(),
            libraries: self.libraries.clone(),
        }
    }

    fn chosen(&self) -> Vec<Comparison> {
        let begins = |name: &str, wanted: &[String]| {
            wanted.is_empty() || wanted.iter().any(|wanted| name.starts_with(wanted.as_str()))
        };
        let mut chosen = comparisons(&self.programs());
        chosen.retain(|comparison| begins(&comparison.scenario, &self.only));
        for comparison in &mut chosen {
            comparison
                .contenders
                .retain(|contender| begins(contender.name, &self.servers));
        }
        chosen
    }
}

/// Measures what was asked.
///
/// # Errors
/// A run failed; the others were still made, and their figures printed.
pub fn run(args: &CompareArgs) -> Result<(), Failure> {
    let conditions = args.conditions();
    process::raise_open_files();
    if cfg!(debug_assertions) {
        say("this is a debug build; its figures say nothing");
    }
    let versions = args.programs().versions(args.libraries.as_deref());
    for (name, version) in &versions {
        say(&format!("{name} {version}"));
    }
    let chosen = args.chosen();
    let mut runs = Runs {
        ndjson: args.ndjson,
        samples: Vec::new(),
        failures: Vec::new(),
    };
    let repeat = if args.quick { 1 } else { args.repeat.max(1) };
    for comparison in &chosen {
        for run in 0..repeat {
            runs.turn(comparison, run, &conditions)?;
        }
    }
    let ceilings = ceilings(&chosen, &conditions)?;
    eprintln!(
        "\n{}\n{}\n{}",
        who(&chosen),
        ceiling::table(&ceilings),
        report::side_by_side(&runs.samples)
    );
    eprintln!(
        "{}\n{}",
        targets::table(&runs.samples),
        targets::ahead_of_us(&runs.samples)
    );
    if let Some(path) = &args.json {
        write_json(path, &versions, &chosen, (&runs.samples, &ceilings))?;
    }
    if runs.failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("failed:\n{}", runs.failures.join("\n"))))
    }
}

/// What was measured so far.
struct Runs {
    ndjson: bool,
    samples: Vec<Sample>,
    failures: Vec<String>,
}

impl Runs {
    /// One run on each server, one after the other.
    fn turn(&mut self, comparison: &Comparison, run: usize, conditions: &Conditions) -> Result<(), Failure> {
        for contender in &comparison.contenders {
            let name = format!("{} ({}, run {})", comparison.scenario, contender.name, run + 1);
            say(&name);
            match contender.measure(&comparison.workload, conditions) {
                Ok(figures) => {
                    let sample = Sample {
                        scenario: comparison.scenario.clone(),
                        beside: None,
                        target: contender.name.to_owned(),
                        run,
                        figures,
                    };
                    if self.ndjson {
                        let line = serde_json::to_string(&sample).expect("names and numbers are JSON");
                        writeln!(io::stdout(), "{line}")?;
                    }
                    self.samples.push(sample);
                }
                Err(failure) => {
                    say(&format!("{name}: {failure}"));
                    self.failures.push(format!("{name}: {failure}"));
                }
            }
        }
        Ok(())
    }
}

fn say(text: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "callboard-peers: {text}");
}

/// What each server promises in each kind of scenario, and how it was configured.
fn who(comparisons: &[Comparison]) -> String {
    let mut table = Table::new(&["server", "scenario", "what a record survives", "configuration"]);
    let mut kinds: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for comparison in comparisons {
        for contender in &comparison.contenders {
            let words = (contender.name, contender.promise, contender.configuration);
            let said = kinds.entry(words).or_default();
            if !said.contains(&comparison.kind) {
                said.push(comparison.kind);
            }
        }
    }
    for ((name, promise, configuration), kinds) in kinds {
        let cells = [name, &kinds.join(", "), promise, configuration];
        table.row(cells.map(str::to_owned).to_vec());
    }
    table.to_string()
}

/// The load's own ceiling in each dialect that takes part.
fn ceilings(comparisons: &[Comparison], conditions: &Conditions) -> Result<Vec<(String, Ceiling)>, Failure> {
    let mut ceilings: Vec<(String, Ceiling)> = Vec::new();
    for contender in comparisons.iter().flat_map(|comparison| &comparison.contenders) {
        if ceilings.iter().all(|(name, _)| name != contender.name) {
            ceilings.push((contender.name.to_owned(), contender.ceiling(conditions)?));
        }
    }
    Ok(ceilings)
}

fn write_json(
    path: &Path,
    versions: &[(&str, String)],
    comparisons: &[Comparison],
    (samples, ceilings): (&[Sample], &[(String, Ceiling)]),
) -> Result<(), Failure> {
    let servers: Vec<_> = comparisons
        .iter()
        .flat_map(|comparison| {
            comparison.contenders.iter().map(|contender| {
                json!({
                    "scenario": comparison.scenario,
                    "target": contender.name,
                    "promise": contender.promise,
                    "configuration": contender.configuration,
                })
            })
        })
        .collect();
    let versions: BTreeMap<_, _> = versions.iter().map(|(name, version)| (*name, version)).collect();
    let text = json!({"versions": versions, "servers": servers, "ceilings": ceilings, "samples": samples})
        .to_string();
    std::fs::write(path, text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

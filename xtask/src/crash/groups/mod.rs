//! `cargo xtask crash --groups`: members of groups, their processes and the broker die at random under load.
//!
//! - [`crowd`]: processes of [`member`]s of a partitioned group are killed, and their sockets cut. Every record that
//!   was committed was processed, and what was processed twice is no more than what was out when somebody died.
//! - [`queue`]: workers of a shared group are cut off and the broker is killed in between. Each job succeeds once or
//!   is a dead letter, as [`jobs`] keeps the books.

mod crowd;
mod jobs;
pub mod member;
mod queue;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{VIOLATIONS_SHOWN_MAX, seed_of_now};
use crate::{
    broker::Broker,
    chance::Chance,
    options::Options,
    shell::{Context as _, Failure, Profile, Workspace},
    tally::Counts,
};

/// How long each of the two goes on, as long as nothing else is asked.
const SECONDS: f64 = 15.0;
/// How long a group may take to finish what lies there once nobody dies any more.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// Between two looks at a group that finishes.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// One kind of group: what runs it until it has come to its end.
type Kind = (
    &'static str,
    fn(&Site<'_>, Chance, Duration) -> Result<Outcome, Failure>,
);

const KINDS: [Kind; 2] = [("partitioned", crowd::run), ("shared", queue::run)];

/// What to run.
struct Plan {
    kinds: Vec<Kind>,
    seed: u64,
    duration: Duration,
}

/// What a run says about itself, and what it found.
struct Outcome {
    summary: String,
    violations: Vec<String>,
}

/// A run's place on the disk and its broker's program.
struct Site<'a> {
    binary: &'a Path,
    directory: PathBuf,
}

impl Site<'_> {
    fn start(&self) -> Result<Broker, Failure> {
        let log = self.directory.with_extension("log");
        Broker::start(self.binary, &self.directory, &log, &[])
    }
}

/// `cargo xtask crash --groups`.
///
/// # Errors
/// When the broker does not build or cannot be started.
pub fn command(workspace: &Workspace, options: &Options) -> Result<ExitCode, Failure> {
    let profile = if options.has("dev") {
        Profile::Dev
    } else {
        Profile::Release
    };
    let mut kinds = KINDS.to_vec();
    if let Some(only) = options.text("groups") {
        kinds.retain(|(name, _)| *name == only);
        if kinds.is_empty() {
            return Err(Failure::new(format!("there are no groups of the kind {only:?}")));
        }
    }
    let plan = Plan {
        kinds,
        seed: options.number("seed", seed_of_now())?,
        duration: Duration::from_secs_f64(options.number("seconds", SECONDS)?),
    };
    let counts = run(&workspace.build_binary(profile)?, &plan)?;
    Ok(if counts.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The short version for the suite; each of the two counts as a test.
///
/// # Errors
/// When the broker cannot be started.
pub fn for_suite(binary: &Path) -> Result<Counts, Failure> {
    run(
        binary,
        &Plan {
            kinds: KINDS.to_vec(),
            seed: seed_of_now(),
            duration: Duration::from_secs_f64(SECONDS),
        },
    )
}

fn run(binary: &Path, plan: &Plan) -> Result<Counts, Failure> {
    let work = std::env::temp_dir().join(format!("callboard-groups-{}", std::process::id()));
    std::fs::create_dir_all(&work).context(work.display())?;
    println!("crash: groups, seed {}, data under {}", plan.seed, work.display());
    let mut chance = Chance::new(plan.seed);
    let mut counts = Counts::default();
    for (name, run) in &plan.kinds {
        let began = Instant::now();
        let site = Site {
            binary,
            directory: work.join(name),
        };
        let outcome = run(&site, chance.split(), plan.duration).unwrap_or_else(|failure| Outcome {
            summary: "could not be run to its end".into(),
            violations: vec![failure.to_string()],
        });
        println!(
            "{name}: {}, {:.1} s",
            outcome.summary,
            began.elapsed().as_secs_f64()
        );
        counts.passed += u64::from(outcome.violations.is_empty());
        counts.failed.extend(
            outcome
                .violations
                .into_iter()
                .map(|violation| format!("{name}: {violation}")),
        );
    }
    if counts.failed.is_empty() {
        std::fs::remove_dir_all(&work).context(work.display())?;
        return Ok(counts);
    }
    for violation in counts.failed.iter().take(VIOLATIONS_SHOWN_MAX) {
        println!("VIOLATION: {violation}");
    }
    if counts.failed.len() > VIOLATIONS_SHOWN_MAX {
        println!(
            "VIOLATION: and {} more",
            counts.failed.len() - VIOLATIONS_SHOWN_MAX
        );
    }
    println!(
        "crash: the data and the broker's log are kept in {}; again with: cargo xtask crash --groups --seed {} --seconds {}",
        work.display(),
        plan.seed,
        plan.duration.as_secs_f64()
    );
    Ok(counts)
}

/// Waits until the group has nothing unfinished; returns its description.
///
/// # Errors
/// When it does not come to its end.
fn finished(broker: &Broker, topic: &str, group: &str) -> Result<serde_json::Value, Failure> {
    let path = format!("/api/v1/topics/{topic}/groups/{group}");
    let deadline = Instant::now() + DRAIN_MAX;
    loop {
        let (status, description) = broker.json(&path)?;
        if status == 200 && description["lag"] == 0 {
            return Ok(description);
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!(
                "{group} has not finished after {DRAIN_MAX:?}: HTTP {status} {description}"
            )));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

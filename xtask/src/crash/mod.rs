//! `cargo xtask crash`: kills a broker under load, starts it again, and looks whether it kept its word.
//!
//! Several connections publish and one consumes ([`load`]) until the process gets SIGKILL at a random moment.
//! The broker is started again on what is left of its data, sometimes killed once more while it recovers, and
//! everything is read back through the public protocol ([`verify`]) and held against what was promised
//! ([`ledger`]): whatever was acked as durable, or shown to a consumer, is there, byte for byte, at its offset. What
//! an exchange led to several topics is in all of them or in none, what was scheduled comes once and not before its
//! time ([`later`]), and what was not answered is published once more and is there once.
//! With `--groups` it is [`groups`] that are held to their word.
//! The seed fixes the load's shape and the moment of the kill; where exactly in the broker it strikes is chance.

pub mod groups;
mod later;
mod ledger;
mod load;
mod record;
mod verify;
mod writer;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    broker::Broker,
    chance::Chance,
    options::Options,
    shell::{Context as _, Failure, Profile, Workspace},
    tally::Counts,
};
use ledger::Ledger;

/// Sizes of a journal file, so that kills strike while files are changed and laid down. `None` is the default.
const JOURNAL_FILE_BYTES: [Option<u64>; 4] = [None, Some(1 << 20), Some(256 << 10), Some(4 << 20)];
/// Most lives of a broker on one data directory.
const LIVES_MAX: u64 = 5;
/// Most broken promises that are printed; one lost flush breaks thousands.
const VIOLATIONS_SHOWN_MAX: usize = 20;

/// What to run.
struct Plan {
    runs: u64,
    seed: u64,
    /// Longest life of a broker under load.
    life_max: Duration,
}

/// What came out.
#[derive(Default)]
struct Report {
    runs: u64,
    acked: u64,
    violations: Vec<String>,
}

/// `cargo xtask crash`.
///
/// # Errors
/// When the broker does not build or cannot be started.
pub fn command(workspace: &Workspace, options: &Options) -> Result<ExitCode, Failure> {
    let profile = if options.has("dev") {
        Profile::Dev
    } else {
        Profile::Release
    };
    let plan = Plan {
        runs: options.number("runs", 20)?,
        seed: options.number("seed", seed_of_now())?,
        life_max: Duration::from_secs_f64(options.number("seconds", 2.0)?),
    };
    let binary = workspace.build_binary(profile)?;
    let report = run(&binary, &plan)?;
    Ok(if report.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The short version for the suite; each run counts as a test.
///
/// # Errors
/// When the broker cannot be started.
pub fn for_suite(binary: &Path, runs: u64) -> Result<Counts, Failure> {
    let report = run(
        binary,
        &Plan {
            runs,
            seed: seed_of_now(),
            life_max: Duration::from_secs(2),
        },
    )?;
    let passed = report.runs - u64::from(!report.violations.is_empty());
    Ok(Counts {
        passed,
        failed: report.violations,
        skipped: Vec::new(),
    })
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // Short enough to be typed again.
    Chance::new(now.as_nanos() as u64).below(1_000_000_000)
}

/// Runs until a run finds something.
fn run(binary: &Path, plan: &Plan) -> Result<Report, Failure> {
    let work = std::env::temp_dir().join(format!("callboard-crash-{}", std::process::id()));
    std::fs::create_dir_all(&work).context(work.display())?;
    println!("crash: seed {}, data under {}", plan.seed, work.display());
    let mut chance = Chance::new(plan.seed);
    let mut report = Report::default();
    let mut place = Place::new(&work, &mut chance, report.runs);
    while report.runs < plan.runs && report.violations.is_empty() {
        if place.lives_left == 0 {
            place.remove()?;
            place = Place::new(&work, &mut chance, report.runs);
        }
        report.runs += 1;
        place.lives_left -= 1;
        let began = Instant::now();
        let mut run = Run {
            binary,
            place: &mut place,
            chance: chance.split(),
            violations: Vec::new(),
        };
        let summary = run.go(plan.life_max, report.runs);
        report.violations = run.violations;
        match summary {
            Ok(summary) => {
                report.acked += summary.acked;
                println!(
                    "run {:>3}: {summary}, {:.1} s",
                    report.runs,
                    began.elapsed().as_secs_f64()
                );
            }
            Err(failure) => report.violations.push(failure.to_string()),
        }
    }
    finish(&report, plan, &work)?;
    Ok(report)
}

fn finish(report: &Report, plan: &Plan, work: &Path) -> Result<(), Failure> {
    if report.violations.is_empty() {
        println!(
            "crash: {} runs, {} records acked, 0 lost",
            report.runs, report.acked
        );
        return std::fs::remove_dir_all(work).context(work.display());
    }
    for violation in report.violations.iter().take(VIOLATIONS_SHOWN_MAX) {
        println!("VIOLATION: {violation}");
    }
    if report.violations.len() > VIOLATIONS_SHOWN_MAX {
        println!(
            "VIOLATION: and {} more",
            report.violations.len() - VIOLATIONS_SHOWN_MAX
        );
    }
    println!(
        "crash: run {} of {} broke a promise; the data and the broker's log are kept in {}; \
         again with: cargo xtask crash --runs {} --seed {} --seconds {}",
        report.runs,
        plan.runs,
        work.display(),
        report.runs,
        plan.seed,
        plan.life_max.as_secs_f64()
    );
    Ok(())
}

/// A data directory with what was promised about it.
struct Place {
    directory: PathBuf,
    environment: Vec<(&'static str, String)>,
    ledger: Ledger,
    lives_left: u64,
}

impl Place {
    fn new(work: &Path, chance: &mut Chance, number: u64) -> Self {
        let file_bytes = *chance.pick(&JOURNAL_FILE_BYTES);
        Self {
            directory: work.join(format!("place-{number}")),
            environment: file_bytes
                .map(|bytes| ("CALLBOARD_JOURNAL_FILE_BYTES", bytes.to_string()))
                .into_iter()
                .collect(),
            ledger: Ledger::new(chance.next()),
            lives_left: chance.between(1, LIVES_MAX),
        }
    }

    fn remove(&self) -> Result<(), Failure> {
        std::fs::remove_dir_all(&self.directory).context(self.directory.display())
    }

    fn log(&self) -> PathBuf {
        self.directory.with_extension("log")
    }
}

struct Run<'a> {
    binary: &'a Path,
    place: &'a mut Place,
    chance: Chance,
    violations: Vec<String>,
}

/// What a run that found nothing says about itself.
struct Summary {
    lived: Duration,
    kills: u32,
    acked: u64,
    read_back: u64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "killed {}× after {} ms, {} acked, {} read back",
            self.kills,
            self.lived.as_millis(),
            self.acked,
            self.read_back
        )
    }
}

impl Run<'_> {
    fn go(&mut self, life_max: Duration, number: u64) -> Result<Summary, Failure> {
        let mut broker = self.start()?;
        load::declare_topics(&broker, &mut self.place.ledger)?;
        let lived = Duration::from_millis(self.chance.between(30, life_max.as_millis() as u64));
        let workers = load::start(&broker, &self.place.ledger, &mut self.chance, number);
        // Not a wait for something: this is how long the broker lives.
        std::thread::sleep(lived);
        broker.kill()?;
        let mut acked = 0;
        let mut unanswered = Vec::new();
        for mut seen in load::join(workers) {
            acked += seen.acked();
            unanswered.append(&mut seen.unanswered);
            self.violations.extend(self.place.ledger.take_over(seen));
        }
        let mut kills = 1;
        while self.chance.once_in(3) {
            let mut recovering = Broker::spawn(
                self.binary,
                &self.place.directory,
                &self.place.log(),
                &self.place.environment,
            )?;
            std::thread::sleep(Duration::from_millis(self.chance.below(80)));
            recovering.kill()?;
            kills += 1;
        }
        self.place.ledger.broker_ended();
        let mut broker = self.start()?;
        let mut seen = verify::Verifier::new(&broker, &mut self.place.ledger, &mut self.chance);
        seen.repeat_unanswered(unanswered);
        let read_back = seen.everything();
        self.violations.append(&mut seen.violations);
        broker.stop()?;
        self.place.ledger.broker_ended();
        Ok(Summary {
            lived,
            kills,
            acked,
            read_back,
        })
    }

    fn start(&self) -> Result<Broker, Failure> {
        Broker::start(
            self.binary,
            &self.place.directory,
            &self.place.log(),
            &self.place.environment,
        )
    }
}

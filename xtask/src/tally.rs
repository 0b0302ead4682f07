//! Counts what passed, failed and was skipped, and says so at the end.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::shell::Failure;

/// What one step counted.
#[derive(Default)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, by name.
    pub failed: Vec<String>,
    /// Tests that could not run, with the reason.
    pub skipped: Vec<String>,
}

impl Counts {
    /// A step that is one check and passed.
    pub fn one() -> Self {
        Self {
            passed: 1,
            ..Self::default()
        }
    }

    /// A step that could not run.
    pub fn skip(reason: impl ToString) -> Self {
        Self {
            skipped: vec![reason.to_string()],
            ..Self::default()
        }
    }

    /// Counts a program's failure, unless the tests that it ran say more.
    pub fn settle(mut self, outcome: Result<(), Failure>) -> Self {
        if let Err(failure) = outcome
            && self.failed.is_empty()
        {
            self.failed.push(failure.to_string());
        }
        self
    }

    /// Takes over what another count holds.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}

struct Step {
    title: &'static str,
    took: Duration,
    counts: Counts,
}

/// All steps of a suite.
#[derive(Default)]
pub struct Tally {
    steps: Vec<Step>,
}

impl Tally {
    /// Runs a step under its heading. An error counts as one failure.
    pub fn step(&mut self, title: &'static str, run: impl FnOnce() -> Result<Counts, Failure>) {
        println!("\n=== {title}");
        let began = Instant::now();
        let counts = run().unwrap_or_else(|failure| {
            println!("error: {failure}");
            Counts {
                failed: vec![failure.to_string()],
                ..Counts::default()
            }
        });
        let took = began.elapsed();
        for reason in &counts.skipped {
            println!("SKIPPED: {reason}");
        }
        println!("--- {title}: {} in {:.1} s", sum(&counts), took.as_secs_f64());
        self.steps.push(Step { title, took, counts });
    }

    /// Prints the steps, everything that was skipped or failed, and the sum as the last line.
    pub fn report(&self) -> ExitCode {
        println!("\n=== summary");
        for step in &self.steps {
            println!(
                "{:>7.1} s  {:<32} {}",
                step.took.as_secs_f64(),
                step.title,
                sum(&step.counts)
            );
        }
        let mut all = Counts::default();
        for step in &self.steps {
            for reason in &step.counts.skipped {
                println!("SKIPPED  {}: {reason}", step.title);
            }
            all.skipped.extend(step.counts.skipped.iter().cloned());
        }
        for step in &self.steps {
            for failure in &step.counts.failed {
                println!("FAILED   {}: {failure}", step.title);
            }
            all.failed.extend(step.counts.failed.iter().cloned());
            all.passed += step.counts.passed;
        }
        println!("{}", sum(&all));
        if all.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn sum(counts: &Counts) -> String {
    format!(
        "{} passed, {} failed, {} skipped",
        counts.passed,
        counts.failed.len(),
        counts.skipped.len()
    )
}

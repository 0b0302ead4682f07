//! What Callboard costs as things get many: curves, and not comparisons.
//!
//! Owns which things grow, how each is set up, and what is read off. Every point is a broker of its own on a fresh
//! directory, pinned to one core with one worker unless the point says otherwise; the load is on the other core.
//! `cargo xtask growth` builds both and calls this.
//!
//! - [`curve`]: what grows, and what was read. [`broker`]: one broker. [`asker`]: one session that asks many things.
//! - [`fanout`], [`names`], [`routes`], [`sizes`], [`backlog`], [`cores`], [`quiet`]: the curves.
//! - [`output`]: tables, a file of all readings, pictures.

mod asker;
mod backlog;
mod broker;
mod cores;
mod curve;
mod fanout;
mod names;
mod output;
mod quiet;
mod routes;
mod sizes;

use std::path::PathBuf;

use callboard_load::{
    Failure,
    process::{Pinning, pin_load, raise_open_files},
};
use clap::Args;

use self::curve::{Curve, Reading};

/// Every curve, in the order in which they are measured.
const CURVES: [&Curve; 9] = [
    &fanout::SUBSCRIBERS,
    &names::TOPICS,
    &names::PARTITIONS,
    &routes::PATTERNS,
    &routes::BINDINGS,
    &sizes::RECORD_SIZE,
    &backlog::BACKLOG,
    &cores::CORES,
    &quiet::QUIET,
];

/// What `growth` takes.
#[derive(Args, Debug)]
pub struct GrowthArgs {
    /// The broker's program
    #[arg(long, value_name = "PATH")]
    callboard: PathBuf,
    /// Measure nothing: print and draw what an earlier run wrote with `--json`
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    from: Option<PathBuf>,
    /// Only these curves; all without it
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// How often each point is measured; tables show medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeat: usize,
    /// A tenth of the work at each point, and the largest points left out: to see that it runs
    #[arg(long)]
    quick: bool,
    /// Where brokers keep their data; the backlog needs 11 GB of it for a minute
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// All readings as JSON, one file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Pictures go here, as `bench-growth-topics.svg`
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Do not pin brokers and load to a core each
    #[arg(long)]
    no_pin: bool,
}

/// What every curve needs to know of a run.
pub(crate) struct Bench {
    callboard: PathBuf,
    data: Option<PathBuf>,
    pinning: Pinning,
    quick: bool,
}

impl Bench {
    /// So much work, or less of it in a quick run.
    fn work(&self, amount: u64) -> u64 {
        if self.quick { (amount / 10).max(1) } else { amount }
    }
}

/// Measures, and writes what was asked for.
///
/// # Errors
/// A broker does not start or refuses something, or a file can not be written.
pub fn run(args: &GrowthArgs) -> Result<(), Failure> {
    let curves = chosen(&args.only)?;
    if let Some(file) = &args.from {
        let readings = output::read_json(file, &curves)?;
        return curves.iter().try_for_each(|curve| show(args, curve, &readings));
    }
    raise_open_files();
    let wanted = if args.no_pin { Pinning::Off } else { Pinning::On };
    let bench = Bench {
        callboard: args.callboard.clone(),
        data: args.data.clone(),
        pinning: pin_load(wanted),
        quick: args.quick,
    };
    let mut readings: Vec<Reading> = Vec::new();
    for curve in &curves {
        eprintln!("{} …", curve.title);
        for run in 0..args.repeat.max(1) {
            readings.extend(curve.measure(&bench, run)?);
        }
        show(args, curve, &readings)?;
    }
    if let Some(file) = &args.json {
        output::write_json(file, &readings)?;
    }
    Ok(())
}

/// Prints the table of a curve, and draws it where pictures are wanted.
fn show(args: &GrowthArgs, curve: &Curve, readings: &[Reading]) -> Result<(), Failure> {
    let mine: Vec<_> = readings
        .iter()
        .filter(|reading| reading.curve == curve.name)
        .collect();
    if mine.is_empty() {
        // A file of an earlier run may have only some.
        return Ok(());
    }
    println!("{}", output::table(curve, &mine));
    match &args.images {
        Some(directory) => output::write_picture(directory, curve, &mine),
        None => Ok(()),
    }
}

fn chosen(only: &[String]) -> Result<Vec<&'static Curve>, Failure> {
    let names = || CURVES.map(|curve| curve.name).join(", ");
    if let Some(unknown) = only
        .iter()
        .find(|name| CURVES.iter().all(|curve| curve.name != **name))
    {
        return Err(Failure::new(format!(
            "there is no curve {unknown:?}; there are {}",
            names()
        )));
    }
    let is_chosen = |curve: &&Curve| only.is_empty() || only.iter().any(|name| name == curve.name);
    Ok(CURVES.into_iter().filter(is_chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_chosen_by_name_and_unknown_ones_are_told() {
        let names = |only: &[&str]| {
            let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
            chosen(&only).map(|curves| curves.iter().map(|curve| curve.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).map(|all| all.len()).ok(), Some(CURVES.len()));
        assert_eq!(names(&["topics", "cores"]).ok(), Some(vec!["topics", "cores"]));
        let failure = names(&["tpoics"]).err().map(|failure| failure.to_string());
        assert!(failure.is_some_and(|text| text.contains("tpoics") && text.contains("partitions")));
    }
}

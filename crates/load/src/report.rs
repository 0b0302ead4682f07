//! What a person reads: a line a scenario and server, then the ratios.

use super::{
    sample::{Percentiles, Sample, Slow},
    table::{Table, bytes, thousands},
};

/// The broker, as tables and samples call it.
pub const CALLBOARD: &str = "callboard";
/// The server with no broker in it.
pub const BARE: &str = "bare";

/// Median and how far the runs lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Summary {
    median: f64,
    /// Largest less smallest, as a share of the median.
    spread: f64,
}

fn summary(values: impl Iterator<Item = f64>) -> Option<Summary> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (first, last) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    };
    let spread = if median == 0.0 {
        0.0
    } else {
        (last - first) / median
    };
    Some(Summary { median, spread })
}

/// All runs of one scenario on one server.
struct Group<'a> {
    scenario: &'a str,
    target: &'a str,
    samples: Vec<&'a Sample>,
}

fn groups(samples: &[Sample]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for sample in samples {
        let same =
            |group: &&mut Group<'_>| group.scenario == sample.scenario && group.target == sample.target;
        match groups.iter_mut().find(same) {
            Some(group) => group.samples.push(sample),
            None => groups.push(Group {
                scenario: &sample.scenario,
                target: &sample.target,
                samples: vec![sample],
            }),
        }
    }
    groups
}

impl Group<'_> {
    fn of(&self, value: impl Fn(&Sample) -> Option<f64>) -> Option<Summary> {
        summary(self.samples.iter().filter_map(|sample| value(sample)))
    }

    /// The figure that this scenario is about.
    fn figure(&self) -> Option<Summary> {
        self.of(figure)
    }

    /// What its figure is, where a ratio of it says something.
    fn meaning(&self) -> Option<&'static str> {
        match self.samples.first() {
            Some(sample) if sample.figures.count.is_some() => Some("per CPU second"),
            Some(sample) if sample.figures.latency.is_some() => Some("p50"),
            // Memory has an absolute target; a server that keeps nothing is nothing to compare with.
            _ => None,
        }
    }

    fn cells(&self, values: &[Option<Summary>], format: impl Fn(f64) -> String) -> Vec<String> {
        let mut cells = vec![self.scenario.to_owned(), self.target.to_owned()];
        cells.extend(
            values
                .iter()
                .map(|value| value.map_or_else(|| "-".to_owned(), |value| format(value.median))),
        );
        let spread = self
            .figure()
            .map_or_else(|| "-".to_owned(), |value| percent(value.spread));
        cells.push(spread);
        let cpu = |share: fn(&Sample) -> f64| {
            self.of(|sample| (sample.figures.seconds > 0.0).then(|| share(sample) / sample.figures.seconds))
                .map_or_else(|| "-".to_owned(), |value| percent(value.median))
        };
        cells.push(cpu(|sample| sample.figures.server_cpu_s));
        cells.push(cpu(|sample| sample.figures.load_cpu_s));
        let memory = self.of(|sample| Some(sample.figures.resident_bytes as f64));
        cells.push(memory.map_or_else(|| "-".to_owned(), |value| bytes(value.median as u64)));
        cells
    }
}

fn figure(sample: &Sample) -> Option<f64> {
    let figures = &sample.figures;
    figures
        .per_server_cpu_s
        .or_else(|| figures.latency.map(|latency| latency.p50_us))
        .or(figures.idle_bytes_per_connection)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// The tables of a whole run of Callboard, perhaps beside the bare server.
pub fn tables(samples: &[Sample]) -> String {
    let groups = groups(samples);
    let mut text = figures(&groups);
    push_table(
        &mut text,
        &["ratio", "callboard / bare", "lowest", "highest"],
        ratios(&groups),
    );
    push_table(
        &mut text,
        &["ratio", "to ingest", "lowest", "highest"],
        ratios_beside(&groups),
    );
    push_lost(&mut text, samples);
    text
}

/// The tables of a run of many servers: the figures, and Callboard's ratio to each other server.
pub fn side_by_side(samples: &[Sample]) -> String {
    let groups = groups(samples);
    let mut text = figures(&groups);
    let is_ours = |group: &&Group<'_>| group.target.starts_with(CALLBOARD);
    let mut rows = Vec::new();
    for ours in groups.iter().filter(is_ours) {
        for theirs in groups.iter().filter(|group| !is_ours(group)) {
            let cells = (theirs.scenario == ours.scenario).then(|| ratio_cells(ours, theirs));
            if let (Some(meaning), Some(Some(cells))) = (ours.meaning(), cells) {
                let names = [format!("{} ({meaning})", ours.scenario), ours.target.to_owned()];
                rows.push([&names[..], &[theirs.target.to_owned()], &cells].concat());
            }
        }
    }
    let headline = ["ratio", "of", "to", "median", "lowest", "highest"];
    push_table(&mut text, &headline, rows);
    push_lost(&mut text, samples);
    text
}

fn push_table(text: &mut String, headline: &[&str], rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        let mut table = Table::new(headline);
        rows.into_iter().for_each(|row| table.row(row));
        text.push_str(&format!("{table}\n"));
    }
}

fn push_lost(text: &mut String, samples: &[Sample]) {
    let lost: u64 = samples.iter().filter_map(|sample| sample.figures.lost).sum();
    if lost > 0 {
        text.push_str(&format!("{lost} records never came.\n"));
    }
}

/// The figures of each scenario on each server.
fn figures(groups: &[Group<'_>]) -> String {
    let mut text = String::new();
    let mut table = |headline: &[&str], rows| push_table(&mut text, headline, rows);
    let of = |keep: fn(&Sample) -> bool| {
        groups
            .iter()
            .filter(move |group| group.samples.first().is_some_and(|sample| keep(sample)))
    };
    let whole = |value: f64| thousands(value as u64);
    let throughput =
        of(|sample| sample.figures.count.is_some() && sample.figures.slow.is_none()).map(|group| {
            group.cells(
                &[
                    group.of(|sample| sample.figures.per_server_cpu_s),
                    group.of(|sample| sample.figures.per_s),
                ],
                whole,
            )
        });
    let common = ["spread", "server CPU", "load CPU", "memory"];
    let headline = |first: &[&'static str]| [&["scenario", "server"], first, &common].concat();
    table(&headline(&["per CPU second", "per second"]), throughput.collect());
    let latency =
        of(|sample| sample.figures.latency.is_some() && sample.figures.slow.is_none()).map(|group| {
            let at = |value: fn(&Percentiles) -> f64| {
                group.of(move |sample| sample.figures.latency.as_ref().map(value))
            };
            let values = [
                at(|l| l.p50_us),
                at(|l| l.p90_us),
                at(|l| l.p99_us),
                at(|l| l.p999_us),
                at(|l| l.max_us),
            ];
            group.cells(&values, |value| format!("{value:.0}"))
        });
    table(
        &headline(&["p50 us", "p90 us", "p99 us", "p99.9 us", "max us"]),
        latency.collect(),
    );
    let mixed = of(|sample| sample.figures.slow.is_some()).map(|group| {
        let late = |value: fn(&Percentiles) -> f64| {
            group.of(move |sample| sample.figures.latency.as_ref().map(value))
        };
        let slow = |value: fn(&Slow) -> u64| {
            group.of(move |sample| sample.figures.slow.as_ref().map(|slow| value(slow) as f64))
        };
        let values = [
            group.of(|sample| sample.figures.per_server_cpu_s),
            late(|l| l.p50_us),
            late(|l| l.p99_us),
            group.of(|sample| sample.figures.lost.map(|lost| lost as f64)),
            slow(|slow| slow.cut_off),
            slow(|slow| slow.behind),
            slow(|slow| slow.lost),
        ];
        group.cells(&values, whole)
    });
    table(
        &headline(&[
            "per CPU second",
            "p50 us",
            "p99 us",
            "lost",
            "slow: cut off",
            "slow: behind",
            "slow: lost",
        ]),
        mixed.collect(),
    );
    let idle = of(|sample| sample.figures.idle_bytes_per_connection.is_some()).map(|group| {
        let values = [
            group.of(|sample| sample.figures.idle_bytes_per_connection),
            group.of(|sample| sample.figures.after_burst_bytes_per_connection),
        ];
        group.cells(&values, whole)
    });
    table(
        &headline(&["bytes each, idle", "bytes each, after a burst"]),
        idle.collect(),
    );
    text
}

/// One ratio a scenario: each run of one server beside the run of the other that followed it.
fn ratios(groups: &[Group<'_>]) -> Vec<Vec<String>> {
    let of = |target: &'static str| groups.iter().filter(move |group| group.target == target);
    let mut rows = Vec::new();
    for ours in of(CALLBOARD) {
        let Some(bare) = of(BARE).find(|bare| bare.scenario == ours.scenario) else {
            continue;
        };
        let Some(cells) = ratio_cells(ours, bare) else {
            continue;
        };
        let Some(meaning) = ours.meaning() else { continue };
        let name = format!("{} ({meaning})", ours.scenario);
        rows.push([vec![name], cells].concat());
    }
    rows
}

/// One ratio a scenario that was measured in turn with another one on the same broker.
fn ratios_beside(groups: &[Group<'_>]) -> Vec<Vec<String>> {
    let row = |ours: &Group<'_>| {
        let beside = ours.samples.first()?.beside.as_deref()?;
        let theirs = groups.iter().find(|theirs| theirs.scenario == beside)?;
        let name = format!("{} (per CPU second)", ours.scenario);
        Some([vec![name], ratio_cells(ours, theirs)?].concat())
    };
    groups.iter().filter_map(row).collect()
}

/// How one server's figure stands to another's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

/// The figures of `ours` by those of `theirs` in one scenario, each run by the one that stood beside it; without
/// `theirs`, the figures themselves.
pub fn ratio(samples: &[Sample], scenario: &str, ours: &str, theirs: Option<&str>) -> Option<Ratio> {
    let groups = groups(samples);
    let of = |target: &str| {
        groups
            .iter()
            .find(|group| group.scenario == scenario && group.target == target)
    };
    match theirs {
        Some(theirs) => ratio_between(of(ours)?, of(theirs)?),
        None => ratio_of(
            of(ours)?
                .samples
                .iter()
                .filter_map(|sample| figure(sample))
                .collect(),
        ),
    }
}

/// Each run by the run of the same turn: one that failed has no partner.
fn ratio_between(ours: &Group<'_>, theirs: &Group<'_>) -> Option<Ratio> {
    let pair = |ours: &&Sample| {
        let beside = theirs.samples.iter().find(|theirs| theirs.run == ours.run)?;
        Some(figure(ours)? / figure(beside)?)
    };
    ratio_of(ours.samples.iter().filter_map(pair).collect())
}

fn ratio_of(mut ratios: Vec<f64>) -> Option<Ratio> {
    ratios.sort_by(f64::total_cmp);
    Some(Ratio {
        median: summary(ratios.iter().copied())?.median,
        lowest: *ratios.first()?,
        highest: *ratios.last()?,
    })
}

/// Median, lowest and highest quotient of the runs that stood beside each other.
fn ratio_cells(ours: &Group<'_>, theirs: &Group<'_>) -> Option<Vec<String>> {
    let found = ratio_between(ours, theirs)?;
    let cells = [found.median, found.lowest, found.highest];
    Some(cells.map(|ratio| format!("{ratio:.2}")).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Figures;

    #[test]
    fn median_is_not_moved_by_one_bad_run() {
        let found = summary([3.0, 100.0, 2.0].into_iter());
        assert!(matches!(found, Some(Summary { median, spread }) if median == 3.0 && spread > 32.0));
        assert!(matches!(summary([2.0, 4.0].into_iter()), Some(Summary { median, .. }) if median == 3.0));
        assert!(summary(std::iter::empty()).is_none());
    }

    fn sample(target: &str, per_server_cpu_s: f64) -> Sample {
        Sample {
            scenario: "fanout".to_owned(),
            target: target.to_owned(),
            figures: Figures {
                seconds: 1.0,
                count: Some(1),
                per_server_cpu_s: Some(per_server_cpu_s),
                per_s: Some(1.0),
                server_cpu_s: 0.5,
                load_cpu_s: 0.25,
                resident_bytes: 1 << 20,
                ..Figures::default()
            },
            ..Sample::default()
        }
    }

    #[test]
    fn ratio_compares_runs_that_stood_beside_each_other() {
        // The machine was twice as fast in the second pair; the ratio is the same. A run without partner says nothing.
        let turn = |run, sample| Sample { run, ..sample };
        let samples = [
            turn(0, sample(CALLBOARD, 6.0)),
            turn(0, sample(BARE, 10.0)),
            turn(1, sample(CALLBOARD, 99.0)),
            turn(2, sample(CALLBOARD, 12.0)),
            turn(2, sample(BARE, 20.0)),
        ];
        let text = tables(&samples);
        let row = text
            .lines()
            .find(|line| line.starts_with("fanout (per CPU second)"));
        let figures: Vec<&str> = row
            .map(|row| row.split_whitespace().rev().take(3).collect())
            .unwrap_or_default();
        assert_eq!(figures, ["0.60", "0.60", "0.60"], "{text}");
    }

    #[test]
    fn ratio_to_what_was_measured_beside_it_is_its_own() {
        let of = |scenario: &str, beside: Option<&str>, per_server_cpu_s: f64| Sample {
            scenario: scenario.to_owned(),
            beside: beside.map(str::to_owned),
            ..sample(CALLBOARD, per_server_cpu_s)
        };
        let second = |sample| Sample { run: 1, ..sample };
        let samples = [
            of("queue", Some("ingest beside queue"), 5.0),
            of("ingest beside queue", None, 10.0),
            second(of("queue", Some("ingest beside queue"), 14.0)),
            second(of("ingest beside queue", None, 20.0)),
            // Not the one beside the queue.
            of("ingest", None, 1.0),
        ];
        let text = tables(&samples);
        let row = text
            .lines()
            .find(|line| line.starts_with("queue (per CPU second)"))
            .unwrap_or_default();
        let figures: Vec<&str> = row.split_whitespace().rev().take(3).collect();
        assert_eq!(figures, ["0.70", "0.50", "0.60"], "{text}");
        assert!(!text.contains("callboard / bare"), "{text}");
    }
}

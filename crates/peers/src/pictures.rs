//! Pictures of what was compared: one bar chart a scenario, from the file that `compare` wrote.

use std::path::{Path, PathBuf};

use callboard_load::{
    Failure,
    report::{BARE, CALLBOARD},
    sample::Sample,
    svg::{Bar, BarChart, Tone},
};
use clap::Args;
use serde_json::Value;

/// What `pictures` takes.
#[derive(Args, Debug)]
pub struct PicturesArgs {
    /// The file that `compare --json` wrote
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// Pictures go here, as `bench-fanout-100-subscribers-1-in-flight.svg`
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
}

/// Draws every scenario of the file.
///
/// # Errors
/// The file can not be read or is of another kind, or a picture can not be written.
pub fn run(args: &PicturesArgs) -> Result<(), Failure> {
    let text = std::fs::read_to_string(&args.json).map_err(|error| at(&args.json, &error))?;
    std::fs::create_dir_all(&args.images).map_err(|error| at(&args.images, &error))?;
    for (name, chart) in charts(&samples(&text)?) {
        let file = args.images.join(format!("bench-{name}.svg"));
        std::fs::write(&file, chart.svg()).map_err(|error| at(&file, &error))?;
        println!("{}", file.display());
    }
    Ok(())
}

fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

fn samples(text: &str) -> Result<Vec<Sample>, Failure> {
    let failed = |error: serde_json::Error| Failure::new(format!("this is no file of samples: {error}"));
    let mut file: Value = serde_json::from_str(text).map_err(failed)?;
    serde_json::from_value(file["samples"].take()).map_err(failed)
}

/// The figure that a sample is about, and what it is.
fn figure(sample: &Sample) -> Option<(f64, &'static str)> {
    let figures = &sample.figures;
    let throughput = figures
        .per_server_cpu_s
        .map(|value| (value, "a second of server CPU; more is better"));
    let latency = figures
        .latency
        .map(|latency| (latency.p50_us, "microseconds, half came sooner; less is better"));
    let memory = figures
        .idle_bytes_per_connection
        .map(|bytes| (bytes, "resident bytes a connection; less is better"));
    throughput.or(latency).or(memory)
}

/// One chart a scenario with its name in a file's name, in the order of the samples; medians, best first.
fn charts(samples: &[Sample]) -> Vec<(String, BarChart)> {
    let mut charts: Vec<(String, BarChart)> = Vec::new();
    for sample in samples {
        let name = file_name(&sample.scenario);
        let Some((_, unit)) = figure(sample) else { continue };
        if charts.iter().any(|(known, _)| *known == name) {
            continue;
        }
        let mut bars = bars(samples.iter().filter(|other| other.scenario == sample.scenario));
        let is_better_low = unit.ends_with("less is better");
        bars.sort_by(|left, right| match is_better_low {
            true => left.value.total_cmp(&right.value),
            false => right.value.total_cmp(&left.value),
        });
        let chart = BarChart {
            title: sample.scenario.clone(),
            unit: unit.to_owned(),
            bars,
        };
        charts.push((name, chart));
    }
    charts
}

fn bars<'a>(samples: impl Iterator<Item = &'a Sample>) -> Vec<Bar> {
    let mut targets: Vec<(&str, Vec<f64>)> = Vec::new();
    for sample in samples {
        let Some((value, _)) = figure(sample) else {
            continue;
        };
        match targets.iter_mut().find(|(target, _)| *target == sample.target) {
            Some((_, values)) => values.push(value),
            None => targets.push((&sample.target, vec![value])),
        }
    }
    let bar = |(target, mut values): (&str, Vec<f64>)| {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Bar {
            label: target.to_owned(),
            tone: match target {
                BARE => Tone::Limit,
                _ if target.starts_with(CALLBOARD) => Tone::Ours,
                _ => Tone::Other,
            },
            value: median,
            spread: (values[0], values[values.len() - 1]),
        }
    };
    targets.into_iter().map(bar).collect()
}

fn file_name(scenario: &str) -> String {
    let words = scenario.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"versions":{},"samples":[
        {"scenario":"fanout, 100 subscribers","target":"callboard","run":0,"per_server_cpu_s":12.0,"seconds":1,"server_cpu_s":1,"load_cpu_s":1,"resident_bytes":1,"proportional_bytes":1},
        {"scenario":"fanout, 100 subscribers","target":"nats","run":0,"per_server_cpu_s":6.0,"seconds":1,"server_cpu_s":1,"load_cpu_s":1,"resident_bytes":1,"proportional_bytes":1},
        {"scenario":"fanout, 100 subscribers","target":"bare","run":0,"per_server_cpu_s":16.0,"seconds":1,"server_cpu_s":1,"load_cpu_s":1,"resident_bytes":1,"proportional_bytes":1},
        {"scenario":"fanout, 100 subscribers","target":"callboard","run":1,"per_server_cpu_s":14.0,"seconds":1,"server_cpu_s":1,"load_cpu_s":1,"resident_bytes":1,"proportional_bytes":1},
        {"scenario":"idle","target":"nats","run":0,"idle_bytes_per_connection":50.0,"seconds":1,"server_cpu_s":1,"load_cpu_s":1,"resident_bytes":1,"proportional_bytes":1},
        {"scenario":"idle","target":"callboard","run":0,"idle_bytes_per_connection":2.0,"seconds":1,"server_cpu_s":1,"load_cpu_s":1,"resident_bytes":1,"proportional_bytes":1}]}"#;

    #[test]
    fn each_scenario_has_a_chart_with_the_best_first() {
        let charts = charts(&samples(FILE).expect("the file is good"));
        let names: Vec<_> = charts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["fanout-100-subscribers", "idle"]);
        let bars: Vec<_> = charts[0]
            .1
            .bars
            .iter()
            .map(|bar| (bar.label.as_str(), bar.value, bar.tone))
            .collect();
        let expected = [
            ("bare", 16.0, Tone::Limit),
            ("callboard", 13.0, Tone::Ours),
            ("nats", 6.0, Tone::Other),
        ];
        assert_eq!(bars, expected);
        assert_eq!(charts[0].1.bars[1].spread, (12.0, 14.0));
        assert_eq!(charts[1].1.bars[0].label, "callboard", "less memory is better");
    }

    #[test]
    fn other_files_are_refused() {
        assert!(samples("{}").is_err());
        assert!(samples("no").is_err());
    }
}

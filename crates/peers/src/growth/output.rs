//! What is left of a run: tables, a file of all readings, pictures.

use std::path::Path;

use callboard_load::{
    Failure,
    svg::{Axis, LineChart, Point, Scale, Series, figure},
    table::{Table, thousands},
};
use serde_json::Value;

use super::curve::{Curve, Reading};

/// Figures that lie further apart than this are drawn on a logarithmic axis.
const LINEAR_RATIO_MAX: f64 = 20.0;

/// Lowest, median and highest of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        1 => values[middle],
        _ => f64::midpoint(*values.get(middle.checked_sub(1)?)?, values[middle]),
    };
    Some(Spread {
        low: *values.first()?,
        median,
        high: *values.last()?,
    })
}

fn at(readings: &[&Reading], metric: &str, size: u64) -> Option<Spread> {
    let fitting = readings
        .iter()
        .filter(|reading| reading.metric == metric && reading.size == size);
    spread(fitting.map(|reading| reading.value))
}

/// Each once, in the order in which they first come.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut known = Vec::new();
    for value in values {
        if !known.contains(&value) {
            known.push(value);
        }
    }
    known
}

/// A line a metric and a column a size: medians, with how far the runs lie apart if there were several.
pub(crate) fn table(curve: &Curve, readings: &[&Reading]) -> String {
    let sizes = distinct(readings.iter().map(|reading| reading.size));
    let headline = format!("{}: {}", curve.title, curve.x);
    let columns: Vec<String> = sizes.iter().map(|size| thousands(*size)).collect();
    let mut cells = vec![headline.as_str()];
    cells.extend(columns.iter().map(String::as_str));
    let mut table = Table::new(&cells);
    for metric in distinct(readings.iter().map(|reading| reading.metric.as_str())) {
        let mut row = vec![metric.to_owned()];
        row.extend(
            sizes
                .iter()
                .map(|size| at(readings, metric, *size).map_or_else(String::new, cell)),
        );
        table.row(row);
    }
    table.to_string()
}

fn cell(spread: Spread) -> String {
    let Spread { low, median, high } = spread;
    if low == high || median == 0.0 {
        return number(median);
    }
    let apart = (high - low) / median.abs() * 100.0;
    format!("{} ±{:.0}%", number(median), apart / 2.0)
}

/// At least three digits of it.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => {
            let text = thousands(size.round() as u64);
            if value < 0.0 { format!("-{text}") } else { text }
        }
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Writes every reading into one file.
pub(crate) fn write_json(file: &Path, readings: &[Reading]) -> Result<(), Failure> {
    let all: Vec<Value> = readings.iter().map(Reading::to_json).collect();
    let text = serde_json::to_string_pretty(&all).map_err(|error| Failure::new(error.to_string()))?;
    write(file, &text)
}

/// Reads what [`write_json`] wrote; what is of none of `curves` is left out.
pub(crate) fn read_json(file: &Path, curves: &[&'static Curve]) -> Result<Vec<Reading>, Failure> {
    let failed = |error: String| Failure::new(format!("{}: {error}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let all: Vec<Value> = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let readings = all.iter().filter_map(|value| Reading::from_json(value, curves));
    Ok(readings.collect())
}

/// Draws a curve into `directory`.
pub(crate) fn write_picture(directory: &Path, curve: &Curve, readings: &[&Reading]) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)?;
    let panels: Vec<_> = curve
        .panels
        .iter()
        .map(|panel| chart(curve, panel, readings))
        .collect();
    let file = directory.join(format!("bench-growth-{}.svg", curve.name));
    write(&file, &figure(curve.title, &panels))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| Failure::new(format!("{}: {error}", file.display())))
}

fn chart(curve: &Curve, (title, metrics): &(&str, &[&str]), readings: &[&Reading]) -> LineChart {
    let sizes = distinct(readings.iter().map(|reading| reading.size));
    let series: Vec<Series> = metrics
        .iter()
        .map(|metric| {
            let points = sizes.iter().filter_map(|size| {
                let spread = at(readings, metric, *size)?;
                Some(Point {
                    x: *size as f64,
                    y: spread.median,
                    spread: (spread.low, spread.high),
                })
            });
            Series {
                // What all of them are stands above the chart.
                name: metric
                    .strip_prefix(title)
                    .map_or(*metric, |rest| rest.trim_start_matches([',', ' ']))
                    .to_owned(),
                points: points.collect(),
            }
        })
        .collect();
    let y_scale = scale(
        series
            .iter()
            .flat_map(|series| series.points.iter().map(|point| point.y)),
    );
    let is_wide = sizes
        .last()
        .zip(sizes.first())
        .is_some_and(|(last, first)| last / first.max(&1) > 10);
    LineChart {
        title: (*title).to_owned(),
        x: Axis {
            title: curve.x.to_owned(),
            scale: if is_wide { Scale::Log } else { Scale::Linear },
        },
        y: Axis {
            title: String::new(),
            scale: y_scale,
        },
        series,
    }
}

fn scale(values: impl Iterator<Item = f64>) -> Scale {
    let placed = values.filter(|value| *value > 0.0);
    let (low, high) = placed.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), value| {
        (low.min(value), high.max(value))
    });
    if high / low > LINEAR_RATIO_MAX {
        Scale::Log
    } else {
        Scale::Linear
    }
}

#[cfg(test)]
mod tests {
    use super::{super::curve::Measure, *};

    const CURVE: Curve = Curve {
        name: "topics",
        title: "Topics",
        x: "topics",
        sizes: &[1, 100],
        quick_max: 100,
        measure: Measure::Each(|_, _| Ok(Vec::new())),
        panels: &[("CPU us", &["CPU us a publish", "CPU us to create one"])],
    };

    fn readings() -> Vec<Reading> {
        let reading = |size, metric, run, value| Reading {
            curve: "topics",
            size,
            metric: str::to_owned(metric),
            run,
            value,
        };
        vec![
            reading(1, "CPU us a publish", 0, 4.0),
            reading(100, "CPU us a publish", 0, 5.0),
            reading(100, "bytes each", 0, 8_600.0),
            reading(1, "CPU us a publish", 1, 2.0),
            reading(1, "CPU us a publish", 2, 3.0),
            reading(100, "CPU us to create one", 0, 400.0),
        ]
    }

    #[test]
    fn table_has_medians_and_says_how_far_runs_lie_apart() {
        let readings = readings();
        let table = table(&CURVE, &readings.iter().collect::<Vec<_>>());
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>(),
            ["Topics:", "topics", "1", "100"]
        );
        assert!(
            lines[1].contains("3.00 ±33%") && lines[1].ends_with("5.00"),
            "{table}"
        );
        assert!(lines[2].ends_with("8 600"), "{table}");
    }

    #[test]
    fn readings_come_back_as_they_were_written() {
        const CURVES: [&Curve; 1] = [&CURVE];
        for reading in readings() {
            assert_eq!(
                Reading::from_json(&reading.to_json(), &CURVES),
                Some(reading.clone())
            );
            assert_eq!(Reading::from_json(&reading.to_json(), &[]), None);
        }
        assert_eq!(Reading::from_json(&Value::Null, &CURVES), None);
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(spread([].into_iter()), None);
        assert_eq!(
            spread([3.0, 1.0].into_iter()).map(|spread| spread.median),
            Some(2.0)
        );
        assert_eq!(
            spread([9.0, 1.0, 2.0].into_iter()).map(|spread| spread.median),
            Some(2.0)
        );
    }

    #[test]
    fn figures_far_apart_are_drawn_on_a_log_axis() {
        let readings = readings();
        let chart = chart(&CURVE, &CURVE.panels[0], &readings.iter().collect::<Vec<_>>());
        assert_eq!(chart.y.scale, Scale::Log);
        assert_eq!(chart.x.scale, Scale::Log);
        assert_eq!(chart.series[0].name, "a publish");
        assert_eq!(chart.series[0].points[0].spread, (2.0, 4.0));
        assert_eq!(scale([1.0, 3.0].into_iter()), Scale::Linear);
    }
}

//! What grows, and what was read at each size.

use callboard_load::Failure;
use serde_json::{Value, json};

use super::Bench;

/// One thing that grows.
pub(crate) struct Curve {
    /// What it is called on the command line and in file names.
    pub name: &'static str,
    /// For a person.
    pub title: &'static str,
    /// What the sizes count.
    pub x: &'static str,
    /// The sizes, smallest first.
    pub sizes: &'static [u64],
    /// The last size of a quick run.
    pub quick_max: u64,
    /// Measures all of these sizes, or one after another on what grows.
    pub measure: Measure,
    /// What the picture shows, each in a chart of its own: a title, and the metrics in it.
    pub panels: &'static [(&'static str, &'static [&'static str])],
}

/// How the sizes of a curve are measured.
#[derive(Clone, Copy)]
pub(crate) enum Measure {
    /// Each on a fresh broker.
    Each(fn(&Bench, u64) -> Result<Metrics, Failure>),
    /// One after another on the same data.
    Growing(fn(&Bench, &[u64]) -> Result<Vec<Point>, Failure>),
}

/// Figures with what they are, unit included, in the order of the table.
pub(crate) type Metrics = Vec<(&'static str, f64)>;

/// A size, and what was read there.
pub(crate) type Point = (u64, Metrics);

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub curve: &'static str,
    pub size: u64,
    pub metric: String,
    pub run: usize,
    pub value: f64,
}

impl Reading {
    pub(crate) fn to_json(&self) -> Value {
        let Self {
            curve,
            size,
            metric,
            run,
            value,
        } = self;
        json!({ "curve": curve, "size": size, "metric": metric, "run": run, "value": value })
    }

    /// Reads what [`Reading::to_json`] wrote; `None` if it is of none of `curves`, or no reading at all.
    pub(crate) fn from_json(value: &Value, curves: &[&'static Curve]) -> Option<Self> {
        let curve = curves.iter().find(|curve| value["curve"] == curve.name)?;
        Some(Self {
            curve: curve.name,
            size: value["size"].as_u64()?,
            metric: value["metric"].as_str()?.to_owned(),
            run: usize::try_from(value["run"].as_u64()?).ok()?,
            value: value["value"].as_f64()?,
        })
    }
}

impl Curve {
    /// Reads every size once.
    pub(crate) fn measure(&self, bench: &Bench, run: usize) -> Result<Vec<Reading>, Failure> {
        let is_wanted = |size: &u64| !bench.quick || *size <= self.quick_max;
        let sizes: Vec<u64> = self.sizes.iter().copied().filter(is_wanted).collect();
        let points = match self.measure {
            Measure::Each(measure) => {
                let point = |size: &u64| {
                    let metrics = measure(bench, *size)
                        .map_err(|failure| Failure::new(format!("{} at {size}: {failure}", self.name)))?;
                    Ok((*size, metrics))
                };
                sizes.iter().map(point).collect::<Result<_, Failure>>()?
            }
            Measure::Growing(measure) => measure(bench, &sizes)?,
        };
        let readings = points.into_iter().flat_map(|(size, metrics)| {
            metrics.into_iter().map(move |(metric, value)| Reading {
                curve: self.name,
                size,
                metric: metric.to_owned(),
                run,
                value,
            })
        });
        Ok(readings.collect())
    }
}

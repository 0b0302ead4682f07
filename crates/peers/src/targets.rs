//! What was asked of Callboard beside its peers, and how far it is: the table that `docs/benchmarks.md` begins with.

use std::fmt::Write as _;

use callboard_load::{
    report::{BARE, CALLBOARD, Ratio, ratio},
    sample::Sample,
};

use crate::roster::OUR_INGEST;

/// One promise.
struct Target {
    scenario: &'static str,
    ours: &'static str,
    /// Whose figure ours is divided by; `None` where the figure itself is asked for.
    theirs: Option<&'static str>,
    asked: Bound,
    aim: f64,
}

/// On which side a figure has to be.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(asked) => value >= asked,
            Self::AtMost(asked) => value <= asked,
        }
    }

    fn with(self, value: f64) -> Self {
        match self {
            Self::AtLeast(_) => Self::AtLeast(value),
            Self::AtMost(_) => Self::AtMost(value),
        }
    }
}

const fn at_least(
    scenario: &'static str,
    ours: &'static str,
    theirs: &'static str,
    (asked, aim): (f64, f64),
) -> Target {
    Target {
        scenario,
        ours,
        theirs: Some(theirs),
        asked: Bound::AtLeast(asked),
        aim,
    }
}

const fn at_most(scenario: &'static str, theirs: &'static str, (asked, aim): (f64, f64)) -> Target {
    Target {
        scenario,
        ours: CALLBOARD,
        theirs: Some(theirs),
        asked: Bound::AtMost(asked),
        aim,
    }
}

const FANOUT_100: &str = "fanout, 100 subscribers, 128 in flight";
const FANOUT_1000: &str = "fanout, 1000 subscribers, 128 in flight";
const NATS: &str = "nats core, websocket";
const NATS_TCP: &str = "nats core, tcp";
const UWEBSOCKETS: &str = "uwebsockets";
const JETSTREAM: &str = "jetstream, sync default";
const REDIS: &str = "redis, appendfsync always";
const INGEST: &str = "ingest, 4 publishers, flushed";
const QUEUE: &str = "queue, 4 publishers, 8 workers, flushed";

const TARGETS: [Target; 21] = [
    at_least(FANOUT_100, CALLBOARD, NATS, (1.5, 2.2)),
    at_least(FANOUT_1000, CALLBOARD, NATS, (2.5, 5.0)),
    at_least(FANOUT_100, CALLBOARD, NATS_TCP, (1.5, 2.2)),
    at_least(FANOUT_1000, CALLBOARD, NATS_TCP, (2.5, 5.0)),
    at_least(FANOUT_100, CALLBOARD, UWEBSOCKETS, (1.7, 2.5)),
    at_least(FANOUT_1000, CALLBOARD, UWEBSOCKETS, (1.2, 1.7)),
    at_least(FANOUT_100, CALLBOARD, BARE, (0.65, 0.85)),
    at_least(FANOUT_1000, CALLBOARD, BARE, (0.6, 0.8)),
    at_least(
        "fanout, 100 subscribers, 1 in flight",
        CALLBOARD,
        BARE,
        (0.85, 0.95),
    ),
    at_least(
        "fanout, 1000 subscribers, 1 in flight",
        CALLBOARD,
        BARE,
        (0.85, 0.95),
    ),
    at_least(INGEST, CALLBOARD, JETSTREAM, (1.5, 2.5)),
    at_least(INGEST, CALLBOARD, REDIS, (1.2, 2.0)),
    at_least(
        "ingest, 4 publishers, at most once",
        "callboard, a frame a record",
        NATS_TCP,
        (0.7, 1.5),
    ),
    at_least(QUEUE, CALLBOARD, JETSTREAM, (1.7, 2.5)),
    at_least(QUEUE, CALLBOARD, REDIS, (1.1, 1.6)),
    at_least(
        "group, 4 publishers, 8 members on 8 partitions, a commit every 100, flushed",
        CALLBOARD,
        OUR_INGEST,
        (0.8, 0.95),
    ),
    at_most("latency, 1000/s, 1 subscribers, not stored", BARE, (1.3, 1.15)),
    at_most("latency, 1000/s, 10 subscribers, not stored", BARE, (1.3, 1.15)),
    at_most("latency, 1000/s, 1 subscribers, flushed", REDIS, (1.0, 0.8)),
    at_most("latency, 1000/s, 10 subscribers, flushed", REDIS, (1.0, 0.8)),
    Target {
        scenario: "idle, 5000 connections",
        ours: CALLBOARD,
        theirs: None,
        asked: Bound::AtMost(6144.0),
        aim: 3584.0,
    },
];

/// How a target stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Behind,
    Met,
    Reached,
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Self::Behind => "**behind**",
            Self::Met => "met",
            Self::Reached => "aim reached",
        }
    }
}

impl Target {
    fn verdict(&self, measured: Ratio) -> Verdict {
        if !self.asked.holds(measured.median) {
            Verdict::Behind
        } else if !self.asked.with(self.aim).holds(measured.median) {
            Verdict::Met
        } else {
            Verdict::Reached
        }
    }

    fn row(&self, measured: Ratio) -> String {
        let Ratio {
            median,
            lowest,
            highest,
        } = measured;
        let (ours, scenario) = (self.ours, self.scenario);
        let theirs = self.theirs.unwrap_or("bytes a connection");
        let asked = match self.asked {
            Bound::AtLeast(asked) => format!("at least {asked}"),
            Bound::AtMost(asked) => format!("at most {asked}"),
        };
        let measured = if self.theirs.is_some() {
            format!("{median:.2} ({lowest:.2} to {highest:.2})")
        } else {
            format!("{median:.0} ({lowest:.0} to {highest:.0})")
        };
        let (aim, verdict) = (
            self.aim,
            self.verdict(Ratio {
                median,
                lowest,
                highest,
            })
            .words(),
        );
        format!("| {scenario} | {ours} | {theirs} | {asked} | {aim} | {measured} | {verdict} |")
    }
}

/// The targets that were measured, those that are missed first, as Markdown.
pub fn table(samples: &[Sample]) -> String {
    let mut measured: Vec<_> = TARGETS
        .iter()
        .filter_map(|target| {
            let found = ratio(samples, target.scenario, target.ours, target.theirs)?;
            Some((target, found))
        })
        .collect();
    measured.sort_by_key(|(target, found)| target.verdict(*found));
    let mut text =
        "| scenario | of | to | asked | aim | measured | |\n|---|---|---|---|---|---|---|\n".to_owned();
    for (target, found) in measured {
        writeln!(text, "{}", target.row(found)).expect("a string takes all");
    }
    text
}

/// Where a peer did better though nothing was asked, as Markdown; empty if there is no such place.
///
/// The bare server is no peer: that it is ahead says nothing.
pub fn ahead_of_us(samples: &[Sample]) -> String {
    let mut rows = Vec::new();
    let ours = samples
        .iter()
        .filter(|sample| sample.target.starts_with(CALLBOARD));
    for our in ours.filter(|sample| sample.run == 0) {
        let theirs = samples.iter().filter(|sample| {
            sample.run == 0
                && sample.scenario == our.scenario
                && !sample.target.starts_with(CALLBOARD)
                && sample.target != BARE
        });
        for their in theirs {
            let (scenario, target) = (&our.scenario, &their.target);
            let Some(found) = ratio(samples, scenario, &our.target, Some(target)) else {
                continue;
            };
            let more_is_better = our.figures.per_server_cpu_s.is_some();
            let is_behind = if more_is_better {
                found.median < 1.0
            } else {
                found.median > 1.0
            };
            let is_asked = TARGETS.iter().any(|asked| {
                asked.scenario == scenario && asked.ours == our.target && asked.theirs == Some(target)
            });
            if is_behind && !is_asked {
                let Ratio {
                    median,
                    lowest,
                    highest,
                } = found;
                let ours = &our.target;
                rows.push(format!(
                    "| {scenario} | {ours} | {target} | {median:.2} ({lowest:.2} to {highest:.2}) |\n"
                ));
            }
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "| nothing was asked, and they are ahead | of | to | measured |\n|---|---|---|---|\n{}",
        rows.concat()
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use callboard_load::sample::Figures;

    use super::*;
    use crate::{catalogue::comparisons, roster::Programs};

    #[test]
    fn every_target_is_measured() {
        let there = || Some(PathBuf::from("there"));
        let programs = Programs {
            callboard: PathBuf::from("there"),
            nats_server: there(),
            redis_server: there(),
            mosquitto: there(),
            bun: there(),
        };
        let all = comparisons(&programs);
        for target in &TARGETS {
            let comparison = all
                .iter()
                .find(|comparison| comparison.scenario == target.scenario);
            for name in [Some(target.ours), target.theirs].into_iter().flatten() {
                let is_there = comparison.is_some_and(|comparison| {
                    comparison
                        .contenders
                        .iter()
                        .any(|contender| contender.name == name)
                });
                assert!(is_there, "{name} in {}", target.scenario);
            }
        }
    }

    fn of(scenario: &str, target: &str, value: f64) -> Sample {
        Sample {
            scenario: scenario.to_owned(),
            target: target.to_owned(),
            figures: Figures {
                per_server_cpu_s: Some(value),
                ..Figures::default()
            },
            ..Sample::default()
        }
    }

    #[test]
    fn peer_that_is_ahead_is_named_though_nothing_was_asked() {
        let samples = [
            of("mixed", CALLBOARD, 30.0),
            of("mixed", UWEBSOCKETS, 60.0),
            of("mixed", NATS, 20.0),
            of("mixed", BARE, 90.0),
            of(FANOUT_100, CALLBOARD, 30.0),
            of(FANOUT_100, UWEBSOCKETS, 60.0),
        ];
        let text = ahead_of_us(&samples);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            ["| mixed | callboard | uwebsockets | 0.50 (0.50 to 0.50) |"]
        );
        assert!(ahead_of_us(&samples[..1]).is_empty());
    }

    #[test]
    fn what_is_behind_comes_first() {
        let samples = [
            of(FANOUT_100, CALLBOARD, 30.0),
            of(FANOUT_100, NATS, 10.0),
            of(FANOUT_100, UWEBSOCKETS, 15.0),
            of(FANOUT_100, BARE, 60.0),
        ];
        let text = table(&samples);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(rows.len(), 3, "{text}");
        assert!(rows[0].contains("| bare |") && rows[0].ends_with("0.50 (0.50 to 0.50) | **behind** |"));
        assert!(rows[1].contains("| uwebsockets |") && rows[1].ends_with("| met |"));
        assert!(rows[2].contains(NATS) && rows[2].ends_with("| aim reached |"));
    }
}

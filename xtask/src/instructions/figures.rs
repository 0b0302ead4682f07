//! The figures that counts are held against: the file that keeps them, and what a difference means.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::shell::{Context as _, Failure};

/// A count this much over its figure, in per cent, fails; one this much under it asks for a new figure.
pub const TOLERANCE_PERCENT: u64 = 10;

/// What the file says about itself.
const HEADING: &str = "\
# Instructions that each benchmark of `benches/hot` takes, by kind of processor. CI fails when one takes 10 % more.
# Made by `cargo xtask instructions --accept`; a change of a figure belongs into the commit that brings it about.
";

/// Instructions by the benchmark's name.
pub type Figures = BTreeMap<String, u64>;

/// The figures of each kind of processor.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct File(pub BTreeMap<String, Figures>);

impl File {
    /// Reads what [`Self::text`] wrote.
    ///
    /// # Errors
    /// Names the first line that is none of it.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut file = Self::default();
        let mut section = None;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = Some(file.0.entry(name.to_owned()).or_default());
                continue;
            }
            let unreadable = || Failure::new(format!("instructions.toml: not a figure: {line}"));
            let (name, figure) = line.split_once(" = ").ok_or_else(unreadable)?;
            let figure = figure.replace('_', "").parse().context(line)?;
            let figures = section.as_deref_mut().ok_or_else(unreadable)?;
            figures.insert(name.trim_matches('"').to_owned(), figure);
        }
        Ok(file)
    }

    /// The whole file, always the same for the same figures.
    pub fn text(&self) -> String {
        let mut text = HEADING.to_owned();
        for (processor, figures) in &self.0 {
            let _ = write!(text, "\n[{processor}]\n");
            for (name, figure) in figures {
                let _ = writeln!(text, "\"{name}\" = {}", grouped(*figure));
            }
        }
        text
    }
}

/// A number with `_` between its thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

/// What a count means beside its figure.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// About the same.
    Held,
    /// So many more that it fails.
    Worse,
    /// So many fewer that the figure holds nothing any more.
    Better,
    /// The benchmark has no figure.
    New,
    /// The figure has no benchmark.
    Gone,
}

/// One benchmark, now and before.
#[derive(Debug, PartialEq, Eq)]
pub struct Compared<'a> {
    /// Its name.
    pub name: &'a str,
    /// What was counted.
    pub now: Option<u64>,
    /// What it is held against.
    pub figure: Option<u64>,
    /// What that means.
    pub verdict: Verdict,
}

impl Compared<'_> {
    /// A line of the table.
    pub fn line(&self) -> String {
        let number = |number: Option<u64>| number.map_or("none".to_owned(), grouped);
        let change = match (self.now, self.figure) {
            (Some(now), Some(figure)) => {
                format!("{:+.2} %", 100.0 * (now as f64 - figure as f64) / figure as f64)
            }
            _ => String::new(),
        };
        let (now, figure) = (number(self.now), number(self.figure));
        format!("{:<38} {now:>12} {figure:>12} {change:>10}", self.name)
    }

    /// Why it fails, if it does.
    pub fn failure(&self) -> Option<String> {
        let now = self.now.map_or("none".to_owned(), grouped);
        let figure = self.figure.map_or("none".to_owned(), grouped);
        match self.verdict {
            Verdict::Held | Verdict::Better => None,
            Verdict::Worse => Some(format!(
                "{}: {now} instructions, more than {TOLERANCE_PERCENT} % over {figure}; if that is what it costs: \
                 cargo xtask instructions --accept",
                self.name
            )),
            Verdict::New => Some(format!(
                "{}: has no figure; cargo xtask instructions --accept",
                self.name
            )),
            Verdict::Gone => Some(format!(
                "{}: has a figure and was not counted; cargo xtask instructions --accept",
                self.name
            )),
        }
    }
}

/// Holds counts against figures, by name.
pub fn compare<'a>(now: &'a Figures, figures: &'a Figures) -> Vec<Compared<'a>> {
    let mut names: Vec<&str> = now.keys().chain(figures.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let compared = names.into_iter().map(|name| {
        let (now, figure) = (now.get(name).copied(), figures.get(name).copied());
        let verdict = match (now, figure) {
            (Some(now), Some(figure)) => judge(now, figure),
            (_, None) => Verdict::New,
            (None, Some(_)) => Verdict::Gone,
        };
        Compared {
            name,
            now,
            figure,
            verdict,
        }
    });
    compared.collect()
}

fn judge(now: u64, figure: u64) -> Verdict {
    let (now, figure) = (u128::from(now) * 100, u128::from(figure));
    if now >= figure * u128::from(100 + TOLERANCE_PERCENT) {
        Verdict::Worse
    } else if now <= figure * u128::from(100 - TOLERANCE_PERCENT) {
        Verdict::Better
    } else {
        Verdict::Held
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn figures(all: &[(&str, u64)]) -> Figures {
        all.iter()
            .map(|(name, figure)| ((*name).to_owned(), *figure))
            .collect()
    }

    #[test]
    fn ten_per_cent_more_fails_and_a_little_less_does_not() {
        for (now, expected) in [
            (110_000, Verdict::Worse),
            (109_999, Verdict::Held),
            (100_000, Verdict::Held),
            (90_001, Verdict::Held),
            (90_000, Verdict::Better),
            (0, Verdict::Better),
            (u64::MAX, Verdict::Worse),
        ] {
            let (now, figure) = (figures(&[("a", now)]), figures(&[("a", 100_000)]));
            let compared = compare(&now, &figure);
            let fails = expected == Verdict::Worse;
            assert_eq!(compared[0].verdict, expected, "{now:?}");
            assert_eq!(compared[0].failure().is_some(), fails, "{now:?}");
        }
    }

    #[test]
    fn benchmark_without_a_figure_fails_and_so_does_a_figure_without_a_benchmark() {
        let (now, figures) = (figures(&[("a", 1), ("b", 2)]), figures(&[("b", 2), ("c", 3)]));
        let compared = compare(&now, &figures);
        let verdicts: Vec<_> = compared.iter().map(|each| (each.name, &each.verdict)).collect();
        assert_eq!(
            verdicts,
            [("a", &Verdict::New), ("b", &Verdict::Held), ("c", &Verdict::Gone)]
        );
        let failing = compared.iter().filter(|each| each.failure().is_some());
        assert_eq!(failing.count(), 2);
    }

    #[test]
    fn file_comes_back_as_it_was_written_and_keeps_other_processors() {
        let mut file = File::default();
        file.0
            .insert("aarch64".to_owned(), figures(&[("scan.batch", 12)]));
        file.0.insert(
            "x86_64".to_owned(),
            figures(&[("scan.batch", 1_234_567), ("scan.one", 890)]),
        );
        let text = file.text();
        assert!(text.contains("\n[x86_64]\n\"scan.batch\" = 1_234_567\n\"scan.one\" = 890\n"));
        assert_eq!(File::parse(&text).unwrap(), file);
    }

    #[test]
    fn line_that_is_no_figure_is_named() {
        for text in ["\"a\" = 1", "[x86_64]\n\"a\" = many", "[x86_64]\n\"a\""] {
            let failure = File::parse(text).unwrap_err().to_string();
            assert!(failure.contains("\"a\""), "{failure}");
        }
    }

    #[test]
    fn committed_file_can_be_read() {
        let file = File::parse(include_str!("../../../crates/instructions/instructions.toml")).unwrap();
        assert!(file.0.values().all(|figures| !figures.is_empty()));
        assert_eq!(
            file.text(),
            include_str!("../../../crates/instructions/instructions.toml")
        );
    }
}

//! Pictures of figures, as SVG text written by hand.
//!
//! Owns how a chart looks, and knows nothing of what is measured: numbers and words in, one file's text out. No
//! scripts and no fonts from elsewhere, so that a page may show it as an image; light or dark as the reader's system
//! is. Called by whoever has samples.

mod axis;
mod bars;
mod lines;
mod text;

pub use axis::Scale;
pub use bars::{Bar, BarChart, Tone};
pub use lines::{Axis, LineChart, Point, Series, figure};
use text::escaped;

/// The colours of series, in their order; each is told apart by its marker as well.
const SERIES_MAX: usize = 6;

/// The begin of a file: its size, its name for those who do not see it, and its colours.
fn head(width: f64, height: f64, title: &str) -> String {
    let title = escaped(title);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" role="img">
<title>{title}</title>
<style>
:root {{ --ground: #ffffff; --ink: #1f2430; --faint: #667085; --grid: #e3e6ec; --c0: #2563c9; --c1: #c2410c; --c2: #0f766e; --c3: #7c3aed; --c4: #a16207; --c5: #be185d; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ground: #14171c; --ink: #e6e9ef; --faint: #98a2b3; --grid: #2b313b; --c0: #7aa8ff; --c1: #ff9a62; --c2: #4fd1c0; --c3: #b99bff; --c4: #e4c04f; --c5: #ff8fc0; }} }}
.ground {{ fill: var(--ground); }} .grid {{ stroke: var(--grid); stroke-width: 1; }} .axis {{ stroke: var(--faint); stroke-width: 1; }}
text {{ font-family: system-ui, sans-serif; font-size: 12px; fill: var(--ink); }} .title {{ font-size: 15px; font-weight: 600; }} .panel {{ font-weight: 600; }} .faint {{ fill: var(--faint); }}
{series}.whisker {{ stroke: var(--ink); stroke-width: 1.5; }}
</style>
<rect class="ground" width="100%" height="100%"/>
"#,
        series = series_colours(),
    )
}

fn series_colours() -> String {
    (0..SERIES_MAX)
        .map(|place| {
            format!(
                ".f{place} {{ fill: var(--c{place}); }} .s{place} {{ stroke: var(--c{place}); stroke-width: 2; fill: none; }}\n"
            )
        })
        .collect()
}

const TAIL: &str = "</svg>\n";

#[cfg(test)]
mod tests;

//! Pictures are held to what a reader of them needs: marks where the figures are, and labels that can be told apart.

use super::{
    axis::Span,
    text::{escaped, short},
    *,
};

fn ticks(scale: Scale, values: &[f64]) -> Vec<f64> {
    Span::around(scale, values.iter().copied()).ticks()
}

#[test]
fn numbers_are_short_and_keep_their_magnitude() {
    for (number, text) in [
        (0.0, "0"),
        (0.04, "0.04"),
        (0.0004, "0.0004"),
        (1.0, "1"),
        (9.5, "9.5"),
        (950.0, "950"),
        (999.9, "1k"),
        (1_234.0, "1.23k"),
        (35_000_000.0, "35M"),
        (100_000.0, "100k"),
        (2e9, "2G"),
    ] {
        assert_eq!(short(number), text);
    }
}

#[test]
fn ticks_are_round_and_hold_every_value() {
    assert_eq!(ticks(Scale::Linear, &[3.0, 9.1]), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    assert_eq!(
        ticks(Scale::Log, &[1.0, 10_000.0]),
        [1.0, 10.0, 100.0, 1_000.0, 10_000.0]
    );
    assert_eq!(
        ticks(Scale::Log, &[0.0, 30.0]),
        [10.0, 100.0],
        "0 has no place on a log axis"
    );
    assert_eq!(ticks(Scale::Log, &[]).len(), 2, "an empty chart has axes");
    assert_eq!(ticks(Scale::Linear, &[0.0]).first(), Some(&0.0));
}

#[test]
fn places_go_from_end_to_end() {
    let span = Span::around(Scale::Log, [1.0, 100.0].into_iter());
    assert_eq!(span.place(1.0), Some(0.0));
    assert_eq!(span.place(10.0), Some(0.5));
    assert_eq!(span.place(100.0), Some(1.0));
    assert_eq!(span.place(f64::NAN), None);
}

#[test]
fn words_can_not_leave_their_element() {
    assert_eq!(escaped("a<b & \"c\"\n"), "a&lt;b &amp; &quot;c&quot; ");
    let chart = BarChart {
        title: "</title><script>".to_owned(),
        unit: "&".to_owned(),
        bars: Vec::new(),
    };
    let svg = chart.svg();
    assert!(!svg.contains("<script"), "{svg}");
    assert_eq!(svg.matches("</title>").count(), 1);
}

/// Every element that is opened is closed, and every attribute has its quotes.
fn check_elements(svg: &str) {
    let mut open = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').expect("a tag ends");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert!(!tag.contains("NaN") && !tag.contains("inf"), "{tag}");
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn bars_show_each_value_with_its_spread() {
    let bar = |label: &str, tone, value: f64, spread| Bar {
        label: label.to_owned(),
        tone,
        value,
        spread,
    };
    let chart = BarChart {
        title: "Fan-out".to_owned(),
        unit: "deliveries a second".to_owned(),
        bars: vec![
            bar("ours", Tone::Ours, 12.0, (11.0, 14.0)),
            bar("theirs", Tone::Other, 6.0, (6.0, 6.0)),
            bar("limit", Tone::Limit, 0.0, (0.0, 0.0)),
        ],
    };
    let svg = chart.svg();
    check_elements(&svg);
    for text in [">ours<", ">theirs<", ">12<", ">6<", ">0<", "deliveries a second"] {
        assert!(svg.contains(text), "{text} in {svg}");
    }
    assert_eq!(
        svg.matches("class=\"whisker\"").count(),
        1,
        "the others have no spread"
    );
}

#[test]
fn figure_has_every_series_of_every_panel() {
    let point = |x: f64, y: f64| Point {
        x,
        y,
        spread: (y * 0.9, y * 1.1),
    };
    let axis = |scale| Axis {
        title: "number".to_owned(),
        scale,
    };
    let panel = |name: &str, scale| LineChart {
        title: format!("cost of {name}"),
        x: axis(Scale::Log),
        y: axis(scale),
        series: (0..3)
            .map(|series| Series {
                name: format!("{name}-{series}"),
                points: [1.0, 10.0, 100.0]
                    .map(|x| point(x, x * f64::from(series)))
                    .to_vec(),
            })
            .collect(),
    };
    let svg = figure(
        "As it grows",
        &[
            panel("a", Scale::Linear),
            panel("b", Scale::Log),
            panel("c", Scale::Log),
        ],
    );
    check_elements(&svg);
    for name in ["a-0", "b-1", "c-2", "cost of a", "cost of c"] {
        assert!(svg.contains(&format!(">{name}<")), "{name}");
    }
    // On a log axis what is 0 is left out, and drawn nowhere.
    assert_eq!(
        svg.matches("<circle").count(),
        3 + 3,
        "points of a-0, and three in the legends"
    );
    check_elements(&figure("nothing", &[]));
}

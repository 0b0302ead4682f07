//! Words and numbers in a picture.

/// Text as it may stand in an element or an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // What XML can not say at all.
            control if control.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}

/// A number of at most three digits with its magnitude: `950`, `1.2k`, `35M`, `0.04`.
pub(super) fn short(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    let magnitudes = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    // What rounds up to the next magnitude is said in it.
    let fitting = magnitudes.iter().find(|(unit, _)| number.abs() >= unit * 0.9995);
    let (unit, letter) = fitting.copied().unwrap_or((1.0, ""));
    let scaled = number / unit;
    let digits = match scaled.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{letter}")
}

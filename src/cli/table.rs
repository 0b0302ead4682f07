//! Text in columns, for a person; the same tables as those of the load.

pub(crate) use callboard_load::table::{Table, bytes, thousands};

/// A time that has passed in the unit that a person would choose, as `4.1 s`; `-` for none.
pub fn age(milliseconds: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let seconds = milliseconds as f64 / 1000.0;
    match milliseconds {
        0 => "-".to_owned(),
        1..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{seconds:.1} s"),
        60_000..3_600_000 => format!("{:.1} min", seconds / 60.0),
        3_600_000..86_400_000 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} d", seconds / 86400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(
            [0, 7, 4100, 90_000, 5_400_000, 129_600_000].map(age),
            ["-", "7 ms", "4.1 s", "1.5 min", "1.5 h", "1.5 d"]
        );
    }
}

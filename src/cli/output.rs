//! What a command prints of an answer: for a program the JSON that came, for a person a table or a few lines.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{Failure, api::unreadable, table::Table};

/// Prints a list that is the field `name` of `answer`: on a terminal a row an entry, elsewhere a line of JSON.
///
/// # Errors
/// [`Failure`] if the answer is no such list, or if nobody reads what is printed.
pub(super) fn list<T: DeserializeOwned>(
    answer: &str,
    name: &str,
    headline: &[&str],
    mut row: impl FnMut(T) -> Vec<String>,
) -> Result<(), Failure> {
    let entries = entries(answer, name)?;
    let mut output = io::stdout().lock();
    if !output.is_terminal() {
        for entry in entries {
            writeln!(output, "{}", one_line(entry.get()))?;
        }
        return Ok(());
    }
    let mut table = Table::new(headline);
    for entry in entries {
        table.row(row(read(entry.get())?));
    }
    write!(output, "{table}")?;
    Ok(())
}

/// Prints one answer: on a terminal what `text` makes of it, elsewhere the JSON on one line.
///
/// # Errors
/// [`Failure`] if the answer is not what is expected, or if nobody reads what is printed.
pub(super) fn show<T: DeserializeOwned>(
    answer: &str,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    if !output.is_terminal() {
        writeln!(output, "{}", one_line(answer.trim_end()))?;
        return Ok(());
    }
    write!(output, "{}", text(&read(answer)?))?;
    Ok(())
}

/// The entries of a list that is the field `name` of `answer`, each as the text that came.
///
/// # Errors
/// [`Failure`] if there is no such list.
pub(super) fn entries<'a>(answer: &'a str, name: &str) -> Result<Vec<&'a RawValue>, Failure> {
    let fields: BTreeMap<Cow<'a, str>, &'a RawValue> = read_borrowed(answer)?;
    fields.get(name).map_or_else(
        || {
            Err(Failure::new(format!(
                "the server's answer has no {name}; is it a Callboard of this version?"
            )))
        },
        |list| read_borrowed(list.get()),
    )
}

/// Reads what came.
///
/// # Errors
/// [`Failure`] if it is something else.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    read_borrowed(text)
}

fn read_borrowed<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| unreadable(&error))
}

/// Line breaks stand between tokens only, in JSON.
fn one_line(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_the_text_that_they_are() {
        let answer = r#"{"total":2,"topics":[{"a": 1.10},[]],"next":"x"}"#;
        let found: Vec<&str> = entries(answer, "topics")
            .unwrap()
            .into_iter()
            .map(RawValue::get)
            .collect();
        assert_eq!(found, [r#"{"a": 1.10}"#, "[]"]);
        for (answer, name) in [(answer, "groups"), (answer, "total"), ("nonsense", "topics")] {
            assert!(entries(answer, name).is_err(), "{name}");
        }
    }
}

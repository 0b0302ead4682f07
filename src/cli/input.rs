//! Where the records of `pub` come from: lines, a CSV table or a JSON array, one JSON text each.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use callboard_protocol::{
    json::{self, JsonError, Scanner},
    limits::FRAME_BYTES_MAX,
};

use super::{Failure, json_array::Elements};

/// How much is read from a file at once, bytes.
const READ_BYTES: usize = 256 << 10;

/// One record of the input, or why it is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where it begins, from 1.
    pub(crate) line: u64,
    /// Its JSON text, or a sentence about what is wrong with it.
    pub(crate) json: Result<String, String>,
}

/// How records are written in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One JSON value a line.
    Lines(PathBuf),
    /// A header row and a record a row.
    Csv(PathBuf),
    /// One JSON array.
    Array(PathBuf),
}

impl Format {
    fn path(&self) -> &Path {
        match self {
            Self::Lines(path) | Self::Csv(path) | Self::Array(path) => path,
        }
    }
}

/// A file that is being read.
pub(crate) struct Source {
    reader: Box<dyn BufRead + Send>,
    format: Format,
    /// Its length, if it is a file; bytes.
    pub(crate) bytes_total: Option<u64>,
    /// How much of it was read, bytes.
    pub(crate) bytes_read: Arc<AtomicU64>,
}

struct Counting<R> {
    inner: R,
    bytes_read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes_read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Source {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// [`Failure`] names the file.
    pub(crate) fn open(format: Format) -> Result<Self, Failure> {
        let path = format.path();
        let bytes_read = Arc::new(AtomicU64::new(0));
        let (inner, bytes_total): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let cannot = |error: io::Error| Failure::new(format!("cannot read {}: {error}", path.display()));
            let file = File::open(path).map_err(cannot)?;
            let metadata = file.metadata().map_err(cannot)?;
            if metadata.is_dir() {
                return Err(Failure::new(format!("{} is a directory", path.display())));
            }
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        };
        let counting = Counting {
            inner,
            bytes_read: Arc::clone(&bytes_read),
        };
        Ok(Self {
            reader: Box::new(BufReader::with_capacity(READ_BYTES, counting)),
            format,
            bytes_total,
            bytes_read,
        })
    }

    /// Its records one by one; an error ends them.
    pub(crate) fn rows(self) -> Box<dyn Iterator<Item = Result<Row, String>> + Send> {
        match self.format {
            Format::Lines(_) => Box::new(lines(self.reader)),
            Format::Csv(_) => Box::new(table(self.reader)),
            Format::Array(_) => Box::new(array(self.reader)),
        }
    }
}

fn lines(mut reader: impl BufRead) -> impl Iterator<Item = Result<Row, String>> {
    let mut line = 0;
    let mut buffer = Vec::new();
    std::iter::from_fn(move || {
        loop {
            buffer.clear();
            line += 1;
            // One byte above the limit tells a line that is too long from one that just fits.
            let mut limited = (&mut reader).take(FRAME_BYTES_MAX as u64 + 1);
            match limited.read_until(b'\n', &mut buffer) {
                Ok(0) => return None,
                Ok(_) if buffer.len() > FRAME_BYTES_MAX && !buffer.ends_with(b"\n") => {
                    return Some(Err(format!("line {line}: longer than {FRAME_BYTES_MAX} bytes")));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(format!("line {line}: {error}"))),
            }
            let text = buffer
                .strip_prefix("\u{feff}".as_bytes())
                .filter(|_| line == 1)
                .unwrap_or(&buffer);
            if !text.trim_ascii().is_empty() {
                let json = checked(text);
                return Some(Ok(Row { line, json }));
            }
        }
    })
}

fn array(reader: impl BufRead) -> impl Iterator<Item = Result<Row, String>> {
    Elements::new(reader, FRAME_BYTES_MAX).map(|element| {
        let (line, bytes) = element.map_err(|error| error.to_string())?;
        let json = checked(&bytes);
        Ok(Row { line, json })
    })
}

fn checked(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    json::check(text)
        .map(Cow::into_owned)
        .map_err(|error| error.to_string())
}

fn table(reader: impl BufRead) -> impl Iterator<Item = Result<Row, String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(true).from_reader(reader);
    let headline = reader
        .byte_headers()
        .map_err(|error| format!("line 1: {error}"))
        .and_then(names);
    let mut rows = reader.into_byte_records();
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let names = match &headline {
            Ok(names) => names,
            Err(error) => {
                failed = true;
                return Some(Err(error.clone()));
            }
        };
        let row = match rows.next()? {
            Ok(record) => Row {
                line: record.position().map_or(0, csv::Position::line),
                json: object(names, &record),
            },
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                if !matches!(error.kind(), csv::ErrorKind::UnequalLengths { .. }) {
                    failed = true;
                    return Some(Err(format!("line {line}: {error}")));
                }
                let json = Err(format!("not as many fields as the {} of the header", names.len()));
                Row { line, json }
            }
        };
        Some(Ok(row))
    })
}

/// The header as JSON strings with the colon behind them.
fn names(headline: &csv::ByteRecord) -> Result<Vec<Vec<u8>>, String> {
    let name = |field: &[u8]| {
        let field = field.strip_prefix("\u{feff}".as_bytes()).unwrap_or(field);
        let text = std::str::from_utf8(field).map_err(|_| "line 1: the header is not UTF-8".to_owned())?;
        let mut name = Vec::new();
        json::push_text(&mut name, text);
        name.push(b':');
        Ok(name)
    };
    headline.iter().map(name).collect()
}

fn object(names: &[Vec<u8>], record: &csv::ByteRecord) -> Result<String, String> {
    let mut object = vec![b'{'];
    for (name, field) in names.iter().zip(record) {
        if object.len() > 1 {
            object.push(b',');
        }
        object.extend_from_slice(name);
        let text = std::str::from_utf8(field).map_err(|_| "not UTF-8".to_owned())?;
        if text.is_empty() {
            object.extend_from_slice(b"null");
        } else if is_number(text) {
            object.extend_from_slice(field);
        } else {
            json::push_text(&mut object, text);
        }
    }
    object.push(b'}');
    Ok(String::from_utf8(object).expect("it is made of UTF-8 texts"))
}

/// Whether `text` is a number in JSON's own spelling: `007` and `+1` are not, and stay strings.
fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_digit())
        && json::check(text).is_ok()
}

/// The value of one field of the object `text`, as the text of a key: strings without their quotes,
/// numbers as written, `None` for `null`.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn field(text: &str, name: &str) -> Result<Option<String>, String> {
    let mut found: Option<&str> = None;
    let walked: Result<(), JsonError> = Scanner::new(text).object(|scanner, key| {
        let value = scanner.value()?;
        let is_match = if key.contains('\\') {
            json::as_text(&format!("\"{key}\"")).is_some_and(|key| key == name)
        } else {
            key == name
        };
        if is_match {
            found = Some(value);
        }
        Ok(())
    });
    walked.map_err(|_| format!("not an object, so it has no field {name}"))?;
    match found {
        None => Err(format!("no field {name}")),
        Some("null") => Ok(None),
        Some(value) if value.starts_with('"') => match json::as_text(value) {
            Some(text) => Ok(Some(text.into_owned())),
            None => Err(format!("field {name} is not valid Unicode")),
        },
        Some(value) if value.starts_with(['{', '[']) => Err(format!("field {name} is not a plain value")),
        Some(value) => Ok(Some(value.to_owned())),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn texts(rows: impl Iterator<Item = Result<Row, String>>) -> Vec<(u64, Result<String, String>)> {
        rows.map(|row| row.unwrap())
            .map(|row| (row.line, row.json))
            .collect()
    }

    #[test]
    fn csv_row_becomes_an_object_with_its_numbers_byte_for_byte() {
        let csv = "symbol,date,price,\"the \"\"note\"\"\"\nMSFT,Jan 1 2000,39.810,\n\"A,B\",007,-1e5,\"two\nlines\"\nX,999999996000000004,+1,1.\n";
        let expected = [
            (
                2,
                r#"{"symbol":"MSFT","date":"Jan 1 2000","price":39.810,"the \"note\"":null}"#,
            ),
            (
                3,
                r#"{"symbol":"A,B","date":"007","price":-1e5,"the \"note\"":"two\nlines"}"#,
            ),
            (
                5,
                r#"{"symbol":"X","date":999999996000000004,"price":"+1","the \"note\"":"1."}"#,
            ),
        ];
        assert_eq!(
            texts(table(csv.as_bytes())),
            expected.map(|(line, json)| (line, Ok(json.to_owned())))
        );
    }

    #[test]
    fn csv_row_of_another_length_is_reported_with_its_line_and_the_rest_goes_on() {
        let rows = texts(table("a,b\n1,2\n3\n4,5\n".as_bytes()));
        assert_eq!(
            rows.iter()
                .map(|(line, json)| (*line, json.is_ok()))
                .collect::<Vec<_>>(),
            [(2, true), (3, false), (4, true)]
        );
    }

    #[test]
    fn lines_keep_their_bytes_and_bad_ones_are_reported() {
        let rows = texts(lines(
            "\u{feff}{\"a\": 1.10}\n\n 999999996000000004 \r\n{oops\n\"end\"".as_bytes(),
        ));
        let good = |line, text: &str| (line, Ok(text.to_owned()));
        assert_eq!(rows[0], good(1, r#"{"a": 1.10}"#));
        assert_eq!(rows[1], good(3, "999999996000000004"));
        assert!(matches!(&rows[2], (4, Err(_))));
        assert_eq!(rows[3], good(5, "\"end\""));
    }

    #[test]
    fn line_without_end_is_not_read_into_memory() {
        let mut rows = lines(BufReader::new(io::repeat(b'x')));
        assert!(rows.next().unwrap().is_err());
    }

    #[test]
    fn key_is_the_text_of_a_field() {
        let text = r#"{"s":"a\u0041","n":1.10,"z":null,"o":{},"k\u0065y":"v"}"#;
        assert_eq!(field(text, "s"), Ok(Some("aA".to_owned())));
        assert_eq!(field(text, "n"), Ok(Some("1.10".to_owned())));
        assert_eq!(field(text, "z"), Ok(None));
        assert_eq!(field(text, "key"), Ok(Some("v".to_owned())));
        assert!(field(text, "o").is_err());
        assert!(field(text, "none").is_err());
        assert!(field("[1]", "s").is_err());
    }
}

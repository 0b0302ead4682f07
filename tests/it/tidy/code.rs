//! Rust text with what is not code blanked out, and what must not stand in it.

use std::collections::BTreeSet;

use super::{Violation, violation};

/// Calls that end a thread where a refusal belongs, and attributes that hide a warning for good.
const FORBIDDEN: [(&str, &str); 6] = [
    (".unwrap()", "unwrap outside tests: expect states the invariant"),
    ("todo!(", "todo! is no feature"),
    ("unimplemented!(", "unimplemented! is no feature"),
    ("dbg!(", "dbg! was left behind"),
    ("#[allow(", "allow hides a warning for good: expect with a reason"),
    (
        "#![allow(",
        "allow hides a warning for good: expect with a reason",
    ),
];

/// Rust text of the same length and lines, with comments, strings and characters blanked out.
pub struct Source(Vec<u8>);

impl Source {
    /// Blanks out what is not code.
    pub fn new(text: &str) -> Self {
        let mut code = text.as_bytes().to_vec();
        let mut at = 0;
        while at < code.len() {
            let end = skipped_end(text.as_bytes(), at);
            if end > at {
                blank(&mut code[at..end]);
                at = end;
            } else {
                at += 1;
            }
        }
        Self(code)
    }

    /// Blanks out the items that are compiled for tests only.
    pub fn without_tests(mut self) -> Self {
        const MARK: &[u8] = b"#[cfg(test)]";
        while let Some(start) = find(&self.0, MARK, 0) {
            let end = item_end(&self.0, start + MARK.len());
            blank(&mut self.0[start..end]);
        }
        self
    }

    /// Each occurrence of `word` that is not the end of a longer name: place and line.
    pub fn places(&self, word: &str) -> Vec<(usize, usize)> {
        let mut places = Vec::new();
        let mut at = 0;
        while let Some(place) = find(&self.0, word.as_bytes(), at) {
            at = place + 1;
            let continues = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            let is_name = word.as_bytes().first().is_some_and(|byte| continues(*byte));
            if !(is_name && place > 0 && continues(self.0[place - 1])) {
                places.push((place, self.line(place)));
            }
        }
        places
    }

    /// The line of a place, from 1.
    pub fn line(&self, place: usize) -> usize {
        1 + self.0[..place].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// The code from a place on.
    pub fn rest(&self, place: usize) -> &[u8] {
        &self.0[place..]
    }
}

fn blank(code: &mut [u8]) {
    for byte in code.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

fn find(text: &[u8], word: &[u8], from: usize) -> Option<usize> {
    text.get(from..)?
        .windows(word.len())
        .position(|window| window == word)
        .map(|place| from + place)
}

/// The end of the comment, string or character that begins at `at`; `at` itself if none does.
fn skipped_end(text: &[u8], at: usize) -> usize {
    let rest = &text[at..];
    let after_name = at > 0 && (text[at - 1].is_ascii_alphanumeric() || text[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => find(text, b"\n", at).unwrap_or(text.len()),
        [b'/', b'*', ..] => block_comment_end(text, at),
        [b'"', ..] => quoted_end(text, at),
        [b'r', b'"' | b'#', ..] if !after_name || text[at - 1] == b'b' => raw_string_end(text, at),
        [b'\'', b'\\', ..] => find(text, b"'", at + 3).map_or(text.len(), |end| end + 1),
        // A lifetime has no quote after its first character.
        [b'\'', first, ..] if *first < 0x80 && rest.get(2) == Some(&b'\'') => at + 3,
        [b'\'', first, ..] if *first >= 0x80 => find(text, b"'", at + 1).map_or(text.len(), |end| end + 1),
        _ => at,
    }
}

fn block_comment_end(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while at < text.len() {
        match &text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn quoted_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn raw_string_end(text: &[u8], at: usize) -> usize {
    let hashes = text[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    if text.get(at + 1 + hashes) != Some(&b'"') {
        return at; // A raw identifier.
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    find(text, &close, at + hashes + 2).map_or(text.len(), |end| end + close.len())
}

/// The end of the item that follows `at`: its block, or its semicolon.
fn item_end(code: &[u8], at: usize) -> usize {
    let mut depth = 0;
    for (place, byte) in code.iter().enumerate().skip(at) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth -= 1;
                if depth == 0 && *byte == b'}' {
                    return place + 1;
                }
            }
            b';' if depth == 0 => return place + 1,
            _ => {}
        }
    }
    code.len()
}

/// Finds what must not stand outside tests.
pub fn forbidden(path: &str, code: &Source, found: &mut Vec<Violation>) {
    // A call may be broken over lines and spaced as it likes.
    for (place, _) in code.places(".unwrap") {
        let call: Vec<u8> = code
            .rest(place)
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .take(9)
            .collect();
        if call == FORBIDDEN[0].0.as_bytes() {
            found.push(violation(path, code.line(place), FORBIDDEN[0].1));
        }
    }
    for (word, why) in &FORBIDDEN[1..] {
        for (_, line) in code.places(word) {
            found.push(violation(path, line, *why));
        }
    }
}

/// The paths, without `.rs`, of modules that their parent compiles for tests only.
pub fn test_modules(files: &[(String, String)]) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let stem = path.trim_end_matches(".rs");
        let folder = match stem.rsplit_once('/') {
            Some((folder, "mod" | "lib" | "main")) => folder,
            _ => stem,
        };
        let (code, without) = (Source::new(text), Source::new(text).without_tests());
        for (place, _) in code
            .places("mod ")
            .into_iter()
            .filter(|(place, _)| without.0[*place] == b' ')
        {
            let name: Vec<u8> = code
                .rest(place + 4)
                .iter()
                .copied()
                .take_while(|byte| !b"; {".contains(byte))
                .collect();
            if code.rest(place + 4 + name.len()).first() == Some(&b';') {
                modules.insert(format!("{folder}/{}", String::from_utf8_lossy(&name)));
            }
        }
    }
    modules
}

/// Whether the file is compiled for tests only.
pub fn is_test(path: &str, modules: &BTreeSet<String>) -> bool {
    let is_inside = |module: &String| {
        path.strip_prefix(module.as_str())
            .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    path.starts_with("tests/")
        || (path.starts_with("crates/") && path.contains("/tests/") && !path.contains("/src/"))
        || modules.iter().any(is_inside)
}

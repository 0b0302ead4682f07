//! Which room may import which.

use super::{Violation, code::Source, violation};

/// A room and what its code may name.
struct Room {
    /// Its folder.
    folder: &'static str,
    /// Rooms of the package `callboard`.
    rooms: &'static [&'static str],
    /// The workspace's crates.
    crates: &'static [&'static str],
    /// Paths that it must not name, whoever offers them.
    never: &'static [&'static str],
}

/// What would bring a clock, a thread, a file or a socket into a crate that decides.
const EFFECTS: &[&str] = &[
    "tokio",
    "actix",
    "actix_web",
    "actix_rt",
    "futures_util",
    "mio",
    "libc",
    "rand",
    "uuid",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::io",
    "std::time::Instant",
    "std::time::SystemTime",
];
const ACTIX: &[&str] = &["actix", "actix_web", "actix_http", "actix_rt", "actix_server"];

const ROOMS: [Room; 9] = [
    Room {
        folder: "crates/protocol/src/",
        rooms: &["*"],
        crates: &[],
        never: EFFECTS,
    },
    Room {
        folder: "crates/core/src/",
        rooms: &["*"],
        crates: &["protocol"],
        never: EFFECTS,
    },
    Room {
        folder: "crates/client/src/",
        rooms: &["*"],
        crates: &["protocol"],
        never: ACTIX,
    },
    Room {
        folder: "crates/load/src/",
        rooms: &["*"],
        crates: &["load"],
        never: ACTIX,
    },
    Room {
        folder: "crates/peers/src/",
        rooms: &["*"],
        crates: &["load"],
        never: ACTIX,
    },
    Room {
        folder: "src/store/",
        rooms: &["store"],
        crates: &["core", "protocol"],
        never: ACTIX,
    },
    Room {
        folder: "src/actors/",
        rooms: &["actors", "store"],
        crates: &["core", "protocol"],
        never: &["actix_web"],
    },
    Room {
        folder: "src/web/",
        rooms: &["web", "actors"],
        crates: &["protocol"],
        never: &[],
    },
    Room {
        folder: "src/cli/",
        rooms: &["cli", "config", "serve"],
        crates: &["client", "load", "protocol"],
        never: &["actix_web"],
    },
];

/// A crate and all that it may depend on: what is added here, every user of the crate gets.
const DEPENDENCIES: [(&str, &[&str]); 4] = [
    (
        "crates/protocol/Cargo.toml",
        &["base64", "itoa", "serde", "serde_json", "thiserror"],
    ),
    (
        "crates/core/Cargo.toml",
        &[
            "bytes",
            "callboard-protocol",
            "crc32c",
            "serde",
            "serde_json",
            "thiserror",
        ],
    ),
    (
        "crates/client/Cargo.toml",
        &[
            "base64",
            "bytes",
            "callboard-protocol",
            "futures-core",
            "futures-util",
            "log",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tokio-tungstenite",
        ],
    ),
    (
        "crates/load/Cargo.toml",
        &[
            "base64",
            "clap",
            "hdrhistogram",
            "libc",
            "memchr",
            "mio",
            "serde",
            "serde_json",
            "sha1",
            "socket2",
        ],
    ),
];

/// Finds imports that the table of rooms does not have.
pub fn imports(path: &str, code: &Source, found: &mut Vec<Violation>) {
    let Some(room) = ROOMS.iter().find(|room| path.starts_with(room.folder)) else {
        return;
    };
    // The binary's rooms know the library's by the package's name.
    let is_in_package = !room.rooms.contains(&"*");
    for root in ["crate::", "callboard::"].into_iter().filter(|_| is_in_package) {
        for (place, _) in code.places(root) {
            for (name, at) in names(code, place + root.len()) {
                let is_room = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
                if is_room && !room.rooms.contains(&name.as_str()) {
                    let what = format!("{} must not know of {root}{name}", room.folder);
                    found.push(violation(path, code.line(at), what));
                }
            }
        }
    }
    for (place, line) in code.places("callboard") {
        let name = name_at(code, place);
        let is_path = code.rest(place + name.len()).starts_with(b"::");
        let is_own = is_in_package && name == "callboard";
        let part = name.strip_prefix("callboard_").unwrap_or_default();
        if is_path && !is_own && !room.crates.contains(&part) {
            found.push(violation(
                path,
                line,
                format!("{} must not know of {name}", room.folder),
            ));
        }
    }
    for banned in room.never {
        let (head, rest) = banned.split_once("::").unwrap_or((banned, ""));
        for (place, _) in code.places(&format!("{head}::")) {
            let lines = below(code, place + head.len() + 2, rest);
            found.extend(
                lines
                    .into_iter()
                    .map(|line| violation(path, line, format!("{banned} has no place here"))),
            );
        }
    }
}

/// The lines at which the path `rest` (all of them if it is empty) follows the `::` before `place`.
fn below(code: &Source, place: usize, rest: &str) -> Vec<usize> {
    if rest.is_empty() {
        return vec![code.line(place)];
    }
    let (first, further) = rest.split_once("::").unwrap_or((rest, ""));
    let mut lines = Vec::new();
    for (name, at) in names(code, place) {
        if name == first {
            let behind = at + name.len();
            if further.is_empty() {
                lines.push(code.line(at));
            } else if code.rest(behind).starts_with(b"::") {
                lines.extend(below(code, behind + 2, further));
            }
        }
    }
    lines
}

fn name_at(code: &Source, place: usize) -> String {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let name: Vec<u8> = code.rest(place).iter().copied().take_while(is_name).collect();
    String::from_utf8(name).expect("names found here are ASCII")
}

/// The first names that follow a `::`: one, or those of a group in braces; with their places.
fn names(code: &Source, place: usize) -> Vec<(String, usize)> {
    if code.rest(place).first() != Some(&b'{') {
        return vec![(name_at(code, place), place)];
    }
    let mut names = Vec::new();
    let (mut depth, mut begins) = (0, true);
    for (index, byte) in code.rest(place).iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => break,
            b'}' => depth -= 1,
            b',' if depth == 1 => begins = true,
            byte if begins && depth == 1 && !byte.is_ascii_whitespace() => {
                names.push((name_at(code, place + index), place + index));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

/// Finds dependencies that a crate's list does not have.
pub fn dependencies(path: &str, text: &str, found: &mut Vec<Violation>) {
    let Some((_, allowed)) = DEPENDENCIES.iter().find(|(crate_path, _)| *crate_path == path) else {
        return;
    };
    let mut is_list = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let name = if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']').trim_start_matches("target.");
            let (_, kind) = section
                .rsplit_once(".dependencies")
                .map_or(("", section), |_| ("", "dependencies"));
            is_list = kind == "dependencies";
            match section.split_once("dependencies.") {
                Some(("", name)) => name,
                _ => continue,
            }
        } else if is_list && !line.is_empty() && !line.starts_with('#') {
            line.split(['=', '.', ' ']).next().unwrap_or_default()
        } else {
            continue;
        };
        if !allowed.contains(&name.trim_matches('"')) {
            found.push(violation(
                path,
                index + 1,
                format!("{name} is not on this crate's list of dependencies"),
            ));
        }
    }
}

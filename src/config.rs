//! Every setting of the broker: its name, unit, default and limit.
//!
//! A setting has one name in three spellings: `--session-timeout-ms` on the command line,
//! `CALLBOARD_SESSION_TIMEOUT_MS` in the environment and `session_timeout_ms` in the file. The command
//! line wins over the environment, the environment over the file, the file over the default.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use callboard_protocol::limits;
use clap::Args;
use serde::Deserialize;

/// Where the broker listens unless told otherwise: only this machine reaches it.
const LISTEN: &str = "127.0.0.1:8080";
/// Where the journal lives unless told otherwise.
/// Time for whoever was cut off by a restart to come back.
const TEMPORARY_GRACE_MS: u64 = 60_000;
const DATA: &str = "./callboard-data";
/// Shortest heartbeat, milliseconds: below it Pings are the load.
const HEARTBEAT_MS_MIN: u64 = 100;
/// Shortest time in which a member's socket must take something.
const MEMBER_TIMEOUT_MS_MIN: u64 = 100;
/// A file of the journal: what is read again at a start, and about what is kept in memory for it.
const JOURNAL_FILE_BYTES: u64 = 64 << 20;
const JOURNAL_FILE_BYTES_MIN: u64 = 64 << 10;
const JOURNAL_FILE_BYTES_MAX: u64 = 4 << 30;
/// Most worker threads.
const WORKERS_MAX: usize = 256;

/// Why the settings cannot be used; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration file {path} is wrong:\n{reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What and where.
        reason: toml::de::Error,
    },
    /// A value is not allowed.
    #[error("{name}: {reason}")]
    Value {
        /// The setting as on the command line.
        name: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
}

/// The options of `callboard serve`.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeArgs {
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "CALLBOARD_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<String>,

    /// Directory of the journal [default: ./callboard-data]
    #[arg(long, env = "CALLBOARD_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Where records are kept: `journal` (on disk) or `memory` (gone with the process) [default: journal]
    #[arg(long, env = "CALLBOARD_STORE", value_name = "STORE")]
    pub store: Option<String>,

    /// Answer `topic_not_found` instead of creating a topic at its first publish or subscribe
    #[arg(
        long,
        env = "CALLBOARD_NO_AUTO_CREATE",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    pub no_auto_create: Option<bool>,

    /// Let pages of this origin connect, as `https://shop.example`; repeat it or separate by commas
    #[arg(
        long,
        env = "CALLBOARD_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub allow_origin: Option<Vec<String>>,

    /// Let webhooks and notices go to addresses that are not public, as this machine and its network
    #[arg(
        long,
        env = "CALLBOARD_WEBHOOK_ALLOW_PRIVATE",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    pub webhook_allow_private: Option<bool>,

    /// Make live traffic to look at
    #[arg(
        long,
        env = "CALLBOARD_DEMO",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    pub demo: Option<bool>,

    /// Quiet time after which a connection gets a Ping [default: 15000]
    #[arg(long, env = "CALLBOARD_HEARTBEAT_MS", value_name = "MS")]
    pub heartbeat_ms: Option<u64>,

    /// Silence after which a connection is dropped [default: 120000]
    #[arg(long, env = "CALLBOARD_SESSION_TIMEOUT_MS", value_name = "MS")]
    pub session_timeout_ms: Option<u64>,

    /// A group's member whose socket takes nothing for so long is out of its groups [default: 30000]
    #[arg(
        long,
        env = "CALLBOARD_MEMBER_TIMEOUT_MS",
        value_name = "MS",
        hide_short_help = true
    )]
    pub member_timeout_ms: Option<u64>,

    /// How long the partitions of a named member wait for it to come back [default: 5000]
    #[arg(
        long,
        env = "CALLBOARD_REJOIN_GRACE_MS",
        value_name = "MS",
        hide_short_help = true
    )]
    pub rejoin_grace_ms: Option<u64>,

    /// How long a member may commit what it was given of a partition that it loses [default: 1000]
    #[arg(
        long,
        env = "CALLBOARD_REVOKE_GRACE_MS",
        value_name = "MS",
        hide_short_help = true
    )]
    pub revoke_grace_ms: Option<u64>,

    /// How long a temporary topic waits for a subscriber after a restart [default: 60000]
    #[arg(
        long,
        env = "CALLBOARD_TEMPORARY_GRACE_MS",
        value_name = "MS",
        hide_short_help = true
    )]
    pub temporary_grace_ms: Option<u64>,

    /// Threads that serve connections [default: one per core]
    #[arg(long, env = "CALLBOARD_WORKERS", value_name = "COUNT")]
    pub workers: Option<usize>,

    /// Size at which a file of the journal is laid down into segments [default: 67108864]
    #[arg(
        long,
        env = "CALLBOARD_JOURNAL_FILE_BYTES",
        value_name = "BYTES",
        hide_short_help = true
    )]
    pub journal_file_bytes: Option<u64>,

    /// TOML file with these settings, as `session_timeout_ms = 60000`
    #[arg(long, env = "CALLBOARD_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
}

/// Where records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In the process; everything is gone with it.
    Memory,
    /// In an append-only journal on disk.
    Journal,
}

/// What happens to a publish or a subscribe to a topic that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCreate {
    /// The topic is created with the defaults.
    On,
    /// It is refused with `topic_not_found`.
    Off,
}

/// Whether the broker calls addresses that are not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrivateWebhooks {
    /// It does.
    Allowed,
    /// It refuses them.
    Refused,
}

/// Whether the broker makes traffic of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demo {
    /// It does.
    On,
    /// It does not.
    Off,
}

/// Every setting of a broker, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Directory of the journal; not used by [`StoreKind::Memory`].
    pub data: PathBuf,
    /// Where records are kept.
    pub store: StoreKind,
    /// What happens to topics that do not exist.
    pub auto_create: AutoCreate,
    /// Origins whose pages may connect, as a browser sends them.
    pub allow_origin: Vec<String>,
    /// Whether webhooks and notices may go to addresses that are not public.
    pub private_webhooks: PrivateWebhooks,
    /// Whether to make traffic to look at.
    pub demo: Demo,
    /// Quiet time after which a connection gets a Ping.
    pub heartbeat: Duration,
    /// Silence after which a connection is dropped.
    pub session_timeout: Duration,
    /// A group's member whose socket takes nothing for so long is out.
    pub member_timeout: Duration,
    /// How long the partitions of a named member wait for it to come back.
    pub rejoin_grace: Duration,
    /// How long a member may commit what it was given of a partition that it loses.
    pub revoke_grace: Duration,
    /// How long a temporary topic waits for a subscriber after a restart.
    pub temporary_grace: Duration,
    /// Threads that serve connections.
    pub workers: NonZeroUsize,
    /// Size at which a file of the journal is laid down into segments, bytes.
    pub journal_file_bytes: u64,
}

impl ServeConfig {
    /// Checks what was asked and fills in the rest from the file and the defaults.
    ///
    /// # Errors
    /// Each variant of [`ConfigError`]; its text names the setting.
    pub fn resolve(args: ServeArgs) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => ServeArgs::default(),
        };
        let listen = args.listen.or(file.listen);
        let heartbeat_ms = args
            .heartbeat_ms
            .or(file.heartbeat_ms)
            .unwrap_or(limits::HEARTBEAT_MS);
        let session_timeout_ms = args
            .session_timeout_ms
            .or(file.session_timeout_ms)
            .unwrap_or(limits::SESSION_TIMEOUT_MS);
        check_times(heartbeat_ms, session_timeout_ms)?;
        Ok(Self {
            listen: parse_listen(listen.as_deref().unwrap_or(LISTEN))?,
            data: args.data.or(file.data).unwrap_or_else(|| PathBuf::from(DATA)),
            store: parse_store(args.store.or(file.store).as_deref().unwrap_or("journal"))?,
            auto_create: match args.no_auto_create.or(file.no_auto_create) {
                Some(true) => AutoCreate::Off,
                Some(false) | None => AutoCreate::On,
            },
            allow_origin: parse_origins(args.allow_origin.or(file.allow_origin).unwrap_or_default())?,
            private_webhooks: match args.webhook_allow_private.or(file.webhook_allow_private) {
                Some(true) => PrivateWebhooks::Allowed,
                Some(false) | None => PrivateWebhooks::Refused,
            },
            demo: match args.demo.or(file.demo) {
                Some(true) => Demo::On,
                Some(false) | None => Demo::Off,
            },
            heartbeat: Duration::from_millis(heartbeat_ms),
            session_timeout: Duration::from_millis(session_timeout_ms),
            member_timeout: parse_member_timeout(args.member_timeout_ms.or(file.member_timeout_ms))?,
            rejoin_grace: grace(
                args.rejoin_grace_ms.or(file.rejoin_grace_ms),
                limits::REJOIN_GRACE_MS,
            ),
            revoke_grace: grace(
                args.revoke_grace_ms.or(file.revoke_grace_ms),
                limits::REVOKE_GRACE_MS,
            ),
            temporary_grace: grace(
                args.temporary_grace_ms.or(file.temporary_grace_ms),
                TEMPORARY_GRACE_MS,
            ),
            workers: parse_workers(args.workers.or(file.workers))?,
            journal_file_bytes: parse_journal_file(args.journal_file_bytes.or(file.journal_file_bytes))?,
        })
    }
}

fn read_file(path: &Path) -> Result<ServeArgs, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|reason| ConfigError::Unreadable {
        path: path.to_owned(),
        reason,
    })?;
    toml::from_str(&text).map_err(|reason| ConfigError::Malformed {
        path: path.to_owned(),
        reason,
    })
}

fn wrong(name: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        name,
        reason: reason.into(),
    }
}

fn parse_listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let found = text.to_socket_addrs().map(|mut addresses| addresses.next());
    match found {
        Ok(Some(address)) => Ok(address),
        Ok(None) | Err(_) => Err(wrong(
            "--listen",
            format!("{text} is not an address of this machine with a port, as 127.0.0.1:8080 or [::1]:8080"),
        )),
    }
}

fn parse_store(text: &str) -> Result<StoreKind, ConfigError> {
    match text {
        "memory" => Ok(StoreKind::Memory),
        "journal" => Ok(StoreKind::Journal),
        other if other.starts_with("postgres://") || other.starts_with("cassandra://") => {
            let scheme = other.split(':').next().unwrap_or(other);
            Err(wrong(
                "--store",
                format!("{scheme} is not available in this version; use journal or memory"),
            ))
        }
        other => Err(wrong(
            "--store",
            format!("{other} is not a store; use journal or memory"),
        )),
    }
}

fn parse_origins(origins: Vec<String>) -> Result<Vec<String>, ConfigError> {
    origins.into_iter().map(|origin| parse_origin(&origin)).collect()
}

/// Browsers send scheme and host in lower case and no slash at the end; written otherwise it would
/// never match.
fn parse_origin(text: &str) -> Result<String, ConfigError> {
    let origin = text.trim().trim_end_matches('/').to_ascii_lowercase();
    let host = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', '*', ' ']) => Ok(origin),
        _ => Err(wrong(
            "--allow-origin",
            format!("{text} is not an origin, as https://shop.example:8443"),
        )),
    }
}

fn check_times(heartbeat_ms: u64, session_timeout_ms: u64) -> Result<(), ConfigError> {
    if heartbeat_ms < HEARTBEAT_MS_MIN {
        return Err(wrong(
            "--heartbeat-ms",
            format!("it is at least {HEARTBEAT_MS_MIN}"),
        ));
    }
    // A connection must have had the chance to answer a Ping before it is dropped.
    if session_timeout_ms <= heartbeat_ms {
        return Err(wrong(
            "--session-timeout-ms",
            format!("it must be longer than --heartbeat-ms, which is {heartbeat_ms}"),
        ));
    }
    Ok(())
}

fn parse_member_timeout(ms: Option<u64>) -> Result<Duration, ConfigError> {
    let ms = ms.unwrap_or(limits::MEMBER_TIMEOUT_MS);
    if ms < MEMBER_TIMEOUT_MS_MIN {
        let least = format!("it is at least {MEMBER_TIMEOUT_MS_MIN}");
        return Err(wrong("--member-timeout-ms", least));
    }
    Ok(Duration::from_millis(ms))
}

fn grace(ms: Option<u64>, default_ms: u64) -> Duration {
    Duration::from_millis(ms.unwrap_or(default_ms))
}

fn parse_journal_file(bytes: Option<u64>) -> Result<u64, ConfigError> {
    let bytes = bytes.unwrap_or(JOURNAL_FILE_BYTES);
    if (JOURNAL_FILE_BYTES_MIN..=JOURNAL_FILE_BYTES_MAX).contains(&bytes) {
        Ok(bytes)
    } else {
        let range = format!("it is from {JOURNAL_FILE_BYTES_MIN} to {JOURNAL_FILE_BYTES_MAX}");
        Err(wrong("--journal-file-bytes", range))
    }
}

fn parse_workers(workers: Option<usize>) -> Result<NonZeroUsize, ConfigError> {
    let Some(workers) = workers else {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        return Ok(cores.min(NonZeroUsize::new(WORKERS_MAX).expect("the most is above zero")));
    };
    NonZeroUsize::new(workers)
        .filter(|workers| workers.get() <= WORKERS_MAX)
        .ok_or_else(|| wrong("--workers", format!("it is from 1 to {WORKERS_MAX}")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, ServeArgs) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("callboard.toml");
        std::fs::write(&path, text).unwrap();
        let args = ServeArgs {
            config: Some(path),
            ..ServeArgs::default()
        };
        (directory, args)
    }

    #[test]
    fn defaults_are_those_of_the_protocol() {
        let config = ServeConfig::resolve(ServeArgs::default()).unwrap();
        assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(
            (config.store, config.auto_create, config.demo),
            (StoreKind::Journal, AutoCreate::On, Demo::Off)
        );
        assert_eq!(config.private_webhooks, PrivateWebhooks::Refused);
        assert_eq!(config.heartbeat, Duration::from_millis(15_000));
        assert_eq!(config.session_timeout, Duration::from_millis(120_000));
        assert_eq!(config.member_timeout, Duration::from_millis(30_000));
        assert_eq!(config.rejoin_grace, Duration::from_millis(5_000));
        assert_eq!(config.revoke_grace, Duration::from_millis(1_000));
        assert_eq!(config.temporary_grace, Duration::from_millis(60_000));
    }

    #[test]
    fn command_line_wins_over_the_file_and_the_file_over_the_default() {
        let (_directory, mut args) = file(
            "listen = \"127.0.0.1:9\"\nstore = \"memory\"\ndemo = true\nworkers = 3\nwebhook_allow_private = true\nallow_origin = [\"https://a.b/\"]",
        );
        args.listen = Some("127.0.0.1:10".to_owned());
        args.demo = Some(false);
        let config = ServeConfig::resolve(args).unwrap();
        assert_eq!(config.listen.port(), 10);
        assert_eq!(
            (config.demo, config.store, config.workers.get()),
            (Demo::Off, StoreKind::Memory, 3)
        );
        assert_eq!(config.allow_origin, ["https://a.b"]);
        assert_eq!(config.private_webhooks, PrivateWebhooks::Allowed);
    }

    #[test]
    fn misspelt_setting_in_the_file_is_an_error_that_names_it() {
        let (_directory, args) = file("lisen = \"127.0.0.1:9\"");
        let error = ServeConfig::resolve(args).unwrap_err().to_string();
        assert!(
            error.contains("lisen") && error.contains("callboard.toml"),
            "{error}"
        );
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_name() {
        let table: [(&str, ServeArgs); 6] = [
            (
                "--listen",
                ServeArgs {
                    listen: Some("8080".to_owned()),
                    ..ServeArgs::default()
                },
            ),
            (
                "--store",
                ServeArgs {
                    store: Some("postgres://x".to_owned()),
                    ..ServeArgs::default()
                },
            ),
            (
                "--allow-origin",
                ServeArgs {
                    allow_origin: Some(vec!["*".to_owned()]),
                    ..ServeArgs::default()
                },
            ),
            (
                "--heartbeat-ms",
                ServeArgs {
                    heartbeat_ms: Some(0),
                    ..ServeArgs::default()
                },
            ),
            (
                "--session-timeout-ms",
                ServeArgs {
                    session_timeout_ms: Some(15_000),
                    ..ServeArgs::default()
                },
            ),
            (
                "--workers",
                ServeArgs {
                    workers: Some(0),
                    ..ServeArgs::default()
                },
            ),
        ];
        for (name, args) in table {
            let error = ServeConfig::resolve(args).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}

//! The server that is measured, as a process of its own: started, pinned, looked at and stopped.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use super::Failure;

/// The core of the server and the core of the load.
const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;
/// How long a server may take to say where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// In the directory of a server that does not say where it listens: what it prints on standard error, and the log
/// that it keeps itself if its configuration says so.
const STDERR: &str = "stderr";
const LOG: &str = "log";
/// How long a server may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether server and load get a core each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinning {
    On,
    Off,
}

/// A server under measurement.
pub struct Server {
    /// `host:port`.
    pub address: String,
    pub pid: Option<u32>,
    child: Option<Child>,
    directory: Option<PathBuf>,
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Removed when the server is stopped.
    pub directory: Option<PathBuf>,
    pub pinning: Pinning,
    pub ready: Ready,
}

/// By what one knows that a server serves.
#[derive(Clone, Debug)]
pub enum Ready {
    /// It says `http://` and an address on standard output.
    Says,
    /// It accepts at this address.
    Accepts(String),
}

/// What a process has used and holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu: Duration,
    pub resident_bytes: u64,
    /// Shared pages counted by share; 0 where the system does not say.
    pub proportional_bytes: u64,
}

impl Server {
    /// A server that runs already; without `pid` its CPU and memory stay unknown.
    pub fn running(address: String, pid: Option<u32>) -> Self {
        Self {
            address,
            pid,
            child: None,
            directory: None,
        }
    }

    /// Starts a server and waits until it is ready.
    ///
    /// # Errors
    /// It does not start, ends at once, or is not ready for too long.
    pub fn start(launch: Launch) -> Result<Self, Failure> {
        let mut command = Command::new(&launch.program);
        command
            .args(&launch.arguments)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let (Ready::Accepts(_), Some(directory)) = (&launch.ready, &launch.directory) {
            // What foreign servers say of themselves is of interest only when they do not start.
            std::fs::create_dir_all(directory)?;
            command.stderr(File::create(directory.join(STDERR))?);
        }
        let pinning = launch.pinning;
        // SAFETY: between fork and exec only `prctl` and `sched_setaffinity` are called, which are plain
        // system calls on values that were made before.
        unsafe {
            command.pre_exec(move || {
                // A measurement that is interrupted must not leave a server behind.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if pinning == Pinning::On {
                    pin_to(SERVER_CORE)
                } else {
                    Ok(())
                }
            });
        }
        let mut child = command
            .spawn()
            .map_err(|error| Failure::new(format!("{}: {error}", launch.program.display())))?;
        let output = child.stdout.take();
        let mut server = Self {
            address: String::new(),
            pid: Some(child.id()),
            child: Some(child),
            directory: launch.directory,
        };
        let Some(output) = output else {
            return Err(Failure::new("the server has no standard output"));
        };
        let (sender, receiver) = std::sync::mpsc::channel();
        // Reads to the end, so that a server that says more is not stopped by a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(address) = address_in(&line) {
                    // Whoever waited may have given up, or not have asked.
                    let _ = sender.send(address);
                }
            }
        });
        let name = || format!("{} {}", launch.program.display(), launch.arguments.join(" "));
        server.address = match launch.ready {
            Ready::Says => receiver
                .recv_timeout(START_TIMEOUT)
                .map_err(|_| Failure::new(format!("`{}` did not say where it listens", name())))?,
            Ready::Accepts(address) => {
                if !server.accepts(&address)? {
                    let said = launch_log(server.directory.as_deref());
                    return Err(Failure::new(format!(
                        "`{}` does not accept at {address}: {said}",
                        name()
                    )));
                }
                address
            }
        };
        Ok(server)
    }

    /// Waits until somebody listens at `address`; false if the server ends before, or takes too long.
    fn accepts(&mut self, address: &str) -> Result<bool, Failure> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(address).is_err() {
            let has_ended = match &mut self.child {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if has_ended || Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(true)
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        self.pid.and_then(|pid| usage_of(pid).ok()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            stop(child);
        }
        if let Some(directory) = &self.directory {
            // It may not have been made.
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

fn stop(child: &mut Child) {
    if let Ok(pid) = libc::pid_t::try_from(child.id()) {
        // SAFETY: the child is ours and not yet waited for, so its id is not given to another process.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // It had its time; an error says that it is gone.
    let _ = child.kill();
    let _ = child.wait();
}

/// The last that a server in `directory` said before it ended.
fn launch_log(directory: Option<&Path>) -> String {
    let mut said = String::new();
    for name in [LOG, STDERR] {
        let text = directory.and_then(|directory| std::fs::read_to_string(directory.join(name)).ok());
        said += &text.unwrap_or_default();
    }
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" / ")
}

/// A port on which nobody listens; until a server does, somebody else may.
///
/// # Errors
/// The system has none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A new directory's name in `parent`, or in the system's temporary one.
pub fn fresh_directory(parent: Option<&Path>) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    parent.join(format!("callboard-bench-{}-{number}", std::process::id()))
}

fn address_in(line: &str) -> Option<String> {
    let rest = &line[line.find("http://")? + "http://".len()..];
    let end = rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || ".:[]-".contains(letter)));
    let address = &rest[..end.unwrap_or(rest.len())];
    address.contains(':').then(|| address.to_owned())
}

/// What process `pid` (0 is this one) has used so far.
///
/// # Errors
/// There is no such process, or the system does not say.
pub fn usage_of(pid: u32) -> io::Result<Usage> {
    let directory = match pid {
        0 => "/proc/self".to_owned(),
        pid => format!("/proc/{pid}"),
    };
    let status = std::fs::read_to_string(format!("{directory}/status"))?;
    let shares = std::fs::read_to_string(format!("{directory}/smaps_rollup")).unwrap_or_default();
    Ok(Usage {
        cpu: cpu_of(pid)?,
        resident_bytes: kibibytes(&status, "VmRSS:") << 10,
        proportional_bytes: kibibytes(&shares, "Pss:") << 10,
    })
}

/// Processor time by the process's own clock: `/proc/PID/stat` has only hundredths of a second, and a short
/// window in which a server used less than one would have no figure.
fn cpu_of(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock: libc::clockid_t = 0;
    let mut used = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both calls only write to the value that they are given.
    unsafe {
        let error = libc::clock_getcpuclockid(pid, &raw mut clock);
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        if libc::clock_gettime(clock, &raw mut used) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let (seconds, nanos) = (u64::try_from(used.tv_sec), u32::try_from(used.tv_nsec));
    Ok(Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0)))
}

/// Processor time of this thread.
pub fn thread_cpu() -> Duration {
    let mut used = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call only writes to the value that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut used) };
    let (seconds, nanos) = (u64::try_from(used.tv_sec), u32::try_from(used.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

fn kibibytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Moves the load to its core and says whether there are two cores to use.
pub fn pin_load(wanted: Pinning) -> Pinning {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if wanted == Pinning::On && cores > LOAD_CORE && pin_to(LOAD_CORE).is_ok() {
        Pinning::On
    } else {
        Pinning::Off
    }
}

/// Moves this thread to the servers' core.
///
/// # Errors
/// There is none.
pub fn pin_to_server_core() -> io::Result<()> {
    pin_to(SERVER_CORE)
}

fn pin_to(core: usize) -> io::Result<()> {
    // SAFETY: a `cpu_set_t` is plain bits and zero is a valid value; the calls only read and write it.
    let outcome = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Allows as many open sockets as the system lets us, here and in the servers that we start.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls only read and write the value that they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
    limit.rlim_cur
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_found_in_what_a_server_says() {
        assert_eq!(
            address_in("open http://127.0.0.1:4711/ in a browser").as_deref(),
            Some("127.0.0.1:4711")
        );
        assert_eq!(address_in("http://[::1]:80").as_deref(), Some("[::1]:80"));
        assert_eq!(address_in("listening"), None);
    }

    #[test]
    fn server_that_ends_at_once_is_not_waited_for() {
        let directory = fresh_directory(None);
        let launch = Launch {
            program: PathBuf::from("/bin/sh"),
            arguments: ["-c", "echo no such option >&2; exit 3"]
                .map(str::to_owned)
                .to_vec(),
            environment: Vec::new(),
            directory: Some(directory.clone()),
            pinning: Pinning::Off,
            // Nobody listens on port 0.
            ready: Ready::Accepts("127.0.0.1:0".to_owned()),
        };
        let began = Instant::now();
        let failure = Server::start(launch).err().map(|failure| failure.to_string());
        assert!(began.elapsed() < START_TIMEOUT);
        assert!(failure.is_some_and(|failure| failure.ends_with(": no such option")));
        assert!(!directory.exists(), "the server's directory is left");
    }

    #[test]
    fn processor_time_is_finer_than_the_ticks_of_the_system() {
        let used = cpu_of(0).unwrap_or_default();
        assert_ne!(used.subsec_nanos() % 10_000_000, 0, "{used:?}");
    }

    #[test]
    fn own_process_holds_memory() {
        let usage = usage_of(0).unwrap_or_default();
        assert!(usage.resident_bytes > 100 << 10);
    }
}

//! A broker process that a test may stop, kill and start again.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::socket::Socket;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_callboard");
/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A broker on a free port; killed when it is dropped.
pub struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    /// Starts one on a data directory, with more options of `serve`.
    pub fn start(data: &Path, options: &[&str]) -> Self {
        let (child, address) = launch(&mut serve(data, options));
        Self { child, address }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A client that has shaken hands and read its `welcome`.
    pub fn connect(&self) -> Socket {
        Socket::connect(&self.address)
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: kill has no memory to get wrong; the child was not waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for its end and says how long that took.
    pub fn ended(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let status = self.child.wait().unwrap();
        (status, began.elapsed())
    }

    /// Resident memory.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.child.id())
    }
}

/// Resident memory of a process.
pub fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that starts a broker on a free port.
pub fn serve(data: &Path, options: &[&str]) -> Command {
    serve_on("127.0.0.1:0", data, options)
}

/// The command that starts a broker.
pub fn serve_on<O: AsRef<OsStr>>(listen: &str, data: &Path, options: &[O]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["serve", "--listen", listen, "--data"])
        .arg(data)
        .args(options)
        .stdin(Stdio::null());
    command
}

/// Starts a broker and waits until it says where it listens, as `host:port`.
pub fn launch(command: &mut Command) -> (Child, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (say, said) = mpsc::channel();
    // Read to its end, or the broker would stand still once the pipe is full.
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if let Some((_, rest)) = line.split_once("http://") {
                let end = rest.find(|letter: char| letter == '/' || letter.is_whitespace());
                // The test may be over.
                let _ = say.send(rest[..end.unwrap_or(rest.len())].to_owned());
            }
        }
    });
    let address = said.recv_timeout(PATIENCE).unwrap();
    (child, address)
}

/// Lets this process open as many files as it may; returns how many.
pub fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a structure of ours that lives as long as they do.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    limit.rlim_cur
}

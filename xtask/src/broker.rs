//! A broker process of our own, on a free loopback port. It ends with the value that stands for it.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::shell::{Context as _, Failure, Program};

/// The longest that a broker may take until it says where it listens, and until it is ready.
const START_MAX: Duration = Duration::from_secs(30);
/// The longest that a broker may take to stop when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A running broker.
pub struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    /// Starts `binary` on the data directory `data` and waits until it is ready. What it writes to standard
    /// error is appended to `log`.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub fn start(
        binary: &Path,
        data: &Path,
        log: &Path,
        environment: &[(&str, String)],
    ) -> Result<Self, Failure> {
        let mut broker = Self::spawn(binary, data, log, environment)?;
        broker.await_address()?;
        broker.await_ready()?;
        Ok(broker)
    }

    /// Starts `binary` and returns at once; it may be killed before it is ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(
        binary: &Path,
        data: &Path,
        log: &Path,
        environment: &[(&str, String)],
    ) -> Result<Self, Failure> {
        let log = File::options()
            .append(true)
            .create(true)
            .open(log)
            .context(log.display())?;
        let child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context(binary.display())?;
        Ok(Self {
            child,
            address: String::new(),
        })
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().context("kill")?;
        self.child.wait().context("wait")?;
        Ok(())
    }

    /// Asks it to stop with SIGTERM.
    ///
    /// # Errors
    /// When it does not stop in time, or not with exit code 0.
    pub fn stop(&mut self) -> Result<(), Failure> {
        Program::new("kill")
            .args(&["-TERM", &self.child.id().to_string()])
            .run()?;
        let deadline = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = self.child.try_wait().context("wait")? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(Failure::new(format!(
                        "the broker ended with {status} after SIGTERM"
                    )))
                };
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "the broker still runs {STOP_MAX:?} after SIGTERM"
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn await_address(&mut self) -> Result<(), Failure> {
        let output = self
            .child
            .stdout
            .take()
            .expect("standard output was asked for as a pipe");
        let (say, said) = mpsc::channel();
        // The pipe is read to its end, or the broker would stand still once it is full.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let address = line.split_once("http://").map(|(_, rest)| {
                    rest.split(|c: char| c == '/' || c.is_whitespace())
                        .next()
                        .unwrap_or(rest)
                });
                if let Some(address) = address {
                    // Nobody listens any more after the first one.
                    let _ = say.send(address.to_owned());
                }
            }
        });
        self.address = said
            .recv_timeout(START_MAX)
            .context("the broker says no address, its log may tell why")?;
        Ok(())
    }

    fn await_ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_MAX;
        loop {
            // A broker that has no such path yet answers as well, and listens.
            match self.get("/readyz") {
                Ok(answer) if !answer.starts_with("HTTP/1.1 503") => return Ok(()),
                Err(failure) if Instant::now() > deadline => return Err(failure),
                Ok(_) if Instant::now() > deadline => {
                    return Err(Failure::new(format!(
                        "the broker is not ready after {START_MAX:?}"
                    )));
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Status and body of what a path answers with; null if it is not JSON.
    ///
    /// # Errors
    /// When it is not there, or answers nothing.
    pub fn json(&self, path: &str) -> Result<(u16, Value), Failure> {
        let answer = self.get(path)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| Failure::new(format!("{path} was answered {answer:?}")))?;
        Ok((status, serde_json::from_str(body).unwrap_or_default()))
    }

    fn get(&self, path: &str) -> Result<String, Failure> {
        let mut stream = TcpStream::connect(&self.address).context(&self.address)?;
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .context("a read's time limit")?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).context(path)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context(path)?;
        Ok(answer)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only when it has gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

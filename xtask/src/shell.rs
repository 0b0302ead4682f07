//! Where things are, and how other programs are run.

use std::{
    ffi::OsStr,
    fmt,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Why a command of xtask did not do what it was asked for, as a sentence.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure with its reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what was being done when an operating system's error came.
pub trait Context<T> {
    /// Puts `doing` before the error.
    ///
    /// # Errors
    /// The error, when there was one.
    fn context(self, doing: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{doing}: {error}")))
    }
}

/// How the broker is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build.
    Dev,
    /// What users run.
    Release,
}

/// The places that xtask works with.
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
    cache: PathBuf,
}

impl Workspace {
    /// Finds the places from what cargo and the environment say.
    ///
    /// # Errors
    /// When xtask was not started by cargo and lies nowhere in a workspace.
    pub fn find() -> Result<Self, Failure> {
        let manifest =
            std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest)
            .parent()
            .map(Path::to_owned)
            .ok_or_else(|| Failure::new("xtask is not inside the workspace"))?;
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into()));
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
        Ok(Self {
            root,
            target,
            cache: cache.join("callboard"),
        })
    }

    /// The repository.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo builds.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// A directory outside the clone for what is fetched, made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn cache(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.cache.join(name);
        std::fs::create_dir_all(&path).context(path.display())?;
        Ok(path)
    }

    /// A cargo command in the repository.
    pub fn cargo(&self, arguments: &[&str]) -> Program {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Program::new(cargo).args(arguments).dir(&self.root)
    }

    /// Builds the broker and says where it is. `CALLBOARD_BIN` names one that is already built.
    ///
    /// # Errors
    /// When it does not build.
    pub fn build_binary(&self, profile: Profile) -> Result<PathBuf, Failure> {
        if let Some(built) = std::env::var_os("CALLBOARD_BIN") {
            return Ok(built.into());
        }
        let mut arguments = vec!["build", "--package", "callboard", "--bin", "callboard"];
        if profile == Profile::Release {
            arguments.push("--release");
        }
        self.cargo(&arguments).run()?;
        let directory = if profile == Profile::Release {
            "release"
        } else {
            "debug"
        };
        Ok(self.target.join(directory).join("callboard"))
    }
}

/// A program to run in the foreground.
pub struct Program {
    command: Command,
    shown: String,
}

impl Program {
    /// The program `name`, without arguments yet. It never reads from a terminal.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        let shown = Path::new(name.as_ref())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut command = Command::new(name);
        command.stdin(Stdio::null());
        Self { command, shown }
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: &[A]) -> Self {
        for argument in arguments {
            self.shown.push(' ');
            self.shown.push_str(&argument.as_ref().to_string_lossy());
        }
        self.command.args(arguments);
        self
    }

    /// Sets the working directory.
    pub fn dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it with its output going where ours goes.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub fn run(mut self) -> Result<(), Failure> {
        let status = self.command.status().context(&self.shown)?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure(format!("{} failed: {status}", self.shown)))
        }
    }

    /// Runs it, shows each line of its standard output and hands it to `look`. Whether it succeeded is the
    /// answer, because a suite wants to count what failed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn watch(mut self, mut look: impl FnMut(&str)) -> Result<Result<(), Failure>, Failure> {
        let mut child = self.command.stdout(Stdio::piped()).spawn().context(&self.shown)?;
        let output = child
            .stdout
            .take()
            .expect("standard output was asked for as a pipe");
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).context(&self.shown)? > 0 {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            look(text.trim_end());
            line.clear();
        }
        let status = child.wait().context(&self.shown)?;
        Ok(if status.success() {
            Ok(())
        } else {
            Err(Failure(format!("{} failed: {status}", self.shown)))
        })
    }

    /// Runs it quietly and returns its standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the reason ends with what it said.
    pub fn output(mut self) -> Result<String, Failure> {
        let output = self.command.output().context(&self.shown)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = said.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Err(Failure(format!(
            "{} failed: {}: {}",
            self.shown,
            output.status,
            tail.join(" / ")
        )))
    }
}

//! Programs that are not Rust's: found, installed where that is allowed, or named.

use std::path::{Path, PathBuf};

use crate::shell::{Failure, Program, Workspace};

/// The first of `names` that is on the path.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    names.iter().find_map(|name| {
        std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
    })
}

/// The first of `names` that is on the path; installs Debian's `packages` if there is none.
///
/// # Errors
/// When it is missing and may not be installed here; the reason says what to install.
pub fn ensure(names: &[&str], packages: &[&str]) -> Result<PathBuf, Failure> {
    if let Some(found) = find(names) {
        return Ok(found);
    }
    install(packages)?;
    find(names).ok_or_else(|| Failure::new(format!("{packages:?} were installed but bring no {}", names[0])))
}

/// Installs Debian packages, as root or by a sudo that asks nothing.
///
/// # Errors
/// When this is not Debian, or may not be done, or fails; the reason says what to install.
pub fn install(packages: &[&str]) -> Result<(), Failure> {
    let please = |_| {
        Failure::new(format!(
            "missing here, and apt-get may not install it: please install {}",
            packages.join(" ")
        ))
    };
    may_install().map_err(please)?;
    println!("installing {}", packages.join(" "));
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    // The lists of a fresh machine are empty or old; fetching them is only needed when the first try fails.
    if apt_get(&arguments).is_err() {
        apt_get(&["update"])?;
        apt_get(&arguments)?;
    }
    Ok(())
}

fn may_install() -> Result<(), Failure> {
    if find(&["apt-get"]).is_none() {
        return Err(Failure::new("this is not Debian"));
    }
    if !is_root() {
        Program::new("sudo").args(&["-n", "true"]).output()?;
    }
    Ok(())
}

/// apt-get as root, or by a sudo that asks nothing.
///
/// # Errors
/// It may not be done, or fails.
pub fn apt_get(arguments: &[&str]) -> Result<(), Failure> {
    let program = if is_root() {
        Program::new("apt-get")
    } else {
        Program::new("sudo").args(&["-n", "apt-get"])
    };
    program
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .map(drop)
}

/// Whether this process may do what root may.
pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .and_then(|ids| ids.split_whitespace().nth(1))
            .is_some_and(|effective| effective == "0")
    })
}

/// Node and npm.
///
/// # Errors
/// As [`ensure`].
pub fn node() -> Result<PathBuf, Failure> {
    ensure(&["npm"], &["npm"])?;
    ensure(&["node"], &["nodejs"])
}

/// Chromium; `CHROMIUM` names another one.
///
/// # Errors
/// As [`ensure`].
pub fn chromium() -> Result<PathBuf, Failure> {
    match std::env::var_os("CHROMIUM") {
        Some(named) => Ok(named.into()),
        None => ensure(&["chromium", "chromium-browser", "google-chrome"], &["chromium"]),
    }
}

/// The parts of the pinned toolchain that the suite needs beyond the compiler.
///
/// # Errors
/// When rustup cannot add them.
pub fn rust_parts(workspace: &Workspace) -> Result<(), Failure> {
    let rustup = |arguments: &[&str]| {
        Program::new("rustup")
            .args(arguments)
            .dir(workspace.root())
            .output()
    };
    let components = rustup(&["component", "list", "--installed"])?;
    for component in ["rustfmt", "clippy"] {
        if !components.lines().any(|line| line.starts_with(component)) {
            rustup(&["component", "add", component])?;
        }
    }
    Ok(())
}

/// The compiler's part for WebAssembly.
///
/// # Errors
/// When rustup cannot add it.
pub fn wasm_target(workspace: &Workspace) -> Result<(), Failure> {
    const TARGET: &str = "wasm32-unknown-unknown";
    let rustup = |arguments: &[&str]| {
        Program::new("rustup")
            .args(arguments)
            .dir(workspace.root())
            .output()
    };
    if !rustup(&["target", "list", "--installed"])?
        .lines()
        .any(|line| line == TARGET)
    {
        rustup(&["target", "add", TARGET])?;
    }
    Ok(())
}

/// The directory with the real files that some tests publish. Pinned, because their records are counted.
///
/// # Errors
/// As [`npm_package`].
pub fn datasets(workspace: &Workspace) -> Result<PathBuf, Failure> {
    Ok(npm_package(workspace, "vega-datasets", "3.2.1")?.join("data"))
}

/// A npm package's directory, fetched once into the cache.
///
/// # Errors
/// When npm is missing and may not be installed, or cannot fetch it.
pub fn npm_package(workspace: &Workspace, name: &str, version: &str) -> Result<PathBuf, Failure> {
    node()?;
    let home = workspace.cache(&format!("npm/{name}-{version}"))?;
    let package = home.join("node_modules").join(name);
    if !package.join("package.json").is_file() {
        let wanted = format!("{name}@{version}");
        npm(&home)
            .args(&["install", "--no-save", "--ignore-scripts", &wanted])
            .output()?;
    }
    Ok(package)
}

/// npm in a directory, quietly, for itself alone.
pub fn npm(directory: &Path) -> Program {
    let flags = [
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--loglevel=error",
    ];
    Program::new("npm")
        .args(&flags)
        .dir(directory)
        .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
}

/// `program` of a Python package, installed once into a virtual environment in the cache.
///
/// # Errors
/// When Python is missing and may not be installed, or pip cannot fetch the package.
pub fn python_program(
    workspace: &Workspace,
    (package, version): (&str, &str),
    program: &str,
) -> Result<PathBuf, Failure> {
    let python = ensure(&["python3"], &["python3", "python3-venv"])?;
    let home = workspace.cache("python")?.join(format!("{package}-{version}"));
    let program = home.join("bin").join(program);
    if program.is_file() {
        return Ok(program);
    }
    let make = || {
        Program::new(&python)
            .args(&["-m", "venv", "--clear"])
            .args(&[&home])
            .output()
    };
    if make().is_err() {
        // Debian ships Python without what `venv` needs.
        install(&["python3-venv"])?;
        make()?;
    }
    Program::new(home.join("bin/pip"))
        .args(&[
            "install",
            "--quiet",
            "--disable-pip-version-check",
            &format!("{package}=={version}"),
        ])
        .output()?;
    Ok(program)
}

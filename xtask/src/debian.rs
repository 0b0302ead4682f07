//! Debian's packages unpacked into the cache, for programs that are wanted and services that are not.
//!
//! An installed server package adds a user, writes to `/etc` and starts a service. Unpacked, it is a program in a
//! directory: nothing of it runs by itself, root is not needed, and the machine stays as it was.

use std::path::{Path, PathBuf};

use crate::{
    shell::{Context as _, Failure, Program, Workspace},
    tools,
};

/// Written when a tree is whole.
const MARK: &str = "unpacked";
/// Where packages put programs.
const PROGRAM_DIRECTORIES: [&str; 3] = ["usr/bin", "usr/sbin", "bin"];

/// Unpacked packages with those of their dependencies that the system does not have.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// A program of the packages, or of the system where they are installed.
    ///
    /// # Errors
    /// There is none.
    pub fn program(&self, name: &str) -> Result<PathBuf, Failure> {
        PROGRAM_DIRECTORIES
            .iter()
            .map(|directory| self.root.join(directory).join(name))
            .find(|path| path.is_file())
            .or_else(|| tools::find(&[name]))
            .ok_or_else(|| Failure::new(format!("Debian's packages brought no {name}")))
    }

    /// The directory with the shared libraries that came along.
    ///
    /// # Errors
    /// The system does not say what it is called.
    pub fn libraries(&self) -> Result<PathBuf, Failure> {
        let architecture = Program::new("dpkg-architecture")
            .args(&["-qDEB_HOST_MULTIARCH"])
            .output()
            .unwrap_or_else(|_| format!("{}-linux-gnu", std::env::consts::ARCH));
        Ok(self.root.join("usr/lib").join(architecture.trim()))
    }
}

/// Unpacks `packages` once.
///
/// # Errors
/// This is not Debian, or the packages cannot be fetched.
pub fn tree(workspace: &Workspace, packages: &[&str]) -> Result<Tree, Failure> {
    let home = workspace.cache("debian")?.join(packages.join("+"));
    let root = home.join("root");
    if home.join(MARK).is_file() {
        return Ok(Tree { root });
    }
    if tools::find(&["apt-get"]).is_none() || tools::find(&["dpkg-deb"]).is_none() {
        return Err(Failure::new("this is not Debian"));
    }
    // What an interrupted run has left may be half a package; there may be nothing.
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&root).context(root.display())?;
    println!("fetching {} without installing", packages.join(" "));
    if fetch(packages, &home).is_err() {
        tools::apt_get(&["update"])?;
        fetch(packages, &home)?;
    }
    for entry in std::fs::read_dir(&home).context(home.display())? {
        let path = entry.context(home.display())?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            Program::new("dpkg-deb")
                .args(&["--extract"])
                .args(&[&path, &root])
                .output()?;
        }
    }
    std::fs::write(home.join(MARK), "").context(home.display())?;
    Ok(Tree { root })
}

fn fetch(packages: &[&str], directory: &Path) -> Result<(), Failure> {
    let simulation = Program::new("apt-get")
        .args(&["install", "--simulate", "--no-install-recommends"])
        .args(packages)
        .output()?;
    let wanted = newly_installed(&simulation);
    if wanted.is_empty() {
        return Ok(()); // All of it is installed.
    }
    Program::new("apt-get")
        .args(&["download"])
        .args(&wanted)
        .dir(directory)
        .output()
        .map(drop)
}

/// The packages that an installation would add. What it would only upgrade is there already, and good enough.
fn newly_installed(simulation: &str) -> Vec<&str> {
    simulation
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_once(' '))
        .filter(|(_, rest)| rest.starts_with('('))
        .map(|(name, _)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::newly_installed;

    #[test]
    fn what_is_only_upgraded_is_not_fetched() {
        let simulation = "NOTE: This is only a simulation!\nThe following NEW packages will be installed:\n  liblzf1\n\
            Inst liblzf1 (3.6-3 Debian:12 [amd64])\nInst libssl3 [3.0.1] (3.0.2 Debian:12 [amd64])\n\
            Inst redis-server (5:7.0 Debian:12 [amd64])\nConf liblzf1 (3.6-3 Debian:12 [amd64])\n";
        assert_eq!(newly_installed(simulation), ["liblzf1", "redis-server"]);
        assert!(newly_installed("redis-server is already the newest version\n").is_empty());
    }
}

//! A disk that is soon full: a small tmpfs, mounted while its tests run.

use std::path::{Path, PathBuf};

use crate::{
    shell::{Context as _, Failure, Program},
    tools,
};

/// The size of the disk. Room for a journal of a few small files and not for more.
const DISK_MIB: u32 = 16;

/// A mounted disk; it is unmounted with this value.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one.
    ///
    /// # Errors
    /// When this process may not mount.
    pub fn mount() -> Result<Self, Failure> {
        if !tools::is_root() {
            return Err(Failure::new("only root may mount the small disk that it needs"));
        }
        let path = std::env::temp_dir().join(format!("callboard-small-disk-{}", std::process::id()));
        std::fs::create_dir_all(&path).context(path.display())?;
        let size = format!("size={DISK_MIB}m");
        let mounted = Program::new("mount")
            .args(&["-t", "tmpfs", "-o", &size, "tmpfs"])
            .args(&[&path])
            .output();
        match mounted {
            Ok(_) => Ok(Self { path }),
            Err(failure) => {
                // An empty directory is all that is left behind if even this fails.
                let _ = std::fs::remove_dir(&path);
                Err(Failure::new(format!(
                    "the small disk that it needs cannot be mounted here: {failure}"
                )))
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(failure) = Program::new("umount").args(&[&self.path]).output() {
            println!("{} stays mounted: {failure}", self.path.display());
            return;
        }
        // Nothing depends on the empty directory.
        let _ = std::fs::remove_dir(&self.path);
    }
}

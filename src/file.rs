//! A limiter's snapshot in a file, once for all edges. Reading and writing files is an edge's business: no core type knows
//! of this module, and nothing here decides anything.
//!
//! A file is replaced as a whole: the bytes go to a new file beside it, which only its owner may read, for a snapshot holds
//! the secret of the keys; they reach the disk; the new file takes the old one's name; and the folder reaches the disk. Whenever
//! the machine stops, the name stands for the whole old snapshot or the whole new one. What stops in between leaves a file whose
//! name ends in `.tmp`, which nobody reads.
//!
//! The folder is opened first, so that one which cannot be is refused before anything is replaced. If the disk fails to sync
//! it at the end, the file has been replaced, and the error says so.

use crate::limiter::{Limiter, LimiterConfig, RestoreError};
use crate::sync::unique_id;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Why no limiter could be loaded. The file is as it was.
#[derive(Debug)]
pub enum LoadError {
    /// It cannot be read.
    Io(io::Error),
    /// It holds no snapshot, or a damaged one.
    Restore(RestoreError),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Restore(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

/// Writes what every key of `limiter` owes at `now_ns`, the same moment as `wall_ns` since 1970, to the file `path`. Its folder
/// must be one that the process may read and write.
pub fn save_limiter(limiter: &Limiter, path: &Path, now_ns: u64, wall_ns: u64) -> io::Result<()> {
    replace(path, &limiter.snapshot(now_ns, wall_ns))
}

/// The limiter of the file `path`, as if it had gone on since; see [`Limiter::restore`].
pub fn load_limiter(
    path: &Path,
    config: &LimiterConfig,
    now_ns: u64,
    wall_ns: u64,
) -> Result<Limiter, LoadError> {
    let bytes = fs::read(path).map_err(LoadError::Io)?;
    Limiter::restore(&bytes, config, now_ns, wall_ns).map_err(LoadError::Restore)
}

/// Gives the file `path` these bytes, all or none. After an error it is as it was, unless the error says that it was replaced.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let opened = File::open(folder)?;
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.{}.tmp", std::process::id(), unique_id()));
    let beside = folder.join(beside);
    let replaced = write_new(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if let Err(error) = replaced {
        // If it cannot be removed either, it stays: the first error says more.
        _ = fs::remove_file(&beside);
        return Err(error);
    }
    opened.sync_all().map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("it was replaced, but whether that outlives a crash is not known: {error}"),
        )
    })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

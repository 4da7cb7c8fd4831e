//! The file operations of the writer, behind a trait so that tests can let each of them fail.
//!
//! An operation that returned `Ok` is durable where its name says so: [`Storage::create`] has synced
//! the directory, [`SegmentFile::sync`] the data.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};

/// Where segments are kept.
pub(super) trait Storage: Send + 'static {
    /// An open segment.
    type File: SegmentFile;

    /// Makes a file that must not exist, and makes its name durable.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file to append to it.
    fn append_to(&self, path: &Path) -> io::Result<Self::File>;

    /// Removes a file that holds nothing durable.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// An open segment.
pub(super) trait SegmentFile: Send {
    /// Writes behind the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes everything written durable (fdatasync(2)).
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;

    /// Takes room on the disk for the `bytes` from `offset` on, where the file system can; the file
    /// gets no longer.
    fn reserve(&mut self, offset: u64, bytes: u64) -> io::Result<()>;
}

/// Real files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk;

impl Storage for Disk {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(path)?;
        if let Err(error) = sync_parent(path) {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(file)
    }

    fn append_to(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).open(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

impl SegmentFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)?;
        self.sync_data()
    }

    fn reserve(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&*self, FallocateFlags::KEEP_SIZE, offset, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            other => other.map_err(io::Error::from),
        }
    }
}

/// Whether an operation failed for want of room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes the directory, where it is missing.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    sync_parent(directory)
}

/// Takes the directory for this process alone; the lock lasts as long as the file is open.
///
/// `None` when another process has it.
pub(super) fn lock(directory: &Path) -> io::Result<Option<File>> {
    let path = directory.join("lock");
    let file = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Puts a small file in place of another in one step: after a crash it is the old or the new one.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&next)?;
    file.write_all(content)?;
    file.sync_data()?;
    std::fs::rename(&next, path)?;
    sync_parent(path)
}

/// Appends a line to a small file of lines and makes it durable, unless a line that `is_it` is there.
/// What a crash left of a line is cut off first.
pub(super) fn append_line(
    path: &Path,
    line: &[u8],
    is_it: impl Fn(&str) -> bool,
) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text = String::from_utf8_lossy(content.get(..whole).unwrap_or_default());
    if !text.lines().any(is_it) {
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::Start(whole as u64))?;
        file.write_all(&[line, b"\n"].concat())?;
    }
    file.sync_all()?;
    sync_parent(path)
}

/// Gives a whole segment a name under which it is evidence and no part of the log; returns it.
pub(super) fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = torn_path(path, 0);
    std::fs::rename(path, &aside)?;
    sync_parent(path)?;
    Ok(aside)
}

/// Moves everything from `offset` on to a file of its own, and cuts the segment there.
pub(super) fn set_aside(path: &Path, offset: u64) -> io::Result<PathBuf> {
    if offset == 0 {
        return move_aside(path);
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let aside = torn_path(path, offset);
    let mut torn = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&aside)?;
    let copied = io::copy(&mut (&file).take(u64::MAX), &mut torn).and_then(|_| torn.sync_all());
    if let Err(error) = copied.and_then(|()| sync_parent(&aside)) {
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    file.set_len(offset)?;
    file.sync_all()?;
    Ok(aside)
}

/// A name for what was torn off at `offset` that is not taken: a segment can be torn twice at one
/// place.
pub(super) fn torn_path(path: &Path, offset: u64) -> PathBuf {
    let base = format!("{}.torn-{offset}", path.display());
    let mut aside = PathBuf::from(&base);
    let mut again = 0;
    while aside.exists() {
        again += 1;
        aside = PathBuf::from(format!("{base}-{again}"));
    }
    aside
}

/// Makes a file's name durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The daemon writes, its group reads.
pub(super) const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

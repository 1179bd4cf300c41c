//! Files that are there as a whole, or stay as they were.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use tempfile::{Builder, NamedTempFile};

/// Where a result is to go.
///
/// A regular file is written beside, on the same file system, and renamed when all of it is on the
/// disk: a disk that is full, a quota, a limit on the size of files leave what was there. Anything
/// else, a pipe or a device, is written as it is.
#[derive(Debug)]
pub struct Output {
    /// As it was given.
    path: PathBuf,
    /// The file itself, where `path` is a symbolic link.
    file: PathBuf,
    is_regular: bool,
}

impl Output {
    /// Makes sure that `path` could be written, before minutes are spent on what could then not be.
    /// Nothing is there yet when this returns, and nothing has changed.
    ///
    /// # Errors
    ///
    /// When it is a directory, or may not be written, or nothing may be created beside it.
    pub fn new(path: &Path) -> Result<Self> {
        let prepare = || -> io::Result<Self> {
            let file = destination(path)?;
            let is_regular = match fs::metadata(&file) {
                Ok(metadata) if metadata.is_dir() => {
                    return Err(io::ErrorKind::IsADirectory.into());
                }
                Ok(metadata) => {
                    // Whatever it leads to, what is written to this process's own descriptors goes
                    // behind what is there.
                    let is_own = ["/dev", "/proc"].iter().any(|own| path.starts_with(own));
                    metadata.is_file() && !is_own
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                Err(error) => return Err(error),
            };
            let output = Self {
                path: path.to_owned(),
                file,
                is_regular,
            };
            if is_regular {
                if output.file.exists() {
                    OpenOptions::new().append(true).open(&output.file)?;
                }
                output.beside()?;
            }
            Ok(output)
        };
        prepare().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// When that fails; what was there before is still there then.
    pub fn write(&self, contents: &[u8]) -> Result<()> {
        let write = || match self.is_regular {
            true => self.replace(contents),
            false => Ok(OpenOptions::new()
                .append(true)
                .open(&self.file)?
                .write_all(contents)?),
        };
        write().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn replace(&self, contents: &[u8]) -> Result<()> {
        let mut beside = self.beside()?;
        beside.write_all(contents)?;
        if let Ok(metadata) = fs::metadata(&self.file) {
            beside.as_file().set_permissions(metadata.permissions())?;
        }
        // Some file systems tell only now that the disk is full.
        beside.as_file().sync_all()?;
        match beside.persist(&self.file) {
            Ok(_) => Ok(()),
            // A file that something is mounted on cannot be replaced. What is written is not lost.
            Err(failed) => {
                let (_, kept) = failed.file.keep()?;
                let error = anyhow!(failed.error);
                Err(error.context(format!("the result is in {}", kept.display())))
            }
        }
    }

    /// A new file in the same directory, with the mode that a new file gets here.
    fn beside(&self) -> io::Result<NamedTempFile> {
        let directory = match self.file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut prefix = OsString::from(".");
        prefix.push(self.file.file_name().unwrap_or_default());
        Builder::new()
            .prefix(&prefix)
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory)
    }
}

/// Where a path leads to, through symbolic links, whether or not there is something.
fn destination(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            // A link to what is not there yet.
            Ok(target) => {
                let directory = path.parent().unwrap_or(Path::new(""));
                Ok(directory.join(target))
            }
            Err(_) => Ok(path.to_owned()),
        },
        other => other,
    }
}

/// All of what went wrong, as one error: that one file cannot be written must not keep the others
/// from it.
///
/// # Errors
///
/// Those of `results`.
pub fn all(results: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let errors: Vec<_> = results
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    match errors.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(errors.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        Output::new(&path).unwrap().write(b"first").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::File::open(&path).unwrap();
        Output::new(&path).unwrap().write(b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        // Whoever had it open reads on what it was.
        assert_eq!(io::read_to_string(before).unwrap(), "first");
        assert_eq!(names(directory.path()), ["report"]);
    }

    #[test]
    fn making_sure_leaves_everything_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        Output::new(&path).unwrap();
        assert!(names(directory.path()).is_empty());
        assert!(Output::new(directory.path()).is_err(), "a directory");
        assert!(Output::new(&path.join("deeper")).is_err(), "no directory");
    }

    #[test]
    fn links_stay_links_and_devices_devices() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("a"), directory.path().join("b"));
        symlink("a", &link).unwrap();
        Output::new(&link).unwrap().write(b"first").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        Output::new(&link).unwrap().write(b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert!(link.is_symlink());
        let null = Path::new("/dev/null");
        Output::new(null).unwrap().write(b"nothing").unwrap();
        assert!(!null.is_file());
        let full = Output::new(Path::new("/dev/full")).unwrap();
        assert!(full.write(b"much").is_err());
    }

    #[test]
    fn all_errors_are_told() {
        all([Ok(()), Ok(())]).unwrap();
        let error = all([Err(anyhow!("one")), Ok(()), Err(anyhow!("two"))]).unwrap_err();
        assert_eq!(error.to_string(), "one; two");
    }
}

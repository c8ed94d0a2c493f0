//! The file, as it is read: at given positions, within the length that it had when the snapshot began.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rapace_shm_core::layout::At;
use zerocopy::{FromBytes, IntoBytes};

use super::InspectError;

/// Why a snapshot was not finished.
#[derive(Debug)]
pub(super) enum Stop {
    /// The file became shorter than it was a moment ago.
    Cut,
    /// It makes no sense to try again.
    Error(InspectError),
}

impl From<InspectError> for Stop {
    fn from(error: InspectError) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Error(InspectError::Io(error)),
        }
    }
}

/// A file, and how long it was when the snapshot began.
pub(super) struct Source<'a> {
    file: &'a File,
    pub(super) len: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a File) -> Result<Self, Stop> {
        let metadata = file.metadata().map_err(InspectError::Io)?;
        if !metadata.is_file() {
            return Err(InspectError::NotAFile.into());
        }
        Ok(Self { file, len: metadata.len() })
    }

    /// Whether the file has this many bytes.
    pub(super) fn reaches(&self, end: usize) -> bool {
        end as u64 <= self.len
    }

    /// What stands at `at` bytes; `None` if the file ends before.
    pub(super) fn read<T: FromBytes + IntoBytes>(&self, at: usize) -> Result<Option<T>, Stop> {
        if !at.checked_add(size_of::<T>()).is_some_and(|end| self.reaches(end)) {
            return Ok(None);
        }
        let mut value = T::new_zeroed();
        self.file.read_exact_at(value.as_mut_bytes(), at as u64)?;
        Ok(Some(value))
    }

    /// What stands at `at` bytes, within what the file has.
    pub(super) fn read_sure<T: FromBytes + IntoBytes>(&self, at: usize) -> Result<T, Stop> {
        self.read(at)?.ok_or(Stop::Cut)
    }

    /// Appends `count` things that start at `at` bytes, within what the file has.
    pub(super) fn append<T: FromBytes + IntoBytes + Clone>(
        &self,
        into: &mut Vec<T>,
        at: usize,
        count: usize,
    ) -> Result<(), Stop> {
        let before = into.len();
        into.resize(before + count, T::new_zeroed());
        self.file.read_exact_at(into.split_at_mut(before).1.as_mut_bytes(), at as u64)?;
        Ok(())
    }

    /// The shared word behind a field of the structure at `base` bytes, within what the file has.
    pub(super) fn word(&self, field: At<u64>, base: usize) -> Result<u64, Stop> {
        self.read_sure(field.within(base).offset())
    }
}

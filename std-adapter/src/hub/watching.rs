//! Watching a process that can be seen to end in no other way: in a hub on a path, where nobody has a life socket.

use std::sync::Weak;

use parking_lot::Mutex;
use rapace_shm_core::layout::ProcessWords;

use crate::error::Error;
use crate::mapping::MappedRegion;
use crate::process::{Found, Process};
use crate::watch::{Duty, Watch, Watched, watch};

/// How far one process is being watched.
#[derive(Debug, Default)]
pub(super) struct ProcessWatch(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// Not yet: it has not said which process it is.
    #[default]
    Not,
    /// By the watcher.
    By(#[allow(dead_code)] Watch),
    /// There is nothing to watch: it is this process, one that cannot be seen, or gone.
    Never,
}

impl ProcessWatch {
    /// Has the process watched, once these words say which it is; true if it is gone already.
    pub(super) fn start(
        &self,
        region: &MappedRegion,
        words: ProcessWords,
        whom: impl FnOnce() -> Weak<dyn Watched>,
    ) -> Result<bool, Error> {
        let mut state = self.0.lock();
        if !matches!(*state, State::Not) {
            return Ok(false);
        }
        let Some(process) = Process::read(region, words) else { return Ok(false) };
        let found = process.find();
        *state = State::Never;
        match found {
            Found::Running(descriptor) => *state = State::By(watch(Duty::Death(descriptor), whom())?),
            Found::Gone => return Ok(true),
            Found::Myself | Found::OutOfSight => {}
        }
        Ok(false)
    }
}

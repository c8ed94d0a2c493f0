//! The blocking loop around core's steps: try, spin, then sleep where the ticket says.

use std::time::Instant;

use rapace_shm_core::wake::Step;

use crate::error::Error;
use crate::os_endpoint::OsEndpoint;
use crate::spin::Spin;

/// A half of a link that can try, and that can say what to sleep on.
pub(crate) trait Waits {
    /// What can sleep.
    type Endpoint: OsEndpoint;
    /// This side's environment.
    fn endpoint(&self) -> &Self::Endpoint;
    /// Says that this side will not sleep after all.
    fn disarm(&mut self);
}

/// Whether there is a deadline and it is over.
pub(crate) fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Repeats a step until it is ready or the deadline passes, after a first try was in vain. `attempt` tries without arming
/// and says `None` for "not yet"; `step` is core's, which arms.
#[cold]
pub(crate) fn until_ready<H: Waits, T>(
    half: &mut H,
    spin: &mut Spin,
    deadline: Option<Instant>,
    mut attempt: impl FnMut(&mut H) -> Option<Result<T, Error>>,
    mut step: impl FnMut(&mut H) -> Result<Step<T>, Error>,
) -> Result<T, Error> {
    loop {
        if let Some(done) = spin.until(half, &mut attempt, |half| half.endpoint().look_for_death()) {
            return done;
        }
        match step(half)? {
            Step::Ready(value) => return Ok(value),
            Step::Sleep(ticket) => {
                // A peer that rings without pause cannot keep the deadline away.
                if !half.endpoint().sleep(&ticket, deadline)? || has_passed(deadline) {
                    half.disarm();
                    // What arrived at the last moment still counts.
                    return attempt(half).unwrap_or(Err(Error::Timeout));
                }
            }
        }
    }
}

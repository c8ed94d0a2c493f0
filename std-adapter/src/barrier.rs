//! The heavy half of the wait protocol's barrier: `membarrier(2)`, global and expedited.
//!
//! A process that has registered executes a memory barrier on all its running threads whenever any process makes the
//! call. So whoever publishes needs none of its own, and whoever is about to sleep pays for both (below a
//! microsecond, once per sleep).

use std::sync::OnceLock;

use rustix::thread::{MembarrierCommand, membarrier};

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Barriers {
    /// Heavy barriers of others reach this process: it may publish without a fence.
    pub(crate) registered: bool,
    /// This process can make a heavy barrier.
    pub(crate) heavy: bool,
}

impl Barriers {
    /// Fences everywhere: what a process that may not call membarrier does.
    pub(crate) const FENCES: Self = Self { registered: false, heavy: false };

    /// Registers this process, the first time it is asked, and says what came of it.
    pub(crate) fn of_process() -> Self {
        static BARRIERS: OnceLock<Barriers> = OnceLock::new();
        *BARRIERS.get_or_init(|| Self {
            registered: membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok(),
            heavy: heavy_barrier(),
        })
    }
}

/// Makes every registered process execute a barrier; says whether the kernel did.
pub(crate) fn heavy_barrier() -> bool {
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}

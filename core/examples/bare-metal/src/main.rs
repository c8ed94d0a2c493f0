//! The core in a freestanding program: nothing of `std`, `alloc` or an operating system's library is linked, the
//! region is a `static`, and no panic is reachable. See README.md.

#![no_std]
#![no_main]

mod contexts;
mod hub;
mod platform;
mod tour;

use core::hint::black_box;
use core::panic::Location;

use rapace_shm_core::endpoint::PeerId;
use rapace_shm_core::layout::ShmSessionConfig;
use rapace_shm_core::ledger::Ledger;
use rapace_shm_core::link::Link;
use rapace_shm_core::region::Memory;

use contexts::{Context, Handler, MainLoop};

/// Slots of the session, and of each side's ledger.
const SLOTS: usize = 16;

static MEMORY: Memory<8192> = Memory::new();
static MAIN_LEDGER: Ledger<SLOTS> = Ledger::new();
static HANDLER_LEDGER: Ledger<SLOTS> = Ledger::new();

/// A check that did not hold, and in which line: the program's exit code, as far as it fits one.
#[derive(Clone, Copy)]
pub struct Failed(u32);

impl Failed {
    /// Says where.
    #[track_caller]
    pub fn here() -> Self {
        Self(Location::caller().line())
    }
}

/// An `assert` that cannot panic.
#[track_caller]
pub fn ensure(holds: bool) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(Failed::here()) }
}

/// Called by the platform on an aligned stack.
extern "C" fn start() -> ! {
    let code = match exchange().and_then(|()| tour::every_operation()).and_then(|()| hub::every_operation()) {
        Ok(()) => 0,
        Err(Failed(line)) => (line % 250 + 1) as i32,
    };
    #[cfg(feature = "prove-it-fails")]
    let code = [code, 1, 2][black_box(1_usize) + black_box(0)];
    platform::exit(code)
}

/// A session between the two contexts, from its creation to its end.
fn exchange() -> Result<(), Failed> {
    // Hidden from the optimiser, as values are that a device tree or a switch supplies.
    let config = black_box(ShmSessionConfig { ring_capacity: 8, slot_size: 256, slot_count: SLOTS as u32 });
    let region = MEMORY.take().ok_or(Failed::here())?;
    let main_side = Context { id: PeerId(0), region, ledger: &MAIN_LEDGER };
    let handler_side = Context { id: PeerId(1), region, ledger: &HANDLER_LEDGER };
    let (tx, rx) = Link::create(main_side, config).map_err(|_| Failed::here())?.into_split();
    let mut main_loop = MainLoop::new(tx, rx);
    let (tx, rx, session) = Link::attach(handler_side).map_err(|_| Failed::here())?.into_parts();
    let mut handler = Handler::new(tx, rx);
    contexts::run(&mut main_loop, &mut handler)?;
    let slots = session.status(&region).slots;
    ensure(slots.free == slots.total && slots.free_list_len == slots.total)
}

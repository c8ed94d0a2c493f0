//! The ledger: what this endpoint holds, in its own memory, one entry per slot.
//!
//! The slab's metadata is shared, so a peer can write anything into it. The ledger is not, so it is what decides
//! whether a guard may be made: an entry is claimed by a read-modify-write before the guard exists and given back
//! when it is gone. Being offered a slot whose entry is already claimed is a [`PeerFault`].
//!
//! It also says what a dead peer's survivor owns, so that everything else can be freed. For that an entry has a third
//! state: *returning*, between the moment a guard has let go and the moment its slot is in the free list. A slot may
//! be claimed out of it (it was popped again already), but a reaper waits until it is over.
//!
//! ```text
//!           claim                       let_go                      settle
//!   free ----------> held(generation) ---------> returning(gen) -----------> free
//!     ^                 | transfer                    | claim
//!     +-----------------+                             +-----> held(generation + 1)
//! ```

use core::fmt;
use core::sync::atomic::Ordering;

use crate::atomic::{AtomicU32, AtomicU64};
use crate::fault::PeerFault;

const FREE: u64 = 0;
const HELD: u64 = 1;
const RETURNING: u64 = 2;
const REAPERS: u64 = 3;

/// States in which the slot is somebody's: it cannot be claimed.
const fn is_taken(word: u64) -> bool {
    matches!(word & 3, HELD | REAPERS)
}

/// One slot's entry: the state above, and the generation it was claimed at.
pub struct LedgerEntry(AtomicU64);

impl LedgerEntry {
    /// A slot that is not held.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(FREE))
    }

    const fn word(state: u64, generation: u32) -> u64 {
        (generation as u64) << 2 | state
    }

    /// Claims the slot for a guard of this generation.
    #[inline]
    pub(crate) fn claim(&self, slot: u32, generation: u32) -> Result<(), PeerFault> {
        let mut seen = self.0.load(Ordering::Relaxed);
        // Twice: once more if the last holder's `settle` came in between; nothing else can turn free into free.
        for _ in 0..2 {
            if is_taken(seen) {
                break;
            }
            let held = Self::word(HELD, generation);
            // Acquire pairs with the Release in `let_go` and `transfer`: the last holder here is done with the bytes.
            match self.0.compare_exchange(seen, held, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
        Err(PeerFault::AlreadyHeld { slot })
    }

    /// Claims a slot that nobody holds for the reaper.
    pub(crate) fn claim_for_reaper(&self) {
        let _ = self.0.compare_exchange(FREE, REAPERS, Ordering::Acquire, Ordering::Relaxed);
    }

    pub(crate) fn is_reapers(&self) -> bool {
        self.0.load(Ordering::Relaxed) & 3 == REAPERS
    }

    /// The slot is about to be the peer's: nothing is left to do for it here.
    #[inline]
    pub(crate) fn transfer(&self) {
        self.0.store(FREE, Ordering::Release);
    }

    /// The guard is gone; its slot is about to be pushed to the free list.
    #[inline]
    pub(crate) fn let_go(&self, generation: u32) {
        self.0.store(Self::word(RETURNING, generation), Ordering::Release);
    }

    /// The slot is in the free list, or somebody has already taken it from there (then this does nothing).
    #[inline]
    pub(crate) fn settle(&self, generation: u32) {
        let returning = Self::word(RETURNING, generation);
        let _ = self.0.compare_exchange(returning, FREE, Ordering::Release, Ordering::Relaxed);
    }

    /// The generation of the guard that holds the slot, if one does.
    #[must_use]
    pub fn held_generation(&self) -> Option<u32> {
        let seen = self.0.load(Ordering::Acquire);
        #[allow(clippy::cast_possible_truncation)] // two bits of state, 32 of generation
        (seen & 3 == HELD).then_some((seen >> 2) as u32)
    }

    fn is_returning(&self) -> bool {
        self.0.load(Ordering::Acquire) & 3 == RETURNING
    }
}

impl Default for LedgerEntry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LedgerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.held_generation() {
            Some(generation) => write!(f, "Held({generation})"),
            None if self.is_returning() => f.write_str("Returning"),
            None => f.write_str("Free"),
        }
    }
}

/// What keeps an endpoint from going on, for all its parts to see: that its peer is gone, or the first fault that one of
/// them met.
#[derive(Debug)]
pub(crate) struct FaultMark(AtomicU64);

impl FaultMark {
    const NONE: u64 = 0;
    const DIED: u64 = 1;
    const CLOSED: u64 = 2;
    const SLOT: u64 = 3;

    const fn new() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }

    /// The part that met the fault has reported it.
    pub(crate) fn set(&self) {
        self.put(Self::CLOSED);
    }

    /// A guard met it when it was dropped and could not report it.
    #[cold]
    pub(crate) fn set_tampered(&self, slot: u32) {
        self.put(Self::SLOT + u64::from(slot));
    }

    fn set_died(&self) {
        self.replace(Self::NONE, Self::DIED);
    }

    fn put(&self, mark: u64) {
        // A peer that is gone may have left a fault behind.
        if !self.replace(Self::NONE, mark) {
            self.replace(Self::DIED, mark);
        }
    }

    fn replace(&self, from: u64, to: u64) -> bool {
        self.0.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn clear(&self) {
        self.0.store(Self::NONE, Ordering::Relaxed);
    }

    /// Whether nothing keeps the endpoint from sending.
    #[inline(always)]
    pub(crate) fn is_clear(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::NONE
    }

    /// Whether nothing keeps the endpoint from receiving: what a peer sent before it died is still good.
    #[inline(always)]
    pub(crate) fn is_no_fault(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= Self::DIED
    }

    /// Whether the peer is gone.
    pub(crate) fn is_died(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::DIED
    }

    /// The fault of a guard, if it was one.
    #[allow(clippy::cast_possible_truncation)] // a slot's number plus a constant
    pub(crate) fn tampered(&self) -> Option<PeerFault> {
        let slot = self.0.load(Ordering::Relaxed).checked_sub(Self::SLOT)?;
        Some(PeerFault::Tampered { slot: slot as u32 })
    }
}

/// Counts allocations under way, so that a reaper can keep new ones out. Only allocators that run beside the link
/// (`ShmAllocator`) pass through it: a link's own sender cannot run while the link is being reset.
#[derive(Debug)]
pub struct Gate(AtomicU32);

/// The gate's bit that says "a reaper is at work".
const SHUT: u32 = 1 << 31;

impl Gate {
    const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Runs `work` unless a reaper is at work.
    #[cfg(feature = "allocator")]
    pub(crate) fn pass<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        // Pairs with `shut`: either the reaper sees us inside, or we see it.
        let open = self.0.fetch_add(1, Ordering::Acquire) & SHUT == 0;
        let done = open.then(work);
        self.0.fetch_sub(1, Ordering::Release);
        done
    }

    /// Keeps everybody out until [`open`](Self::open), unless somebody is inside.
    pub(crate) fn shut(&self) -> bool {
        self.0.compare_exchange(0, SHUT, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn open(&self) {
        self.0.fetch_and(!SHUT, Ordering::Release);
    }
}

/// The ledger of one endpoint, its entries wherever `S` keeps them: `Box<[LedgerEntry]>`, or an array in a `static`
/// ([`Ledger`]).
#[derive(Debug)]
pub struct LedgerIn<S> {
    gate: Gate,
    fault: FaultMark,
    entries: S,
}

/// The ledger of one endpoint with up to `N` slots, for a `static`.
///
/// ```
/// use rapace_shm_core::ledger::Ledger;
///
/// static LEDGER: Ledger<32> = Ledger::new();
/// ```
pub type Ledger<const N: usize> = LedgerIn<[LedgerEntry; N]>;

impl<const N: usize> LedgerIn<[LedgerEntry; N]> {
    /// A ledger in which nothing is held.
    #[must_use]
    pub const fn new() -> Self {
        Self::over([const { LedgerEntry::new() }; N])
    }
}

impl<const N: usize> Default for LedgerIn<[LedgerEntry; N]> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> LedgerIn<S> {
    /// A ledger over fresh entries.
    #[must_use]
    pub const fn over(entries: S) -> Self {
        Self { gate: Gate::new(), fault: FaultMark::new(), entries }
    }
}

/// A ledger as core uses it.
#[derive(Clone, Copy, Debug)]
pub struct LedgerRef<'a> {
    pub(crate) gate: &'a Gate,
    pub(crate) fault: &'a FaultMark,
    pub(crate) entries: &'a [LedgerEntry],
}

/// Something that holds a ledger.
pub trait HasLedger {
    /// The ledger.
    fn ledger(&self) -> LedgerRef<'_>;
}

impl<S: AsRef<[LedgerEntry]>> HasLedger for LedgerIn<S> {
    #[inline]
    fn ledger(&self) -> LedgerRef<'_> {
        LedgerRef { gate: &self.gate, fault: &self.fault, entries: self.entries.as_ref() }
    }
}

impl<T: HasLedger + ?Sized> HasLedger for &T {
    #[inline]
    fn ledger(&self) -> LedgerRef<'_> {
        (**self).ledger()
    }
}

impl<'a> LedgerRef<'a> {
    /// The slot's entry. There is one for every slot: attaching with a shorter ledger is refused.
    #[inline]
    pub(crate) fn entry(self, slot: u32) -> Result<&'a LedgerEntry, PeerFault> {
        #[allow(clippy::cast_possible_truncation)] // only for the message: a ledger of 2^32 entries has every slot
        self.entries.get(slot as usize).ok_or(PeerFault::SlotIndex { slot, count: self.entries.len() as u32 })
    }

    /// Says that the peer's process is gone: sends fail from now on, and receiving ends when everything that the peer had
    /// published has been received. Whoever finds out, from whatever it watches, says so here and then wakes whoever of
    /// this endpoint sleeps.
    pub fn peer_died(self) {
        self.fault.set_died();
    }

    /// Whether the peer's process is known to be gone.
    #[must_use]
    pub fn peer_has_died(self) -> bool {
        self.fault.is_died()
    }

    /// Slots that this endpoint holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.entries.iter().filter(|entry| entry.held_generation().is_some()).count()
    }

    /// Whether a guard is between letting go and having returned its slot.
    pub(crate) fn is_settled(&self) -> bool {
        !self.entries.iter().any(LedgerEntry::is_returning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_slot_cannot_be_claimed_again() {
        let entry = LedgerEntry::new();
        entry.claim(3, 1).unwrap();
        assert_eq!(entry.claim(3, 2), Err(PeerFault::AlreadyHeld { slot: 3 }));
        assert_eq!(entry.held_generation(), Some(1));
    }

    #[test]
    fn a_slot_popped_again_before_it_settled_stays_held() {
        let entry = LedgerEntry::new();
        entry.claim(0, 1).unwrap();
        entry.let_go(1);
        entry.claim(0, 2).unwrap();
        entry.settle(1);
        assert_eq!(entry.held_generation(), Some(2));
    }
}

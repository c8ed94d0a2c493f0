//! The ledger: what this endpoint holds, in its own memory, one entry per slot.
//!
//! The slab's metadata is shared, so a peer can write anything into it. The ledger is not, so it is what decides
//! whether a guard may be made: an entry is claimed by a read-modify-write before the guard exists and given back
//! when it is gone. Being offered a slot whose entry is already claimed is a [`PeerFault`].
//!
//! It also says what a dead peer's survivor owns, so that everything else can be freed, and with which share it owns
//! that: as the one who wrote it or as the one it was sent to (of lent bytes, the reaper gives back the other share). For
//! that an entry has a third state: *returning*, between the moment a guard lets go and the moment its slot is in the
//! free list, or left to the peer. A slot may be claimed out of it (it was popped, or sent here, again already), but a
//! reaper waits until it is over.
//!
//! ```text
//!           claim                       let_go                       settle
//!   free ----------> held(turn) ------------------> returning(turn) ----------> free
//!     ^                 | transfer                    | claim
//!     +-----------------+                             +-----> held(turn + 1)
//! ```
//!
//! Each claim is a new *turn*, so a guard settles its own turn only. The generation would not do: bytes that their sender
//! reads on can be sent twice in the same generation, and be let go of here by two threads at once.

use core::fmt;
use core::sync::atomic::Ordering;

use crate::atomic::{AtomicU32, AtomicU64};
use crate::fault::PeerFault;
use crate::lanes::Lanes;
use crate::layout::SlotState;

const FREE: u64 = 0;
const HELD: u64 = 1;
const RETURNING: u64 = 2;
const REAPERS: u64 = 3;

/// Where an entry's parts stand: state (2 bits), share (2), turn (28), generation (32).
const STATE: u64 = 3;
const SHARE_AT: u32 = 2;
const TURN_AT: u32 = 4;
const GENERATION_AT: u32 = 32;

/// An entry that is free, in the same turn.
#[allow(clippy::cast_possible_truncation)] // the half with the turn
const fn free_in_turn_of(word: u64) -> u64 {
    (word as u32 >> TURN_AT << TURN_AT) as u64
}

/// States in which the slot is somebody's: it cannot be claimed.
const fn is_taken(word: u64) -> bool {
    matches!(word & STATE, HELD | REAPERS)
}

/// One slot's entry: the state above, and the share and the generation that it was claimed with.
pub struct LedgerEntry(AtomicU64);

/// The turn in which a guard has let go of an entry.
#[must_use = "it is to be settled once the slot is listed, or left to the peer"]
pub(crate) struct Returning<'a> {
    entry: &'a LedgerEntry,
    word: u64,
}

impl Returning<'_> {
    /// The slot is in the free list or left to the peer, or somebody has already taken it from there (then this does
    /// nothing).
    #[inline]
    pub(crate) fn settle(self) {
        let free = free_in_turn_of(self.word);
        let _ = self.entry.0.compare_exchange(self.word, free, Ordering::Release, Ordering::Relaxed);
    }
}

impl LedgerEntry {
    /// A slot that is not held.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(FREE))
    }

    /// The entry, held in the turn after that of `seen`.
    #[allow(clippy::cast_possible_truncation)] // the half with the turn
    const fn held(seen: u64, generation: u32, share: SlotState) -> u64 {
        let turn = (free_in_turn_of(seen) as u32).wrapping_add(1 << TURN_AT);
        (generation as u64) << GENERATION_AT | turn as u64 | (share as u64) << SHARE_AT | HELD
    }

    /// Claims the slot for a guard of this generation that will own this share of it: allocated for its sender, in flight
    /// for its receiver.
    #[inline]
    pub(crate) fn claim(&self, slot: u32, generation: u32, share: SlotState) -> Result<(), PeerFault> {
        let mut seen = self.0.load(Ordering::Relaxed);
        // Twice: once more if the last holder's `settle` came in between; nothing else can turn free into free.
        for _ in 0..2 {
            if is_taken(seen) {
                break;
            }
            let held = Self::held(seen, generation, share);
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
        let seen = self.0.load(Ordering::Relaxed);
        if seen & STATE == FREE {
            let _ = self.0.compare_exchange(seen, seen | REAPERS, Ordering::Acquire, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_reapers(&self) -> bool {
        self.0.load(Ordering::Relaxed) & STATE == REAPERS
    }

    /// The slot is about to be the peer's: nothing is left to do for it here. (Only its holder may say so.) Turns start
    /// anew: this generation will not be claimed here again.
    #[inline]
    pub(crate) fn transfer(&self) {
        self.0.store(FREE, Ordering::Release);
    }

    /// The guard is done with the bytes; its slot is about to be pushed to the free list or left to the peer. (Only its
    /// holder may say so.)
    #[inline]
    pub(crate) fn let_go(&self) -> Returning<'_> {
        let word = self.0.load(Ordering::Relaxed) & !STATE | RETURNING;
        self.0.store(word, Ordering::Release);
        Returning { entry: self, word }
    }

    /// The share that this endpoint has in the slot as the number of a [`SlotState`], 0 for none; and whether a guard
    /// has not let go of it yet.
    pub(crate) fn share(&self) -> (u32, bool) {
        // Acquire pairs with the Release in `settle`: what was done to the metadata before is visible.
        let seen = self.0.load(Ordering::Acquire);
        #[allow(clippy::cast_possible_truncation)] // two bits
        ((seen >> SHARE_AT) as u32 & SlotState::Lent as u32, seen & STATE == HELD)
    }

    /// The generation of the guard that holds the slot, if one does.
    #[must_use]
    pub fn held_generation(&self) -> Option<u32> {
        let seen = self.0.load(Ordering::Acquire);
        (seen & STATE == HELD).then_some((seen >> GENERATION_AT) as u32)
    }

    fn is_returning(&self) -> bool {
        self.0.load(Ordering::Acquire) & STATE == RETURNING
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

    pub(crate) const fn new() -> Self {
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

    pub(crate) fn set_died(&self) {
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
    lanes: Lanes,
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
        Self { gate: Gate::new(), fault: FaultMark::new(), lanes: Lanes::new(), entries }
    }
}

/// A ledger as core uses it.
#[derive(Clone, Copy, Debug)]
pub struct LedgerRef<'a> {
    pub(crate) gate: &'a Gate,
    pub(crate) fault: &'a FaultMark,
    pub(crate) lanes: &'a Lanes,
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
        LedgerRef { gate: &self.gate, fault: &self.fault, lanes: &self.lanes, entries: self.entries.as_ref() }
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

    const SENT: SlotState = SlotState::InFlight;

    #[test]
    fn a_held_slot_cannot_be_claimed_again() {
        let entry = LedgerEntry::new();
        entry.claim(3, 1, SlotState::Allocated).unwrap();
        assert_eq!(entry.claim(3, 2, SENT), Err(PeerFault::AlreadyHeld { slot: 3 }));
        assert_eq!((entry.held_generation(), entry.share()), (Some(1), (1, true)));
    }

    #[test]
    fn a_slot_popped_again_before_it_settled_stays_held() {
        let entry = LedgerEntry::new();
        entry.claim(0, 1, SENT).unwrap();
        let first = entry.let_go();
        entry.claim(0, 2, SENT).unwrap();
        first.settle();
        assert_eq!(entry.held_generation(), Some(2));
    }

    #[test]
    fn a_slot_sent_here_again_in_its_generation_is_settled_by_its_own_guard_only() {
        let entry = LedgerEntry::new();
        entry.claim(0, u32::MAX, SENT).unwrap();
        let first = entry.let_go();
        entry.claim(0, u32::MAX, SENT).unwrap();
        let second = entry.let_go();
        first.settle();
        assert!(entry.is_returning());
        second.settle();
        assert_eq!((entry.is_returning(), entry.share()), (false, (0, false)));
    }

    #[test]
    fn turns_wrap_around_without_touching_the_rest() {
        let entry = LedgerEntry(AtomicU64::new(free_in_turn_of(u64::MAX)));
        entry.claim(0, 5, SENT).unwrap();
        assert_eq!((entry.held_generation(), entry.share()), (Some(5), (2, true)));
    }
}

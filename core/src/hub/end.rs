//! The host's end of a link to one plugin: the host's own endpoint, but with a fault and a death of its own, so that a
//! plugin that breaks the protocol or dies closes its own link and no other.

use core::fmt;
use core::sync::atomic::Ordering;

use super::HOST;
use crate::atomic::AtomicU32;
use crate::endpoint::{Endpoint, Event, Half, PeerId, Polled, SleepKind};
use crate::layout::{At, MAX_PEERS, Span};
use crate::ledger::{FaultMark, HasLedger, LedgerEntry, LedgerIn, LedgerRef};
use crate::region::InRegion;

/// For each plugin, what keeps the host from going on with it, and how many halves of the host's link to it are open. In
/// the host's own memory, beside its ledger.
#[derive(Debug)]
pub struct LinkMarks([LinkMark; MAX_PEERS as usize]);

#[derive(Debug)]
struct LinkMark {
    fault: FaultMark,
    open_halves: AtomicU32,
}

impl LinkMarks {
    /// No plugin has done anything wrong yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { LinkMark { fault: FaultMark::new(), open_halves: AtomicU32::new(0) } }; MAX_PEERS as usize])
    }

    /// Says that a plugin's process is gone: what waits for it, or tries to, ends.
    pub fn peer_died(&self, peer: PeerId) {
        self.of(peer).fault.set_died();
    }

    fn of(&self, peer: PeerId) -> &LinkMark {
        let [first, ..] = &self.0;
        self.0.get(usize::from(peer.0)).unwrap_or(first)
    }
}

impl Default for LinkMarks {
    fn default() -> Self {
        Self::new()
    }
}

/// Something that holds a host's marks.
pub trait HasLinkMarks {
    /// The marks.
    fn link_marks(&self) -> &LinkMarks;
}

impl<T: HasLinkMarks + ?Sized> HasLinkMarks for &T {
    fn link_marks(&self) -> &LinkMarks {
        (**self).link_marks()
    }
}

impl<R, L: HasLinkMarks> HasLinkMarks for Polled<R, L> {
    fn link_marks(&self) -> &LinkMarks {
        self.ledger_handle().link_marks()
    }
}

/// The ledger of a host, its entries wherever `S` keeps them, and its marks.
#[derive(Debug)]
pub struct HostLedgerIn<S> {
    ledger: LedgerIn<S>,
    marks: LinkMarks,
}

/// The ledger of a host of a hub of up to `N` slots, for a `static`.
pub type HostLedger<const N: usize> = HostLedgerIn<[LedgerEntry; N]>;

impl<const N: usize> HostLedgerIn<[LedgerEntry; N]> {
    /// A ledger in which nothing is held.
    #[must_use]
    pub const fn new() -> Self {
        Self::over([const { LedgerEntry::new() }; N])
    }
}

impl<const N: usize> Default for HostLedgerIn<[LedgerEntry; N]> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> HostLedgerIn<S> {
    /// A ledger over fresh entries.
    #[must_use]
    pub const fn over(entries: S) -> Self {
        Self { ledger: LedgerIn::over(entries), marks: LinkMarks::new() }
    }
}

impl<S: AsRef<[LedgerEntry]>> HasLedger for HostLedgerIn<S> {
    fn ledger(&self) -> LedgerRef<'_> {
        self.ledger.ledger()
    }
}

impl<S> HasLinkMarks for HostLedgerIn<S> {
    fn link_marks(&self) -> &LinkMarks {
        &self.marks
    }
}

/// The host's end of the link to one plugin.
#[derive(Clone)]
pub struct HostEnd<E> {
    host: E,
    peer: PeerId,
}

impl<E: Endpoint + HasLinkMarks> HostEnd<E> {
    /// A fresh end: whatever the last plugin of this number did is forgotten.
    pub(super) fn new(host: E, peer: PeerId) -> Self {
        let mark = host.link_marks().of(peer);
        mark.fault.clear();
        mark.open_halves.store(2, Ordering::Relaxed);
        Self { host, peer }
    }

    /// Whether a half of the link may still touch its rings.
    pub(super) fn is_in_use(host: &E, peer: PeerId) -> bool {
        // Acquire pairs with the Release in `half_closed`: what the half did is done.
        host.link_marks().of(peer).open_halves.load(Ordering::Acquire) != 0
    }
}

impl<E> HostEnd<E> {
    /// The host's endpoint.
    #[must_use]
    pub const fn host(&self) -> &E {
        &self.host
    }

    /// The plugin at the other end.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }
}

impl<E: InRegion> InRegion for HostEnd<E> {
    type Region = E::Region;

    #[inline]
    fn region(&self) -> &E::Region {
        self.host.region()
    }
}

impl<E: HasLedger + HasLinkMarks> HasLedger for HostEnd<E> {
    #[inline]
    fn ledger(&self) -> LedgerRef<'_> {
        LedgerRef { fault: &self.host.link_marks().of(self.peer).fault, ..self.host.ledger() }
    }
}

impl<E: Endpoint + HasLinkMarks> Endpoint for HostEnd<E> {
    fn sleep_kind(&self) -> SleepKind {
        self.host.sleep_kind()
    }

    fn wake(&self, word: At<u32>) {
        self.host.wake(word);
    }

    fn ring(&self, peer: PeerId, half: Half) {
        self.host.ring(peer, half);
    }

    fn ring_for_slot(&self, peer: PeerId) -> bool {
        self.host.ring_for_slot(peer)
    }

    fn half_closed(&self) {
        self.host.link_marks().of(self.peer).open_halves.fetch_sub(1, Ordering::Release);
    }

    #[inline(always)]
    fn note(&self, event: Event) {
        self.host.note(event);
    }

    fn back(&self, span: Span) -> bool {
        self.host.back(span)
    }

    fn extend(&self, span: Span) -> bool {
        self.host.extend(span)
    }

    #[inline]
    fn is_registered(&self) -> bool {
        self.host.is_registered()
    }

    fn has_heavy_barrier(&self) -> bool {
        self.host.has_heavy_barrier()
    }

    fn heavy_barrier(&self) -> bool {
        self.host.heavy_barrier()
    }
}

impl<E> fmt::Debug for HostEnd<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostEnd").field("host", &HOST).field("peer", &self.peer).finish_non_exhaustive()
    }
}

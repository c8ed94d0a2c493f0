//! Members of version 1.0, as those of ours see them.
//!
//! They say little: that they have come, and at most when they were last seen. They wake nobody who waits for a place in a
//! ring or for a slot in the way that ours do, but bump the word that version 1.0 has for it:
//!
//! ```text
//!   old plugin   has sent        bumps TO_HOST, and rings its doorbell
//!                has received    bumps TO_PEER
//!                has freed       bumps SLOT_AVAILABLE of that class
//!   old host     has sent        bumps TO_PEER, and rings the plugin's doorbell
//!                has received    bumps TO_HOST
//!                has freed       bumps SLOT_AVAILABLE of that class
//! ```
//!
//! So whoever waits for room beside one looks at these words now and then.

use core::sync::atomic::Ordering;

use super::pool::HubAllocator;
use crate::endpoint::PeerId;
use crate::layout::{HubHeader, PEER_FLAG_ACTIVE, PEER_FLAG_RESERVED, PeerEntry, PeerState, SizeClassHeader};
use crate::region::{Region, Word};

impl HubAllocator {
    /// Whether the hub's host is of version 1.0.
    #[must_use]
    pub fn has_old_host<R: Region>(&self, region: &R) -> bool {
        region.u32(HubHeader::HOST_STATE).load(Ordering::Relaxed) == PeerState::Unknown as u32
    }

    /// Whether a member is, or may become, one of version 1.0: then not everybody who frees a slot wakes whoever waits.
    #[must_use]
    pub fn has_old_members<R: Region>(&self, region: &R) -> bool {
        self.has_old_host(region) || (1..self.places.max_peers()).any(|id| self.is_old_plugin(region, PeerId(id)))
    }

    /// Whether a number was given to a plugin of version 1.0.
    fn is_old_plugin<R: Region>(&self, region: &R, id: PeerId) -> bool {
        let read = |field| region.u32(self.places.entry(id, field)).load(Ordering::Relaxed);
        read(PeerEntry::FLAGS) & (PEER_FLAG_ACTIVE | PEER_FLAG_RESERVED) != 0
            && read(PeerEntry::STATE) == PeerState::Unknown as u32
    }

    /// Whether a plugin of version 1.0 has come with this number: it has registered, or sent or received without.
    #[must_use]
    pub fn old_plugin_has_come<R: Region>(&self, region: &R, id: PeerId) -> bool {
        self.is_old_plugin(region, id)
            && (region.u32(self.places.entry(id, PeerEntry::FLAGS)).load(Ordering::Relaxed) & PEER_FLAG_ACTIVE != 0
                || region.u64(self.places.entry(id, PeerEntry::EPOCH)).load(Ordering::Relaxed) != 0)
    }

    /// All that a member of version 1.0 bumps when it makes room on the link to a plugin, or in a size class: a number that
    /// is another one whenever it has (but for once in 2^32 times).
    #[must_use]
    pub fn old_signals<R: Region>(&self, region: &R, id: PeerId) -> u32 {
        // Acquire pairs with the Release of whoever bumps.
        let read = |word| region.u32(word).load(Ordering::Acquire);
        let link = [PeerEntry::TO_HOST, PeerEntry::TO_PEER].map(|field| read(self.places.entry(id, field)));
        let classes = self.places.classes().map(|class| read(class.word(SizeClassHeader::SLOT_AVAILABLE)));
        classes.chain(link).fold(0, u32::wrapping_add)
    }

    /// Writes a plugin's heartbeat, for a host of version 1.0 to see: when it was last seen, in nanoseconds of the wall
    /// clock since 1970, and that once more.
    pub fn beat<R: Region>(&self, region: &R, nanoseconds_since_1970: u64) {
        let word = |field| region.u64(self.places.entry(self.owner(), field));
        word(PeerEntry::LAST_SEEN).store(nanoseconds_since_1970, Ordering::Release);
        let epoch = word(PeerEntry::EPOCH);
        epoch.store(epoch.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

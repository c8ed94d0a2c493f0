//! A list of free slots: Treiber's stack, with a 32-bit tag in the head against ABA.
//!
//! ```text
//!   head --> slot 3 --> slot 0 --> end        the links are where the pool keeps them
//!   tag 17
//!
//!   popper (slow)                     others
//!   head = (slot 3, tag 17)
//!   next = link of 3 = 0
//!                                     pop 3, pop 0, push 3      head = (slot 3, tag 20)
//!   CAS (3,17) -> (0,18): fails, the tag differs; without it slot 0 would be free and taken at once
//! ```
//!
//! `next` may be read from a slot that somebody else has just taken and is writing payload into. It is speculative:
//! a relaxed atomic read, used only if the tagged compare-exchange that follows succeeds, and that one cannot succeed
//! if the slot was taken.

use core::sync::atomic::Ordering;

use crate::fault::PeerFault;
use crate::layout::{At, FREE_LIST_END};
use crate::region::{Region, Word};

/// How often a compare-exchange on a shared word is tried. Each failure means that somebody else succeeded, so a list
/// in use settles after a few; a peer that rewrites the word in a loop is a fault.
pub(crate) const TRIES: u32 = 1 << 16;

/// Where the links of a pool's slots are.
pub(crate) trait Links {
    /// Slots that exist, or may exist one day.
    fn count(&self) -> u32;
    /// The link of a slot that exists.
    fn link(&self, slot: u32) -> At<u32>;
    /// Says that a slot that exists is about to be taken: before every try to take it, and before its link is read. A
    /// session's slab asks for its cache lines, a hub announces it to whoever cleans up after a death.
    fn will_take<R: Region>(&self, region: &R, slot: u32);

    /// Says that a slot below [`count`](Self::count) is the one that the next pop will probably take: that pop would wait
    /// for its link. A hint, of a peer's word.
    #[inline(always)]
    fn comes_next<R: Region>(&self, region: &R, slot: u32) {
        let _ = (region, slot);
    }

    /// Makes sure that a slot below [`count`](Self::count) exists and can be touched. Where all do from the beginning,
    /// nothing.
    ///
    /// # Errors
    /// It does not, or cannot.
    #[inline(always)]
    fn reach(&self, slot: u32) -> Result<(), PeerFault> {
        let _ = slot;
        Ok(())
    }

    /// Where a link of the list leads: a slot, or nowhere.
    ///
    /// # Errors
    /// [`PeerFault::FreeLink`]: `from` leads to a slot that cannot exist; what [`reach`](Self::reach) refuses.
    #[inline(always)]
    fn check(&self, from: u32, next: u32) -> Result<Option<u32>, PeerFault> {
        if next < self.count() {
            self.reach(next)?;
            return Ok(Some(next));
        }
        if next == FREE_LIST_END { Ok(None) } else { Err(self.leads_nowhere(from, next)) }
    }

    #[cold]
    fn leads_nowhere(&self, slot: u32, next: u32) -> PeerFault {
        PeerFault::FreeLink { slot, next, count: self.count() }
    }
}

/// A list: where its head is, and how the head writes "no slot".
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreeList {
    head: At<u64>,
    /// What the head's low half is more than the first slot.
    bias: u32,
}

/// The head of a list, read.
#[derive(Clone, Copy)]
struct Head {
    first: u32,
    tag: u32,
}

impl Head {
    /// The head after a change that makes `first` the first slot.
    #[inline(always)]
    const fn then(self, first: u32) -> Self {
        Self { first, tag: self.tag.wrapping_add(1) }
    }
}

/// The first slot of a chain that was taken off a list, and where it leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) slot: u32,
    pub(crate) next: u32,
}

impl Taken {
    /// The slot that a link leads to, if it leads to one.
    pub(crate) fn at<R: Region>(region: &R, links: &impl Links, next: u32) -> Result<Option<Self>, PeerFault> {
        let Some(slot) = links.check(FREE_LIST_END, next)? else { return Ok(None) };
        Ok(Some(Self { slot, next: region.u32(links.link(slot)).load(Ordering::Relaxed) }))
    }
}

impl FreeList {
    /// A list whose head is the first slot, and all ones when it is empty.
    #[inline(always)]
    pub(crate) const fn version_1(head: At<u64>) -> Self {
        Self { head, bias: 0 }
    }

    /// A list whose head is one more than the first slot, and zero when it is empty.
    #[inline(always)]
    pub(crate) const fn zero_is_empty(head: At<u64>) -> Self {
        Self { head, bias: 1 }
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // the two halves of the word
    const fn read(self, word: u64) -> Head {
        Head { first: (word as u32).wrapping_sub(self.bias), tag: (word >> 32) as u32 }
    }

    #[inline(always)]
    const fn word(self, head: Head) -> u64 {
        (head.tag as u64) << 32 | head.first.wrapping_add(self.bias) as u64
    }

    /// Writes the head of a list that nobody uses yet, tag 0.
    pub(crate) fn init<R: Region>(self, region: &R, first: u32) {
        region.u64(self.head).store(self.word(Head { first, tag: 0 }), Ordering::Relaxed);
    }

    /// Takes the first slot.
    #[inline]
    pub(crate) fn pop<R: Region>(self, region: &R, links: &impl Links) -> Result<Option<u32>, PeerFault> {
        let shared = region.u64(self.head);
        // Acquire (here and on failure) pairs with the Release in `push`: the link below the head is visible.
        let mut word = shared.load(Ordering::Acquire);
        for _ in 0..TRIES {
            let head = self.read(word);
            let Some(slot) = links.check(FREE_LIST_END, head.first)? else { return Ok(None) };
            links.will_take(region, slot);
            let next = region.u32(links.link(slot)).load(Ordering::Relaxed);
            // AcqRel: Release keeps the read of the link above it.
            match shared.compare_exchange(word, self.word(head.then(next)), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if next < links.count() {
                        links.comes_next(region, next);
                    }
                    return Ok(Some(slot));
                }
                Err(now) => word = now,
            }
        }
        Err(PeerFault::NeverSettles { tries: TRIES })
    }

    /// Puts a slot that is the caller's alone in front.
    #[inline]
    pub(crate) fn push<R: Region>(self, region: &R, links: &impl Links, slot: u32) -> Result<(), PeerFault> {
        let shared = region.u64(self.head);
        let mut word = shared.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            let head = self.read(word);
            region.u32(links.link(slot)).store(head.first, Ordering::Relaxed);
            // Release pairs with the Acquire in `pop`; everything this endpoint did with the slot is before it.
            match shared.compare_exchange(word, self.word(head.then(slot)), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
        Err(PeerFault::NeverSettles { tries: TRIES })
    }

    /// Takes all of it, as a chain that is the caller's alone. (Not a swap: the tag has to grow.)
    pub(crate) fn take_all<R: Region>(self, region: &R, links: &impl Links) -> Result<Option<Taken>, PeerFault> {
        let shared = region.u64(self.head);
        // As in `pop`.
        let mut word = shared.load(Ordering::Acquire);
        for _ in 0..TRIES {
            let head = self.read(word);
            if head.first == FREE_LIST_END {
                return Ok(None);
            }
            let empty = self.word(head.then(FREE_LIST_END));
            match shared.compare_exchange(word, empty, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Taken::at(region, links, head.first),
                Err(now) => word = now,
            }
        }
        Err(PeerFault::NeverSettles { tries: TRIES })
    }

    /// Makes a chain that is the caller's alone this list, which was empty a moment ago; says whether there was one. If
    /// somebody has returned a slot since, the chain goes in front of it, slot by slot.
    pub(crate) fn adopt<R: Region>(self, region: &R, links: &impl Links, first: u32) -> Result<bool, PeerFault> {
        let Some(mut taken) = Taken::at(region, links, first)? else { return Ok(false) };
        let shared = region.u64(self.head);
        let word = shared.load(Ordering::Relaxed);
        let head = self.read(word);
        // Release pairs with the Acquire in `pop`: the links of the chain are visible to whoever follows them.
        let whole = || shared.compare_exchange(word, self.word(head.then(first)), Ordering::AcqRel, Ordering::Relaxed);
        if head.first == FREE_LIST_END && whole().is_ok() {
            return Ok(true);
        }
        // No chain is longer than there are slots.
        for _ in 0..links.count() {
            self.push(region, links, taken.slot)?;
            let Some(next) = Taken::at(region, links, taken.next)? else { break };
            taken = next;
        }
        Ok(true)
    }

    /// Slots met on a walk along the list, at most as many as there are.
    pub(crate) fn len<R: Region>(self, region: &R, links: &impl Links) -> u32 {
        let mut next = self.read(region.u64(self.head).load(Ordering::Acquire)).first;
        let mut met = 0;
        while let (true, Ok(Some(slot))) = (met < links.count(), links.check(FREE_LIST_END, next)) {
            met += 1;
            next = region.u32(links.link(slot)).load(Ordering::Relaxed);
        }
        met
    }

    /// Whether there was nothing in it a moment ago.
    pub(crate) fn is_empty<R: Region>(self, region: &R) -> bool {
        self.read(region.u64(self.head).load(Ordering::Acquire)).first == FREE_LIST_END
    }
}

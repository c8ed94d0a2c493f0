//! The two guards that own a slot: [`Loan`], being written, and [`Payload`], being read. (The third, for bytes that their
//! sender goes on reading, is [`Frozen`].)

use core::fmt;
use core::ops::{Deref, DerefMut};

use crate::endpoint::Endpoint;
use crate::layout::{INLINE_PAYLOAD_SIZE, Line, MsgDescHot, SlotState, Span};
use crate::region::{ByteRegion, Held, Region, SlotRights, held_bytes};
use crate::slots::{DataSegment, Slot, SlotPool, give_back};

/// A slot that this endpoint holds; dropped, it goes back to the free list, unless the other side has a share in it.
pub(super) struct Guard<E: Endpoint, P: SlotPool> {
    pub(super) held: Held<E>,
    pub(super) pool: P,
    pub(super) slot: Slot,
    state: SlotState,
    /// Where in the slot the bytes of a message to be sent start, in bytes. (Here, where there is room for it: the guard
    /// is moved about.)
    start: u32,
}

impl<E: Endpoint, P: SlotPool> Guard<E, P> {
    /// `state` is this endpoint's share: allocated or in flight.
    #[inline]
    pub(super) fn new(held: Held<E>, pool: P, slot: Slot, state: SlotState) -> Self {
        Self { held, pool, slot, state, start: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.held.span().len
    }

    /// What to write into the ring for `len` of these bytes, from the one at `from` on.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // at most a slot's size, which is a u32
    pub(super) fn line(&self, descriptor: &MsgDescHot, from: usize, len: usize) -> Line {
        let Slot { reference, generation } = self.slot;
        descriptor.line_with_slot(reference, generation, self.start + from as u32, len as u32)
    }

    /// Gives the slot to the peer; nothing is left to give back.
    #[inline(always)]
    fn send(&mut self) -> Result<(), crate::PeerFault> {
        self.state = SlotState::Free;
        self.pool.send(&self.held.endpoint, self.slot, SlotRights::OF_A_GUARD)
    }
}

impl<E: Endpoint, P: SlotPool> Drop for Guard<E, P> {
    #[inline]
    fn drop(&mut self) {
        if self.state == SlotState::Free {
            return;
        }
        give_back(&self.pool, &self.held.endpoint, self.slot, self.state);
    }
}

/// A slot on loan for a message that is being written, straight in shared memory.
///
/// It holds whatever the slot held before, maybe bytes of another message of this session; [`zero`](Self::zero)
/// clears it. Dropped unsent, the slot goes back. It may move to another thread, and it keeps the region mapped.
#[must_use = "a loan that is not sent goes back unused"]
pub struct Loan<E: Endpoint, P: SlotPool = DataSegment> {
    guard: Guard<E, P>,
    written: usize,
}

impl<E: Endpoint, P: SlotPool> Loan<E, P> {
    #[inline]
    pub(crate) fn new(held: Held<E>, pool: P, slot: Slot) -> Self {
        Self { guard: Guard::new(held, pool, slot, SlotState::Allocated), written: 0 }
    }

    /// A loan whose bytes start `start` bytes from the start of the slot.
    #[cfg(feature = "allocator")]
    pub(crate) fn starting_at(start: u32, held: Held<E>, pool: P, slot: Slot) -> Self {
        let mut loan = Self::new(held, pool, slot);
        loan.guard.start = start;
        loan
    }

    #[inline]
    pub(crate) fn endpoint(&self) -> &E {
        &self.guard.held.endpoint
    }

    /// Hands the slot over to the peer; says what to write into the ring. The loan is to be dropped, whatever comes of it.
    #[inline(always)]
    pub(crate) fn send(&mut self, descriptor: &MsgDescHot) -> Result<Line, crate::PeerFault> {
        self.guard.send()?;
        Ok(self.guard.line(descriptor, 0, self.len()))
    }

    pub(super) fn into_guard(self) -> Guard<E, P> {
        self.guard
    }

    /// Length of the message in bytes: what was asked for, unless truncated.
    #[must_use]
    pub fn len(&self) -> usize {
        self.guard.len()
    }

    /// Whether the message has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shortens the message to `len` bytes; does nothing if it is not longer.
    pub fn truncate(&mut self, len: usize) {
        self.guard.held.truncate(len);
    }

    /// Copies bytes in behind those copied in before, as far as there is room; returns how many.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let mut rest = self.guard.held.span();
        rest.offset += self.written.min(rest.len);
        rest.len -= self.written.min(rest.len);
        let count = self.endpoint().region().copy_in(rest, bytes);
        self.written += count;
        count
    }

    /// Bytes that [`append`](Self::append) (and `io::Write`) have copied in: what to truncate to afterwards.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }

    /// The slot's number and generation, as they will stand in the descriptor.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.guard.slot
    }

    /// Zeroes every byte of the message.
    pub fn zero(&mut self) {
        let span = self.guard.held.span();
        self.endpoint().region().clear(span);
    }
}

impl<E: Endpoint, P: SlotPool> Deref for Loan<E, P>
where
    E::Region: ByteRegion,
{
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.guard.held
    }
}

impl<E: Endpoint, P: SlotPool> DerefMut for Loan<E, P>
where
    E::Region: ByteRegion,
{
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.guard.held
    }
}

/// Writes behind what was written before; a full loan takes no more bytes.
#[cfg(feature = "std")]
impl<E: Endpoint, P: SlotPool> std::io::Write for Loan<E, P> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(self.append(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<E: Endpoint, P: SlotPool> fmt::Debug for Loan<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loan").field("slot", &self.slot()).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The bytes of a received message, where the sender wrote them.
///
/// It outlives the call that received it and may move to another thread; it keeps the region mapped. Dropped, its
/// slot goes back to the free list: holding many payloads is what makes senders wait.
pub struct Payload<E: Endpoint, P: SlotPool = DataSegment>(Bytes<E, P>);

enum Bytes<E: Endpoint, P: SlotPool> {
    Inline { bytes: [u8; INLINE_PAYLOAD_SIZE], len: usize },
    Slot(Guard<E, P>),
}

impl<E: Endpoint, P: SlotPool> Payload<E, P> {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Bytes::Inline { len, .. } => *len,
            Bytes::Slot(guard) => guard.len(),
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slot that holds the bytes, unless they came inside the descriptor.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        match &self.0 {
            Bytes::Inline { .. } => None,
            Bytes::Slot(guard) => Some(guard.slot),
        }
    }
}

impl<E: Endpoint, P: SlotPool> Deref for Payload<E, P>
where
    E::Region: ByteRegion,
{
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline { bytes, len } => bytes.get(..*len).unwrap_or(bytes),
            Bytes::Slot(guard) => &guard.held,
        }
    }
}

impl<E: Endpoint, P: SlotPool> AsRef<[u8]> for Payload<E, P>
where
    E::Region: ByteRegion,
{
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<E: Endpoint, P: SlotPool> fmt::Debug for Payload<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("slot", &self.slot()).field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A received message: its descriptor, and the bytes that came with it. Dropped, the slot of the bytes goes back.
///
/// It is a slot's guard taken apart, so that every byte of it is initialised even where there is no slot: then a message
/// is made in registers and never copied. (A copy of what was just written in parts waits until every store before has
/// left the core, the last message's among them.)
pub struct Message<E: Endpoint, P: SlotPool = DataSegment> {
    descriptor: MsgDescHot,
    /// Whose slot the payload is in. `None`: it is in the descriptor, and its length was checked.
    endpoint: Option<E>,
    pool: P,
}

impl<E: Endpoint, P: SlotPool> Message<E, P> {
    /// A message whose payload is in its descriptor.
    #[inline(always)]
    pub(super) fn inline(descriptor: MsgDescHot, pool: P) -> Self {
        Self { descriptor, endpoint: None, pool }
    }

    /// A message whose payload is in the slot that it names, which the pool has just accepted.
    #[inline(always)]
    pub(super) fn in_slot(descriptor: MsgDescHot, endpoint: E, pool: P) -> Self {
        Self { descriptor, endpoint: Some(endpoint), pool }
    }

    /// Where in its slot the payload is.
    #[inline(always)]
    fn span(&self) -> Span {
        self.pool.span(&self.descriptor)
    }

    /// The slot's guard, once.
    #[inline(always)]
    fn take_guard(&mut self) -> Option<Guard<E, P>> {
        let endpoint = self.endpoint.take()?;
        let MsgDescHot { payload_slot: reference, payload_generation: generation, .. } = self.descriptor;
        let slot = Slot { reference, generation };
        Some(Guard::new(Held::new(endpoint, self.span()), self.pool, slot, SlotState::InFlight))
    }

    /// The descriptor as it was sent.
    #[must_use]
    #[inline]
    pub fn descriptor(&self) -> &MsgDescHot {
        &self.descriptor
    }

    /// Length of the payload in bytes.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.descriptor.payload_len as usize
    }

    /// Whether the payload has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, without their descriptor.
    #[must_use]
    pub fn into_payload(mut self) -> Payload<E, P> {
        Payload(match self.take_guard() {
            Some(guard) => Bytes::Slot(guard),
            None => Bytes::Inline { bytes: self.descriptor.inline_payload, len: self.len() },
        })
    }

    /// Copies the payload out, as much as fits; returns how many bytes. For regions whose bytes no slice can point to.
    pub fn copy_to(&self, into: &mut [u8]) -> usize {
        match &self.endpoint {
            Some(endpoint) => endpoint.region().copy_out(self.span(), into),
            None => {
                let bytes = self.inline_bytes();
                into.iter_mut().zip(bytes).map(|(to, from)| *to = *from).count()
            }
        }
    }

    #[inline]
    fn inline_bytes(&self) -> &[u8] {
        self.descriptor.inline_payload.get(..self.len()).unwrap_or(&[])
    }
}

impl<E: Endpoint, P: SlotPool> Message<E, P>
where
    E::Region: ByteRegion,
{
    /// The payload's bytes, where the sender wrote them.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &[u8] {
        match &self.endpoint {
            Some(endpoint) => held_bytes(endpoint, self.span()),
            None => self.inline_bytes(),
        }
    }
}

impl<E: Endpoint, P: SlotPool> Drop for Message<E, P> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.endpoint.is_some() {
            drop(self.take_guard());
        }
    }
}

impl<E: Endpoint, P: SlotPool> fmt::Debug for Message<E, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

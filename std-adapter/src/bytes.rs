//! Bytes in a slot that many may read: the sender before, during and after the flight, and the peer.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use rapace_shm_core::link;
use rapace_shm_core::slots::Slot;

use crate::endpoint::{Loan, ShmEndpoint};

/// Immutable bytes in shared memory, cheap to clone and to slice, which are sent without a copy and stay readable.
///
/// ```text
///   clone, clone, slice          one slot of the session           the peer's payload
///   let go, let go, let go  ---> freed when both sides have <----  lets go
/// ```
///
/// They are made from a [`Loan`] (or, with the feature `allocator`, from a vector that was born in a slot) and sent with
/// [`Sender::send_bytes`](crate::Sender::send_bytes). That copies them only while an earlier flight of the same slot is
/// not over, for a version 1.0 peer, and if they have at most 16 bytes.
///
/// ```
/// use rapace_shm::{MsgDescHot, ShmBytes, ShmSession, ShmSessionConfig};
///
/// let (mut a, mut b) = ShmSession::pair(ShmSessionConfig::default())?;
/// let mut loan = a.split().0.loan(1000)?;
/// loan.fill(7);
/// let bytes = ShmBytes::from(loan);
/// a.split().0.send_bytes(&MsgDescHot::data(1), &bytes)?;
/// let received = b.split().1.recv()?;
/// assert_eq!(received.payload(), &bytes[..]); // both read the same bytes
/// # Ok::<(), rapace_shm::Error>(())
/// ```
///
/// A clone keeps the whole slot, however short the slice, and the segment mapped.
#[derive(Clone, Default)]
pub struct ShmBytes {
    /// `None`: no bytes, so no slot either.
    slot: Option<Arc<Frozen>>,
    /// Which of the slot's bytes; always within.
    range: Range<usize>,
}

pub(crate) type Frozen = link::Frozen<ShmEndpoint>;

impl ShmBytes {
    /// No bytes, in no slot.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Some of these bytes, without a copy; `None` if the range (in bytes) does not lie within.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let range = self.range.start + range.start..self.range.start + range.end;
        Some(Self { slot: self.slot.clone(), range })
    }

    pub(crate) fn all_of(slot: Arc<Frozen>) -> Self {
        let range = 0..slot.len();
        Self { slot: Some(slot), range }
    }

    /// Where they are: in which slot, and which of the bytes that were frozen there. `None` for no bytes.
    #[must_use]
    pub fn location(&self) -> Option<(Slot, Range<usize>)> {
        self.slot.as_ref().map(|frozen| (frozen.slot(), self.range.clone()))
    }

    /// What core sends; `None` for no bytes.
    pub(crate) fn in_slot(&self) -> Option<link::FrozenSlice<'_, ShmEndpoint>> {
        self.slot.as_deref()?.slice(self.range.clone())
    }
}

impl From<Loan> for ShmBytes {
    fn from(loan: Loan) -> Self {
        let frozen = Arc::new(loan.freeze());
        frozen.endpoint().note(&frozen);
        Self::all_of(frozen)
    }
}

#[cfg(feature = "allocator")]
impl<T> From<crate::ShmVec<T>> for ShmBytes
where
    T: zerocopy::IntoBytes + zerocopy::Immutable + Copy,
{
    fn from(vec: crate::ShmVec<T>) -> Self {
        // What comes back has no bytes.
        crate::ShmAllocator::loan_of_vec(vec).map_or_else(|_| Self::new(), Self::from)
    }
}

impl Deref for ShmBytes {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.slot.as_deref().and_then(|slot| slot.get(self.range.clone())).unwrap_or_default()
    }
}

impl AsRef<[u8]> for ShmBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for ShmBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ShmBytes {}

impl fmt::Debug for ShmBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmBytes")
            .field("slot", &self.slot.as_deref().map(Frozen::slot))
            .field("range", &self.range)
            .finish()
    }
}

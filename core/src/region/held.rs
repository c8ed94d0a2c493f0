//! Slices of shared bytes, each under a claim in the ledger. [`super`] has the numbered invariants.

#![allow(unsafe_code)]

use core::fmt;
use core::ops::{Deref, DerefMut};

use super::{ByteRegion, InRegion};
use crate::layout::Span;

/// The bytes of a slot that an endpoint holds: what [`Loan`](crate::link::Loan) and
/// [`Payload`](crate::link::Payload) dereference to.
///
/// Only this crate makes one, right after it has claimed the slot in the ledger, and gives the claim back when the
/// `Held` is gone (invariant 4).
pub struct Held<E> {
    pub(crate) endpoint: E,
    span: Span,
}

impl<E> Held<E> {
    /// `span` lies in the slot that the caller has just claimed in the endpoint's ledger.
    #[inline]
    pub(crate) fn new(endpoint: E, span: Span) -> Self {
        Self { endpoint, span }
    }

    #[inline]
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    #[inline]
    pub(crate) fn truncate(&mut self, len: usize) {
        self.span.len = self.span.len.min(len);
    }
}

/// The right to move slots from state to state below the guards. Whoever frees a slot under somebody's
/// [`Loan`](crate::link::Loan) makes its bytes somebody else's too, so it is not to be had by safe code.
#[derive(Clone, Copy, Debug)]
pub struct SlotRights(());

impl SlotRights {
    /// What the guards and the allocator of this crate act by: each for the one slot that it claimed (invariant 4).
    pub(crate) const OF_A_GUARD: Self = Self(());

    /// The right, for whoever uses a [`SlotPool`](crate::slots::SlotPool) without guards: to measure it, or to build
    /// something else on it.
    ///
    /// # Safety
    /// It is used only for slots that the caller took from the pool, by `allocate` or `accept`, through the same endpoint;
    /// not for one of a guard or of an allocation.
    #[must_use]
    pub const unsafe fn without_guards() -> Self {
        Self(())
    }
}

/// What a [`Held`] of this endpoint and span dereferences to, for whoever keeps the two apart: the caller holds the
/// claim, and keeps it while the slice is borrowed (invariant 4).
#[inline]
pub(crate) fn held_bytes<E>(endpoint: &E, span: Span) -> &[u8]
where
    E: InRegion,
    E::Region: ByteRegion,
{
    match endpoint.region().bytes(span) {
        // SAFETY: readable for as long as the endpoint keeps the region (`ByteRegion`), and by invariant 4 nobody of
        // this endpoint writes there while it is borrowed.
        Some(address) => unsafe { core::slice::from_raw_parts(address.as_ptr(), span.len) },
        None => &[],
    }
}

impl<E> Deref for Held<E>
where
    E: InRegion,
    E::Region: ByteRegion,
{
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        held_bytes(&self.endpoint, self.span)
    }
}

impl<E> DerefMut for Held<E>
where
    E: InRegion,
    E::Region: ByteRegion,
{
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self.endpoint.region().bytes(self.span) {
            // SAFETY: as in `held_bytes`; `&mut self` is the only `Held` of the slot (invariant 4).
            Some(address) => unsafe { core::slice::from_raw_parts_mut(address.as_ptr(), self.span.len) },
            None => &mut [],
        }
    }
}

impl<E> fmt::Debug for Held<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("span", &self.span).finish_non_exhaustive()
    }
}

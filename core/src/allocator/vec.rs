//! Vectors that are born in a slot and sent from there (features `allocator` and `std`).
//!
//! ```
//! # use rapace_shm_core::{endpoint::Polled, ledger::Ledger, link::Link, region::Memory};
//! # use rapace_shm_core::layout::{MsgDescHot, ShmSessionConfig};
//! use rapace_shm_core::allocator::shm_vec_with_capacity;
//!
//! # static MEMORY: Memory<16_384> = Memory::new();
//! # static A: Ledger<32> = Ledger::new();
//! # static B: Ledger<32> = Ledger::new();
//! # let config = ShmSessionConfig { ring_capacity: 16, slot_size: 256, slot_count: 32 };
//! # let region = MEMORY.take().unwrap();
//! # let (mut tx, _a) = Link::create(Polled::new(region, &A), config)?.into_split();
//! # let (_b, mut rx) = Link::attach(Polled::new(region, &B))?.into_split();
//! let mut numbers = shm_vec_with_capacity::<u64, _>(&tx.allocator(), 20)?;
//! numbers.extend(0..20);
//! tx.try_send_vec(&MsgDescHot::data(1), numbers)?; // where it is
//! assert_eq!(rx.try_recv()?.unwrap().payload()[8..16], 1_u64.to_ne_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//!   slot:   header, 16 bytes | padding up to T's alignment | the elements | room
//!                                                          ^ payload_offset
//! ```

use core::ptr::NonNull;

use allocator_api2::vec::Vec;
use zerocopy::{Immutable, IntoBytes};

use super::ShmAllocator;
use crate::endpoint::Endpoint;
use crate::layout::{INLINE_PAYLOAD_SIZE, MsgDescHot};
use crate::link::{Loan, SendError, Sender, Unsent};
use crate::region::ByteRegion;
use crate::wake::Step;

/// A vector in a slot.
pub type ShmVec<T, E> = Vec<T, ShmAllocator<E>>;

/// A vector in a slot with room for `capacity` elements.
///
/// # Errors
/// [`SendError::TooLarge`] if that is more than a slot can have, with both lengths in bytes; [`SendError::NoSlot`] if
/// no slot is free.
pub fn shm_vec_with_capacity<T, E>(allocator: &ShmAllocator<E>, capacity: usize) -> Result<ShmVec<T, E>, SendError>
where
    E: Endpoint,
    E::Region: ByteRegion,
{
    let (len, max) = (capacity.saturating_mul(size_of::<T>()), allocator.max_size_aligned_to(align_of::<T>()));
    if len > max {
        return Err(SendError::TooLarge { len, max });
    }
    let mut vec = Vec::new_in(allocator.clone());
    vec.try_reserve_exact(capacity).map_err(|_| SendError::NoSlot)?;
    Ok(vec)
}

/// A vector in a slot with a copy of these bytes.
///
/// # Errors
/// As [`shm_vec_with_capacity`].
pub fn shm_vec<E>(allocator: &ShmAllocator<E>, bytes: &[u8]) -> Result<ShmVec<u8, E>, SendError>
where
    E: Endpoint,
    E::Region: ByteRegion,
{
    let mut vec = shm_vec_with_capacity(allocator, bytes.len())?;
    vec.extend_from_slice(bytes);
    Ok(vec)
}

impl<E> ShmAllocator<E>
where
    E: Endpoint,
    E::Region: ByteRegion,
{
    /// Makes a vector's bytes a loan, where they are; an empty vector is in no slot and comes back.
    ///
    /// (`Copy` says that there is no destructor to be run. Elements that have one cannot be sent.)
    ///
    /// # Errors
    /// The vector, which has no bytes.
    pub fn loan_of_vec<T: IntoBytes + Immutable + Copy>(vec: ShmVec<T, E>) -> Result<Loan<E>, ShmVec<T, E>> {
        let len = size_of_val(vec.as_slice());
        let start = NonNull::from(vec.as_slice()).cast();
        if len == 0 {
            return Err(vec);
        }
        // SAFETY: the vector is not empty, so its bytes are an allocation of its allocator. `len` of them are initialised,
        // padding included (`IntoBytes`). Nobody uses or deallocates them once it is made a loan, see below.
        let loan = unsafe { vec.allocator().loan_of(start, len) };
        let Some(loan) = loan else { return Err(vec) };
        // Taken apart, the vector deallocates nothing.
        let (.., allocator) = vec.into_raw_parts_with_alloc();
        drop(allocator);
        Ok(loan)
    }
}

impl<E> Sender<E>
where
    E: Endpoint,
    E::Region: ByteRegion,
{
    /// Sends a vector's elements, as bytes, from the slot that they are in. Up to 16 bytes go inside the descriptor, and
    /// the slot is free at once.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send), or [`SendError::ForeignLoan`] for a vector in another session's slot; the vector
    /// comes back.
    pub fn try_send_vec<T: IntoBytes + Immutable + Copy>(
        &mut self,
        descriptor: &MsgDescHot,
        vec: ShmVec<T, E>,
    ) -> Result<(), Unsent<ShmVec<T, E>>> {
        let mut vec = Some(vec);
        let sent = self.feed_vec(descriptor, &mut vec);
        self.flush();
        match (sent, vec) {
            (Err(error), Some(loan)) => Err(Unsent { error, loan }),
            // As for a loan that is gone.
            _ => Ok(()),
        }
    }

    /// Sends a vector's elements and leaves `None`, or says what to sleep on and leaves the vector.
    ///
    /// # Errors
    /// Whatever makes sending impossible; the vector stays unless its slot is what is at fault.
    pub fn poll_send_vec<T: IntoBytes + Immutable + Copy>(
        &mut self,
        descriptor: &MsgDescHot,
        vec: &mut Option<ShmVec<T, E>>,
    ) -> Result<Step<()>, SendError> {
        self.poll(|sender| {
            sender.feed_vec(descriptor, vec)?;
            sender.flush();
            Ok(())
        })
    }

    /// Puts a vector's elements into the ring where they lie, leaving `None`; the peer does not see them before
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    /// As [`try_send_vec`](Self::try_send_vec); the vector stays unless its slot is what is at fault.
    pub fn feed_vec<T: IntoBytes + Immutable + Copy>(
        &mut self,
        descriptor: &MsgDescHot,
        vec: &mut Option<ShmVec<T, E>>,
    ) -> Result<(), SendError> {
        let Some(held) = vec else { return Ok(()) };
        self.check_own(&held.allocator().endpoint)?;
        let bytes = held.as_slice().as_bytes();
        if bytes.len() <= INLINE_PAYLOAD_SIZE {
            self.feed(descriptor, bytes)?;
            *vec = None;
            return Ok(());
        }
        self.make_way()?;
        match vec.take().map(ShmAllocator::loan_of_vec) {
            Some(Ok(mut loan)) => {
                let line = loan.send(descriptor);
                drop(loan);
                self.put(line)
            }
            // It has bytes, so it is in a slot.
            other => {
                *vec = other.and_then(Result::err);
                Err(SendError::ForeignLoan)
            }
        }
    }
}

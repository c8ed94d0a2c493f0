//! Sending what is in a slot already and is no loan: bytes that are read on, and vectors.

use std::time::Instant;

use rapace_shm_core::layout::MsgDescHot;
use rapace_shm_core::link::SendError;
use rapace_shm_core::wake::Step;

use super::{Sender, unless_full};
use crate::bytes::ShmBytes;
use crate::error::Error;
use crate::wait::until_ready;

impl Sender {
    /// Sends bytes that stay readable here, without a copy where that can be; waits for room. When they are copied is
    /// said at [`ShmBytes`].
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::ForeignLoan`] or [`Error::PeerFault`]; nothing was sent.
    pub fn send_bytes(&mut self, descriptor: &MsgDescHot, bytes: &ShmBytes) -> Result<(), Error> {
        self.send_bytes_until(descriptor, bytes, None)
    }

    /// Sends bytes that stay readable here if there is room.
    ///
    /// # Errors
    /// [`Error::Full`], or as [`send_bytes`](Self::send_bytes).
    pub fn try_send_bytes(&mut self, descriptor: &MsgDescHot, bytes: &ShmBytes) -> Result<(), Error> {
        Ok(self.try_bytes(descriptor, bytes)?)
    }

    /// Sends bytes that stay readable here, waiting for room until the deadline (of the monotonic clock).
    ///
    /// # Errors
    /// [`Error::Timeout`], or as [`send_bytes`](Self::send_bytes).
    pub fn send_bytes_deadline(
        &mut self,
        descriptor: &MsgDescHot,
        bytes: &ShmBytes,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.send_bytes_until(descriptor, bytes, Some(deadline))
    }

    /// As [`poll_send`](Self::poll_send), for bytes that stay readable here.
    ///
    /// # Errors
    /// As [`send_bytes`](Self::send_bytes).
    pub fn poll_send_bytes(&mut self, descriptor: &MsgDescHot, bytes: &ShmBytes) -> Result<Step<()>, Error> {
        match bytes.in_slot() {
            Some(slice) => Ok(self.link.poll_send_frozen(descriptor, slice)?),
            None => self.poll_send(descriptor, &[]),
        }
    }

    fn try_bytes(&mut self, descriptor: &MsgDescHot, bytes: &ShmBytes) -> Result<(), SendError> {
        match bytes.in_slot() {
            Some(slice) => self.link.try_send_frozen(descriptor, slice),
            None => self.link.try_send(descriptor, &[]),
        }
    }

    fn send_bytes_until(
        &mut self,
        descriptor: &MsgDescHot,
        bytes: &ShmBytes,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        if let Some(sent) = unless_full(self.try_bytes(descriptor, bytes)) {
            return sent;
        }
        let Some(slice) = bytes.in_slot() else {
            return self.send_until(descriptor, &[], deadline);
        };
        until_ready(
            &mut self.link,
            &mut self.spin,
            deadline,
            |link| unless_full(link.try_send_frozen(descriptor, slice)),
            |link| Ok(link.poll_send_frozen(descriptor, slice)?),
        )
    }
}

#[cfg(feature = "allocator")]
mod vector {
    use std::cell::RefCell;

    use rapace_shm_core::allocator::{self, ShmAllocator};
    use zerocopy::{Immutable, IntoBytes};

    use super::{Error, Instant, MsgDescHot, Sender, Step, unless_full, until_ready};
    use crate::endpoint::ShmEndpoint;
    use crate::error::Unsent;

    /// A vector in a slot of a session.
    pub type ShmVec<T> = allocator::ShmVec<T, ShmEndpoint>;

    /// A vector in a slot with a copy of these bytes, to be [sent](Sender::send_vec) where it is.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if they do not fit a slot, with both lengths; [`Error::Full`] if no slot is free.
    pub fn shm_vec(allocator: &ShmAllocator<ShmEndpoint>, bytes: &[u8]) -> Result<ShmVec<u8>, Error> {
        Ok(allocator::shm_vec(allocator, bytes)?)
    }

    /// A vector in a slot with room for `capacity` elements. It does not grow beyond its slot.
    ///
    /// # Errors
    /// As [`shm_vec`].
    pub fn shm_vec_with_capacity<T>(
        allocator: &ShmAllocator<ShmEndpoint>,
        capacity: usize,
    ) -> Result<ShmVec<T>, Error> {
        Ok(allocator::shm_vec_with_capacity(allocator, capacity)?)
    }

    impl Sender {
        /// An allocator over this session's slots, for `Vec` and `Box`. It never waits for a slot.
        #[must_use]
        pub fn allocator(&self) -> ShmAllocator<ShmEndpoint> {
            self.link.allocator()
        }

        /// Sends a vector's elements, as bytes, from the slot that they are in; waits for room in the ring. Up to 16
        /// bytes go inside the descriptor, and the slot is free at once.
        ///
        /// # Errors
        /// [`Error::Closed`], [`Error::ForeignLoan`] for a vector in another session's slot, or [`Error::PeerFault`]; the
        /// vector comes back.
        pub fn send_vec<T: IntoBytes + Immutable + Copy>(
            &mut self,
            descriptor: &MsgDescHot,
            vec: ShmVec<T>,
        ) -> Result<(), Unsent<ShmVec<T>>> {
            self.send_vec_until(descriptor, vec, None)
        }

        /// Sends a vector's elements from the slot that they are in if the ring has room.
        ///
        /// # Errors
        /// [`Error::Full`], or as [`send_vec`](Self::send_vec); the vector comes back.
        pub fn try_send_vec<T: IntoBytes + Immutable + Copy>(
            &mut self,
            descriptor: &MsgDescHot,
            vec: ShmVec<T>,
        ) -> Result<(), Unsent<ShmVec<T>>> {
            let mut vec = Some(vec);
            let sent = self.link.feed_vec(descriptor, &mut vec);
            self.link.flush();
            sent.map_err(|error| Unsent { error: error.into(), loan: vec })
        }

        /// Sends a vector's elements from the slot that they are in, waiting for room until the deadline (of the
        /// monotonic clock).
        ///
        /// # Errors
        /// [`Error::Timeout`], or as [`send_vec`](Self::send_vec); the vector comes back.
        pub fn send_vec_deadline<T: IntoBytes + Immutable + Copy>(
            &mut self,
            descriptor: &MsgDescHot,
            vec: ShmVec<T>,
            deadline: Instant,
        ) -> Result<(), Unsent<ShmVec<T>>> {
            self.send_vec_until(descriptor, vec, Some(deadline))
        }

        /// As [`poll_send`](Self::poll_send), for a vector, which is `None` once it is sent.
        ///
        /// # Errors
        /// As [`send_vec`](Self::send_vec); the vector stays.
        pub fn poll_send_vec<T: IntoBytes + Immutable + Copy>(
            &mut self,
            descriptor: &MsgDescHot,
            vec: &mut Option<ShmVec<T>>,
        ) -> Result<Step<()>, Error> {
            Ok(self.link.poll_send_vec(descriptor, vec)?)
        }

        fn send_vec_until<T: IntoBytes + Immutable + Copy>(
            &mut self,
            descriptor: &MsgDescHot,
            vec: ShmVec<T>,
            deadline: Option<Instant>,
        ) -> Result<(), Unsent<ShmVec<T>>> {
            let vec = match self.try_send_vec(descriptor, vec) {
                Err(Unsent { error: Error::Full, loan: Some(vec) }) => vec,
                done => return done,
            };
            let kept = RefCell::new(Some(vec));
            let sent = until_ready(
                &mut self.link,
                &mut self.spin,
                deadline,
                |link| {
                    let fed = link.feed_vec(descriptor, &mut kept.borrow_mut());
                    link.flush();
                    unless_full(fed)
                },
                |link| Ok(link.poll_send_vec(descriptor, &mut kept.borrow_mut())?),
            );
            sent.map_err(|error| Unsent { error, loan: kept.into_inner() })
        }
    }
}

#[cfg(feature = "allocator")]
pub use vector::{ShmVec, shm_vec, shm_vec_with_capacity};

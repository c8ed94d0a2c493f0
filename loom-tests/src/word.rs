//! One atomic word of a [`LoomRegion`](crate::LoomRegion).

use std::fmt;
use std::sync::atomic::Ordering;

use loom::sync::atomic::{AtomicU32, AtomicU64};
use rapace_shm_core::region::Word;

use crate::place::{Entry, Owned};

/// A word of a [`LoomRegion`](crate::LoomRegion); `A` is the atomic. Without a target while a failed model unwinds.
pub struct LoomWord<'a, A> {
    pub(crate) target: Option<Target<'a, A>>,
}

pub(crate) struct Target<'a, A> {
    pub(crate) entry: &'a Entry,
    pub(crate) atomic: &'a A,
    /// The slot's bytes, if the word is a free link.
    pub(crate) bytes: Option<&'a Owned<Vec<u8>>>,
    /// Where the endpoint's other threads may come in after a compare-exchange.
    pub(crate) ledger_step: Option<&'a AtomicU32>,
}

impl<A> Target<'_, A> {
    /// Writing a free link takes owning its slot.
    fn before_store(&self, value: &[u8]) {
        self.entry.step();
        self.entry.note_write();
        if let Some(bytes) = self.bytes {
            bytes.write(|bytes| bytes[..value.len()].copy_from_slice(value));
        }
    }

    fn before_exchange(&self) {
        assert!(self.bytes.is_none(), "a free link is only loaded and stored");
        self.entry.step();
        self.entry.note_write();
    }

    fn after_exchange(&self) {
        if let Some(step) = self.ledger_step {
            step.store(0, Ordering::Relaxed);
        }
    }
}

macro_rules! word {
    ($atomic:ty, $value:ty) => {
        impl Word<$value> for LoomWord<'_, $atomic> {
            fn load(&self, order: Ordering) -> $value {
                let Some(target) = &self.target else { return 0 };
                target.entry.step();
                target.atomic.load(order)
            }

            fn store(&self, value: $value, order: Ordering) {
                let Some(target) = &self.target else { return };
                target.before_store(&value.to_ne_bytes());
                target.atomic.store(value, order);
            }

            fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                let Some(target) = &self.target else { return 0 };
                target.before_exchange();
                target.atomic.fetch_add(value, order)
            }

            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let Some(target) = &self.target else { return Ok(current) };
                target.before_exchange();
                let seen = target.atomic.compare_exchange(current, new, success, failure);
                target.after_exchange();
                seen
            }
        }
    };
}
word!(AtomicU32, u32);
word!(AtomicU64, u64);

impl<A> fmt::Debug for LoomWord<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoomWord").field("field", &self.target.as_ref().map(|target| target.entry.field)).finish()
    }
}

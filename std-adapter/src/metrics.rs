//! Counters of what goes through a session, for those who want to see it.
//!
//! Whoever does not ask for them pays two or three instructions a message, for looking whether somebody did. Counted, a
//! message costs one or two relaxed additions at each end, to words that both halves of this side share: five to ten
//! nanoseconds. `cargo bench -p rapace-shm --bench instructions` shows both.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use rapace_shm_core::endpoint::Event;

use crate::INLINE_PAYLOAD_SIZE;

/// What has gone through one side of a session, or of many that share one of these. Every counter only grows.
///
/// "In place" is a payload that this side wrote (or read) in the slot where the other one reads (or wrote) it.
///
/// ```
/// use std::sync::Arc;
///
/// use rapace_shm::{MsgDescHot, ShmMetrics, ShmSession, ShmSessionConfig};
///
/// let metrics = Arc::new(ShmMetrics::new());
/// let (mut a, _b) = ShmSession::pair(ShmSessionConfig::default())?;
/// a.count_into(&metrics);
/// let mut loan = a.split().0.loan(100)?;
/// loan.fill(7);
/// a.split().0.send_loan(&MsgDescHot::data(1), loan)?;
/// a.split().0.send(&MsgDescHot::data(2), &[8; 100])?;
/// assert_eq!((metrics.zero_copy_count(), metrics.copy_count(), metrics.zero_copy_ratio()), (1, 1, 0.5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct ShmMetrics {
    /// Payloads sent in place.
    pub zero_copy_encodes: AtomicU64,
    /// Payloads that were copied to be sent, into the descriptor or into a slot.
    pub copy_encodes: AtomicU64,
    /// Bytes of the payloads sent in place.
    pub zero_copy_bytes: AtomicU64,
    /// Bytes of the payloads that were copied.
    pub copied_bytes: AtomicU64,
    /// Slots taken.
    pub alloc_success: AtomicU64,
    /// Tries to take a slot when none was free; a call that waits counts once for each try that it makes before it sleeps.
    pub alloc_failures: AtomicU64,
    /// Slots given back by this side.
    pub slot_frees: AtomicU64,
    /// Bytes copied into slots.
    pub slot_copy_bytes: AtomicU64,
    /// Messages put into the ring.
    pub ring_enqueues: AtomicU64,
    /// Tries to send when the ring was full; a call that waits counts as for a slot.
    pub ring_full_errors: AtomicU64,
    /// Messages taken out of the ring.
    pub ring_dequeues: AtomicU64,
    /// Messages sent inside their descriptor.
    pub inline_sends: AtomicU64,
    /// Messages sent in a slot.
    pub slot_sends: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl ShmMetrics {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a payload of this many bytes that was sent in place.
    pub fn record_zero_copy_encode(&self, bytes: usize) {
        add(&self.zero_copy_encodes, 1);
        add(&self.zero_copy_bytes, bytes as u64);
    }

    /// Counts a payload of this many bytes that was copied.
    pub fn record_copy_encode(&self, bytes: usize) {
        add(&self.copy_encodes, 1);
        add(&self.copied_bytes, bytes as u64);
    }

    /// Counts a slot taken.
    pub fn record_alloc_success(&self) {
        add(&self.alloc_success, 1);
    }

    /// Counts a slot that was not to be had.
    pub fn record_alloc_failure(&self) {
        add(&self.alloc_failures, 1);
    }

    /// Counts a slot given back.
    pub fn record_slot_free(&self) {
        add(&self.slot_frees, 1);
    }

    /// Counts bytes copied into a slot.
    pub fn record_slot_copy(&self, bytes: usize) {
        add(&self.slot_copy_bytes, bytes as u64);
    }

    /// Counts a message put into the ring.
    pub fn record_ring_enqueue(&self) {
        add(&self.ring_enqueues, 1);
    }

    /// Counts a ring that was full.
    pub fn record_ring_full(&self) {
        add(&self.ring_full_errors, 1);
    }

    /// Counts a message taken out of the ring.
    pub fn record_ring_dequeue(&self) {
        add(&self.ring_dequeues, 1);
    }

    /// Counts a message sent inside its descriptor.
    pub fn record_inline_send(&self) {
        add(&self.inline_sends, 1);
    }

    /// Counts a message sent in a slot.
    pub fn record_slot_send(&self) {
        add(&self.slot_sends, 1);
    }

    /// Payloads sent in place.
    #[must_use]
    pub fn zero_copy_count(&self) -> u64 {
        read(&self.zero_copy_encodes)
    }

    /// Payloads copied.
    #[must_use]
    pub fn copy_count(&self) -> u64 {
        read(&self.copy_encodes)
    }

    /// The share of payloads that were sent in place: from 0.0 to 1.0, and 0.0 if there were none at all.
    #[must_use]
    pub fn zero_copy_ratio(&self) -> f64 {
        let (in_place, copied) = (self.zero_copy_count(), self.copy_count());
        if in_place + copied == 0 { 0.0 } else { in_place as f64 / (in_place + copied) as f64 }
    }

    /// Slots that were not to be had.
    #[must_use]
    pub fn alloc_failure_count(&self) -> u64 {
        read(&self.alloc_failures)
    }

    /// Slots taken.
    #[must_use]
    pub fn alloc_success_count(&self) -> u64 {
        read(&self.alloc_success)
    }

    /// Rings that were full.
    #[must_use]
    pub fn ring_full_count(&self) -> u64 {
        read(&self.ring_full_errors)
    }

    /// Everything, in a few lines for people.
    #[must_use]
    pub fn summary(&self) -> String {
        self.to_string()
    }

    /// Counts what core says has happened.
    #[inline(never)]
    pub(crate) fn record(&self, event: Event) {
        match event {
            Event::Sent { len, in_place: true } => {
                self.record_zero_copy_encode(len);
                self.record_ring_enqueue();
                self.record_slot_send();
            }
            Event::Sent { len, in_place: false } => {
                self.record_copy_encode(len);
                self.record_ring_enqueue();
                if len <= INLINE_PAYLOAD_SIZE {
                    self.record_inline_send();
                } else {
                    self.record_slot_copy(len);
                    self.record_slot_send();
                }
            }
            Event::RingFull => self.record_ring_full(),
            Event::SlotTaken => self.record_alloc_success(),
            Event::NoSlot => self.record_alloc_failure(),
            Event::Received => self.record_ring_dequeue(),
            Event::SlotFreed => self.record_slot_free(),
        }
    }
}

impl fmt::Display for ShmMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sent      {} messages: {} inline, {} in slots",
            read(&self.ring_enqueues),
            read(&self.inline_sends),
            read(&self.slot_sends)
        )?;
        writeln!(f, "received  {} messages", read(&self.ring_dequeues))?;
        writeln!(
            f,
            "payloads  {} in place ({} bytes), {} copied ({} bytes, {} of them into slots): {:.1} % in place",
            self.zero_copy_count(),
            read(&self.zero_copy_bytes),
            self.copy_count(),
            read(&self.copied_bytes),
            read(&self.slot_copy_bytes),
            100.0 * self.zero_copy_ratio()
        )?;
        writeln!(
            f,
            "slots     {} taken, {} given back, {} times none was free",
            self.alloc_success_count(),
            read(&self.slot_frees),
            self.alloc_failure_count()
        )?;
        write!(f, "ring      {} times full", self.ring_full_count())
    }
}

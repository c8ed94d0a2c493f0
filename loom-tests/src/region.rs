//! Core's memory as loom sees it: the same offsets, but each word is a loom atomic and each slot a loom cell.
//!
//! It is stricter than memory: an access that the layout does not declare ends the test, and so do two owners that
//! touch the same payload without an order between them.
//!
//! ```text
//!   offset    declared as      here
//!     64      u32 word         AtomicU32
//!    320      descriptor       eight AtomicU64, or one cell ([`Lines`])
//!    832      slot, 24 bytes   cell; its first four bytes also an AtomicU32: the free link
//! ```
//!
//! The free link is the layout's one overlay. Reading it is speculative and touches only the atomic. Writing it takes
//! owning the slot, so it counts as a write to the cell too; and a payload that is written clobbers the link.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
use loom::thread::{self, ThreadId};
use rapace_shm_core::layout::{At, Line, Span};
use rapace_shm_core::region::{ByOffset, Region};

use crate::fields::Fields;
use crate::place::{Entry, Lines, Owned, Place};
use crate::word::{LoomWord, Target};

struct Memory {
    entries: Vec<Entry>,
    /// For every four bytes, the entry they belong to.
    index: Vec<Option<usize>>,
    size: usize,
    creator: ThreadId,
    /// Whether a thread other than the creator was here.
    shared: Cell<bool>,
}

impl Memory {
    fn entry(&self, offset: usize) -> Option<(&Entry, usize)> {
        let entry = &self.entries[(*self.index.get(offset / 4)?)?];
        Some((entry, offset.checked_sub(entry.field.span.offset)?))
    }
}

/// A region over loom's atomics and cells, to be made inside a model. Handles are cheap to clone.
#[derive(Clone)]
pub struct LoomRegion {
    memory: Rc<Memory>,
    ledger_step: Option<Rc<AtomicU32>>,
}

impl LoomRegion {
    /// A region of zeroes with these places.
    #[must_use]
    pub fn new(fields: &Fields, lines: Lines) -> Self {
        let mut index = vec![None; fields.size().div_ceil(4)];
        for (number, field) in fields.iter().enumerate() {
            index[field.span.offset / 4..field.end().div_ceil(4)].fill(Some(number));
        }
        let entries = fields.iter().map(|field| Entry::new(*field, lines)).collect();
        let memory =
            Memory { entries, index, size: fields.size(), creator: thread::current().id(), shared: Cell::new(false) };
        Self { memory: Rc::new(memory), ledger_step: None }
    }

    /// A handle for an endpoint that several threads use.
    ///
    /// Its ledger is private memory over core's own atomics, which loom cannot interrupt: it would run in one go
    /// with the compare-exchange before it. This handle adds a step after each compare-exchange, at which the
    /// endpoint's other threads may come in between.
    #[must_use]
    pub fn with_ledger_steps(&self) -> Self {
        Self { memory: self.memory.clone(), ledger_step: Some(Rc::new(AtomicU32::new(0))) }
    }

    fn note_thread(&self) {
        if !self.memory.shared.get() && thread::current().id() != self.memory.creator {
            self.memory.shared.set(true);
        }
    }

    /// The place at an offset, and how far into it the offset is.
    fn entry(&self, offset: usize, used: &str) -> (&Entry, usize) {
        self.note_thread();
        self.memory.entry(offset).unwrap_or_else(|| panic!("offset {offset} is not declared, and used as {used}"))
    }

    fn word<'a, A>(&'a self, entry: &'a Entry, atomic: &'a A, bytes: Option<&'a Owned<Vec<u8>>>) -> LoomWord<'a, A> {
        LoomWord { target: Some(Target { entry, atomic, bytes, ledger_step: self.ledger_step.as_deref() }) }
    }

    /// The slot that contains a range, and how far into it the range starts.
    fn payload(&self, span: Span) -> (&Owned<Vec<u8>>, Option<&AtomicU32>, usize) {
        let (entry, start) = self.entry(span.offset, "payload");
        let Place::Payload { bytes, link } = &entry.place else { entry.misused(span.offset, "payload") };
        assert!(start + span.len <= entry.field.span.len, "{span:?} goes beyond its slot {:?}", entry.field.span);
        (bytes, link.as_ref(), start)
    }

    fn write_payload(&self, span: Span, change: impl FnOnce(&mut [u8])) {
        let (bytes, link, start) = self.payload(span);
        let head = bytes.write(|bytes| {
            change(&mut bytes[start..start + span.len]);
            [bytes[0], bytes[1], bytes[2], bytes[3]]
        });
        if let Some(link) = link.filter(|_| start < size_of::<u32>()) {
            // What a popper that is late reads as the next slot.
            link.store(u32::from_ne_bytes(head), Ordering::Relaxed);
        }
    }
}

/// After a failed check the halves of the model are dropped, while there is no model any more to take their steps.
pub(crate) fn unwinding() -> bool {
    std::thread::panicking()
}

// SAFETY: there is no memory to go beyond: every accessor looks its place up in the one table that the clones share.
unsafe impl Region for LoomRegion {
    type U32<'a> = LoomWord<'a, AtomicU32>;
    type U64<'a> = LoomWord<'a, AtomicU64>;
    type Fixed32 = ByOffset<Self, u32>;
    type Fixed64 = ByOffset<Self, u64>;
    type Lines = ByOffset<Self, Line>;

    fn size(&self) -> usize {
        self.memory.size
    }

    fn fix_u32(&self, at: At<u32>) -> ByOffset<Self, u32> {
        ByOffset::new(self.clone(), at, 1)
    }

    fn fix_u64(&self, at: At<u64>) -> ByOffset<Self, u64> {
        ByOffset::new(self.clone(), at, 1)
    }

    fn fix_lines(&self, at: At<Line>, count: u32) -> ByOffset<Self, Line> {
        ByOffset::new(self.clone(), at, count)
    }

    fn u32(&self, at: At<u32>) -> LoomWord<'_, AtomicU32> {
        if unwinding() {
            return LoomWord { target: None };
        }
        let (entry, within) = self.entry(at.offset(), "u32 word");
        let (atomic, bytes) = match (&entry.place, within) {
            (Place::U32(atomic), 0) => (atomic, None),
            (Place::Payload { bytes, link: Some(link) }, 0) => (link, Some(bytes)),
            _ => entry.misused(at.offset(), "u32 word"),
        };
        self.word(entry, atomic, bytes)
    }

    fn u64(&self, at: At<u64>) -> LoomWord<'_, AtomicU64> {
        if unwinding() {
            return LoomWord { target: None };
        }
        let (entry, within) = self.entry(at.offset(), "u64 word");
        match (&entry.place, within) {
            (Place::U64(atomic), 0) => self.word(entry, atomic, None),
            _ => entry.misused(at.offset(), "u64 word"),
        }
    }

    fn load_line(&self, at: At<Line>) -> Line {
        if unwinding() {
            return [0; 8];
        }
        let (entry, within) = self.entry(at.offset(), "descriptor");
        match (&entry.place, within) {
            (Place::Words(words), 0) => words.each_ref().map(|word| word.load(Ordering::Relaxed)),
            (Place::Line(line), 0) => line.read(|line| *line),
            _ => entry.misused(at.offset(), "descriptor"),
        }
    }

    fn store_line(&self, at: At<Line>, line: Line) {
        if unwinding() {
            return;
        }
        let (entry, within) = self.entry(at.offset(), "descriptor");
        entry.note_write();
        match (&entry.place, within) {
            (Place::Words(words), 0) => {
                words.iter().zip(line).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
            }
            (Place::Line(owned), 0) => owned.write(|owned| *owned = line),
            _ => entry.misused(at.offset(), "descriptor"),
        }
    }

    fn fence(&self) {
        if !unwinding() {
            fence(Ordering::SeqCst);
        }
    }

    fn copy_in(&self, to: Span, bytes: &[u8]) -> usize {
        let count = bytes.len().min(to.len);
        if !unwinding() {
            self.write_payload(Span { len: count, ..to }, |place| place.copy_from_slice(&bytes[..count]));
        }
        count
    }

    fn copy_out(&self, from: Span, into: &mut [u8]) -> usize {
        let count = into.len().min(from.len);
        if !unwinding() {
            let (bytes, _, start) = self.payload(Span { len: count, ..from });
            bytes.read(|bytes| into[..count].copy_from_slice(&bytes[start..start + count]));
        }
        count
    }

    fn clear(&self, span: Span) {
        if unwinding() {
            return;
        }
        let is_payload =
            matches!(self.memory.entry(span.offset), Some((Entry { place: Place::Payload { .. }, .. }, _)));
        if is_payload {
            return self.write_payload(span, |place| place.fill(0));
        }
        self.note_thread();
        assert!(!self.memory.shared.get(), "{span:?} is cleared although another thread has been in the region");
        let end = span.offset + span.len;
        let inside = |entry: &&Entry| entry.field.span.offset >= span.offset && entry.field.end() <= end;
        self.memory.entries.iter().filter(inside).for_each(Entry::clear);
    }
}

impl fmt::Debug for LoomRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoomRegion").field("size", &self.size()).finish_non_exhaustive()
    }
}

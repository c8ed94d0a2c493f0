//! What stands at one place of a [`LoomRegion`](crate::LoomRegion), as loom sees it.

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, AtomicU64};
use rapace_shm_core::layout::Line;

use crate::fields::{Field, Kind};

/// What a descriptor is to the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Eight relaxed words, as in real memory: an order that is missing shows as a stale descriptor.
    Words,
    /// One cell: an order that is missing is reported as a race, also where loom could never show a wrong value
    /// (it lets no load see a later store). Cheaper, so the larger models use it.
    Owned,
}

/// A value that one thread at a time owns; loom reports every access that is not ordered after the last write.
pub(crate) struct Owned<T> {
    accesses: UnsafeCell<()>,
    value: RefCell<T>,
}

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { accesses: UnsafeCell::new(()), value: RefCell::new(value) }
    }

    pub(crate) fn read<U>(&self, look: impl FnOnce(&T) -> U) -> U {
        self.accesses.with(|_| look(&self.value.borrow()))
    }

    pub(crate) fn write<U>(&self, change: impl FnOnce(&mut T) -> U) -> U {
        self.accesses.with_mut(|_| change(&mut self.value.borrow_mut()))
    }
}

/// A place of the region and its state.
pub(crate) enum Place {
    U32(AtomicU32),
    U64(AtomicU64),
    Words([AtomicU64; 8]),
    Line(Owned<Line>),
    Payload { bytes: Owned<Vec<u8>>, link: Option<AtomicU32> },
}

impl Place {
    fn new(kind: Kind, len: usize, lines: Lines) -> Self {
        match (kind, lines) {
            (Kind::U32, _) => Self::U32(AtomicU32::new(0)),
            (Kind::U64, _) => Self::U64(AtomicU64::new(0)),
            (Kind::Line, Lines::Words) => Self::Words(std::array::from_fn(|_| AtomicU64::new(0))),
            (Kind::Line, Lines::Owned) => Self::Line(Owned::new([0; 8])),
            (Kind::Payload { link }, _) => {
                Self::Payload { bytes: Owned::new(vec![0; len]), link: link.then(|| AtomicU32::new(0)) }
            }
        }
    }

    fn clear(&self) {
        match self {
            Self::U32(word) => word.store(0, Ordering::Relaxed),
            Self::U64(word) => word.store(0, Ordering::Relaxed),
            Self::Words(words) => words.iter().for_each(|word| word.store(0, Ordering::Relaxed)),
            Self::Line(line) => line.write(|line| *line = [0; 8]),
            Self::Payload { .. } => unreachable!("payloads are cleared by range"),
        }
    }
}

pub(crate) struct Entry {
    pub(crate) field: Field,
    pub(crate) place: Place,
    /// Stored to before every access of a word, for the checker's sake: loom looks for executions to try by
    /// comparing an access with the one last access of that word. A thread that loads a word and then changes it
    /// would hide from it another thread's load before that, and half of the interleavings would never be run. A store
    /// that nobody reads orders nothing.
    step: AtomicU32,
    /// Whether anything but the initial zero was ever written, so that clearing a fresh region costs no steps.
    written: Cell<bool>,
}

impl Entry {
    pub(crate) fn new(field: Field, lines: Lines) -> Self {
        let place = Place::new(field.kind, field.span.len, lines);
        Self { field, place, step: AtomicU32::new(0), written: Cell::new(false) }
    }

    /// To be called before a word is accessed.
    pub(crate) fn step(&self) {
        self.step.store(0, Ordering::Relaxed);
    }

    /// To be called before anything is written.
    pub(crate) fn note_write(&self) {
        self.written.set(true);
    }

    /// Back to zero.
    pub(crate) fn clear(&self) {
        if self.written.get() {
            self.place.clear();
        }
    }

    /// The place is not what somebody takes it for.
    pub(crate) fn misused(&self, offset: usize, used: &str) -> ! {
        let Field { name, kind, .. } = self.field;
        panic!("offset {offset} is declared as {kind:?} `{name}`, and used as {used}")
    }
}

//! Writes rubbish into a session that is none of its own.
//!
//! # Safety
//!
//! 1. `words .. words + count` of a [`Vandal`] are mapped, readable and writable, shared with the process whose memfd it is,
//!    until it is dropped. The memfd is sealed against shrinking.
//! 2. They are only reached as atomics.

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rapace_shm::ShmSessionConfig;
use rapace_shm_core::layout::calculate_segment_size;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::rubbish::{targets, value};

/// Words of a cache line, which is written as a whole now and then.
const LINE: usize = 16;

/// Somebody else's session, mapped until this is dropped.
pub struct Vandal {
    words: NonNull<AtomicU32>,
    count: usize,
    /// Numbers of the words that mean something.
    targets: Vec<usize>,
}

// SAFETY: the words are atomics, which any thread may use (2).
unsafe impl Sync for Vandal {}

impl Vandal {
    pub fn map(memfd: OwnedFd, config: ShmSessionConfig) -> Self {
        let len = calculate_segment_size(&config).unwrap();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap(null_mut(), len, access, MapFlags::SHARED, memfd.as_fd(), 0) }.unwrap();
        let targets = targets(&config).into_iter().map(|offset| offset / size_of::<u32>()).collect();
        Self { words: NonNull::new(base.cast()).unwrap(), count: len / size_of::<u32>(), targets }
    }

    /// Writes, from another thread, until `victim` is over; its answer, and how much was written, added to `before`.
    pub fn at_work<T>(&self, seed: u64, victim: impl FnOnce() -> T, before: u64) -> (T, u64) {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| self.write(Rng::with_seed(seed), &over));
            let _until_unwound = Over(&over);
            let answer = victim();
            over.store(true, Ordering::Relaxed);
            (answer, before + writer.join().unwrap())
        })
    }

    /// Starts at once or a little later; writes as fast as it can or with pauses, so that some trials get far.
    fn write(&self, mut rng: Rng, over: &AtomicBool) -> u64 {
        let start = Instant::now() + Duration::from_micros(rng.u64(..3000));
        while Instant::now() < start {
            std::hint::spin_loop();
        }
        let pause = rng.choice([0, 0, 100, 10_000, 200_000]).unwrap_or(0);
        let mut writes = 0;
        while !over.load(Ordering::Relaxed) {
            match rng.u8(..32) {
                0 => self.write_line(&mut rng),
                _ => self.write_word(&mut rng),
            }
            writes += 1;
            (0..rng.u32(..=pause)).for_each(|_| std::hint::spin_loop());
        }
        writes
    }

    fn any(&self, rng: &mut Rng) -> usize {
        match rng.choice(&self.targets) {
            Some(target) if rng.u8(..) < 200 => *target,
            _ => rng.usize(..self.count),
        }
    }

    fn write_word(&self, rng: &mut Rng) {
        let word = self.word(self.any(rng));
        let elsewhere = self.word(self.any(rng)).load(Ordering::Relaxed);
        word.store(value(rng, word.load(Ordering::Relaxed), elsewhere), Ordering::Relaxed);
    }

    /// Sixteen words at once: rubbish, or what another line says.
    fn write_line(&self, rng: &mut Rng) {
        let line = |number: usize| number / LINE * LINE..(number / LINE * LINE + LINE).min(self.count);
        let (to, from) = (line(self.any(rng)), line(self.any(rng)));
        let copies = rng.bool();
        for (to, from) in to.zip(from) {
            let value = if copies { self.word(from).load(Ordering::Relaxed) } else { rng.u32(..) };
            self.word(to).store(value, Ordering::Relaxed);
        }
    }

    fn word(&self, number: usize) -> &AtomicU32 {
        assert!(number < self.count);
        // SAFETY: less than `count`, so within the mapping (1).
        let word = unsafe { self.words.add(number) };
        // SAFETY: mapped while `self` lives (1), on a page boundary and therefore aligned, and atomic (2).
        unsafe { word.as_ref() }
    }
}

impl Drop for Vandal {
    fn drop(&mut self) {
        // SAFETY: mapped by this type, once; nobody borrows from it any more (1).
        let unmapped = unsafe { munmap(self.words.as_ptr().cast(), self.count * size_of::<u32>()) };
        assert!(unmapped.is_ok() || std::thread::panicking());
    }
}

/// Ends the writing, also when the victim panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

//! A fuzzer's bytes, read as choices.

use crate::common::rubbish::Choices;

/// The most bytes of an input that are read: what bounds the work of an execution.
pub const LONGEST: usize = 4096;

/// What is left of an input. Where nothing is left, it reads as zeros.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(&bytes[..bytes.len().min(LONGEST)])
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next bytes, fewer at the end.
    pub fn take(&mut self, count: usize) -> Input<'a> {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        Input(taken)
    }

    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The next bytes, and zeros behind the end.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N).0;
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    pub fn any_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

impl Choices for Input<'_> {
    /// One byte where that is enough for every number, otherwise two.
    fn below(&mut self, bound: usize) -> usize {
        let chosen = if bound <= 256 { self.array::<1>()[0].into() } else { u16::from_le_bytes(self.array()) };
        usize::from(chosen) % bound
    }

    fn any(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
}

/// Programs of every length, in which each call and each hostile write occurs.
pub fn seeds_of_programs() -> Vec<Vec<u8>> {
    let lengths = [0, 16, 64, 200, 400, 1000];
    lengths.into_iter().flat_map(|length| [1, 7, 37, 101].map(|stride| program(length, stride))).collect()
}

fn program(length: usize, stride: usize) -> Vec<u8> {
    (0..length).map(|at| (at * stride + at / 16).to_le_bytes()[0]).collect()
}

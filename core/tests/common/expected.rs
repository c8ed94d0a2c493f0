//! A region byte by byte, as far as somebody has written down what must stand where.

use rapace_shm_core::layout::Span;
use rapace_shm_core::region::Region;

use super::HeapRegion;

pub fn bytes(region: &HeapRegion) -> Vec<u8> {
    let mut bytes = vec![0; region.size()];
    let len = bytes.len();
    assert_eq!(region.copy_out(Span { offset: 0, len }, &mut bytes), len);
    bytes
}

pub struct Expected(Vec<u8>);

impl Expected {
    pub fn zeroes(len: usize) -> Self {
        Self(vec![0; len])
    }

    pub fn of(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn u16(self, at: usize, value: u16) -> Self {
        self.bytes(at, &value.to_ne_bytes())
    }

    pub fn u32(self, at: usize, value: u32) -> Self {
        self.bytes(at, &value.to_ne_bytes())
    }

    pub fn u64(self, at: usize, value: u64) -> Self {
        self.bytes(at, &value.to_ne_bytes())
    }

    pub fn bytes(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn fill(mut self, at: usize, len: usize, byte: u8) -> Self {
        self.0[at..at + len].fill(byte);
        self
    }

    #[track_caller]
    pub fn is(&self, seen: &[u8]) {
        assert_eq!(seen.len(), self.0.len());
        let different: Vec<_> = (0..seen.len()).filter(|at| seen[*at] != self.0[*at]).collect();
        assert!(different.is_empty(), "bytes at {different:?} differ");
    }
}

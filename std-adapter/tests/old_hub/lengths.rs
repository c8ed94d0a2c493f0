//! What is sent: frames of every length that a hub has a way of its own for.

use fastrand::Rng;

use crate::frames::{Frame, descriptor};

/// In the descriptor, and the shortest and the longest of every size class.
const LENGTHS: [usize; 11] = [0, 1, 16, 17, 1024, 1025, 16_384, 16_385, 262_144, 4_194_304, 16_777_216];

/// Frames that one side sends.
pub const FRAMES: u64 = 330;

/// How many of them are of any length; the others are small.
const OF_ANY: u64 = 22;

/// Bytes that are repeated in a long payload: no power of two, so no two pages of it are alike.
const BLOCK: usize = 4099;

pub fn frames(seed: u64) -> impl Iterator<Item = Frame> {
    (0..FRAMES).map(move |number| frame(seed, number))
}

fn frame(seed: u64, number: u64) -> Frame {
    let mut rng = Rng::with_seed(seed << 32 | number);
    let descriptor = descriptor(&mut rng, number);
    let every = FRAMES / OF_ANY;
    let lengths = if number.is_multiple_of(every) { &LENGTHS[..] } else { &LENGTHS[..7] };
    let which = if number.is_multiple_of(every) { number / every } else { number };
    let len = lengths[usize::try_from(which).unwrap() % lengths.len()];
    let mut block = [0; BLOCK];
    rng.fill(&mut block);
    let mut payload = block.repeat(len.div_ceil(BLOCK));
    payload.truncate(len);
    Frame { descriptor, payload }
}

//! A session with both its sides and its memory, for inputs that are programs.

use rapace_shm_core::layout::{SegmentOffsets, ShmSessionConfig};

use super::input::Input;
use crate::common::rubbish::Choices;
use crate::common::side::Side;
use crate::common::{HeapEndpoint, HeapRegion, pair_and_region};

/// Both sides, and the memory between them.
pub struct Arena {
    pub region: HeapRegion,
    pub config: ShmSessionConfig,
    pub offsets: SegmentOffsets,
    sides: [Side<HeapEndpoint>; 2],
}

impl Arena {
    /// A session of a shape that the input chooses.
    fn new(input: &mut Input<'_>) -> Self {
        let mut upto = |bound| u32::try_from(input.below(bound)).unwrap();
        let config =
            ShmSessionConfig { ring_capacity: 1 << upto(4), slot_size: 4 + 4 * upto(19), slot_count: 1 + upto(5) };
        let (a, b, region) = pair_and_region(config);
        let mut sides = [Side::new(a), Side::new(b)];
        sides.iter_mut().for_each(|side| side.honest = true);
        Self { region, config, offsets: SegmentOffsets::calculate(&config).unwrap(), sides }
    }

    /// Does what the input says: calls of either side, and now and then something hostile in between.
    pub fn run(data: &[u8], mut spoil: impl FnMut(&Self, &mut Input<'_>)) {
        let mut input = Input::new(data);
        let mut arena = Self::new(&mut input);
        while !input.is_empty() {
            // The first half of the numbers are calls, so that a session gets going.
            match input.below(32) {
                0..22 => arena.side(&mut input).call(&mut input),
                22 => arena.side(&mut input).close(&mut input),
                23 | 24 => arena.reset(&mut input),
                _ => {
                    arena.expect_anything();
                    spoil(&arena, &mut input);
                }
            }
            arena.check_apart();
        }
    }

    fn side(&mut self, input: &mut Input<'_>) -> &mut Side<HeapEndpoint> {
        &mut self.sides[input.below(2)]
    }

    /// A side makes room for a newcomer although its peer is still there.
    fn reset(&mut self, input: &mut Input<'_>) {
        self.expect_anything();
        self.side(input).reset();
    }

    fn expect_anything(&mut self) {
        self.sides.iter_mut().for_each(|side| side.honest = false);
    }

    /// As long as both are honest, no slot is both's. (Afterwards each side's own are still apart: see `Side`.)
    fn check_apart(&self) {
        let [a, b] = &self.sides;
        if a.honest {
            assert!(a.held().all(|slot| b.held().all(|other| other != slot)), "both peers hold a slot");
        }
    }
}

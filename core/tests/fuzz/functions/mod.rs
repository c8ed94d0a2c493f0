//! The fuzz functions: each reads its input as hostile bytes, or as a little program of calls and hostile writes, and
//! asserts what the documentation promises.
//!
//! | function | hostile |
//! |---|---|
//! | [`segment_header`] | a header on its own |
//! | [`header`] | a whole region, which a peer then attaches to and uses |
//! | [`ring`] | the indices of a bare ring, whose ends are compared with a model |
//! | [`cursors`] | the indices of a session's rings |
//! | [`descriptors`] | messages |
//! | [`free_lists`] | heads and links of the lists of free slots, generations and states |
//! | [`session`] | any word at any time between two calls |
//! | [`hub`] | likewise in a hub, which may grow |
//!
//! Each is bounded: what it does is at most proportional to its input, of which it reads at most [`LONGEST`] bytes.

mod arena;
mod header;
mod hub;
mod input;
mod ring;
mod spoil;

pub use header::{header, segment_header};
pub use hub::hub;
pub use input::LONGEST;
pub use ring::ring;
pub use spoil::{cursors, descriptors, free_lists, session};

/// A fuzz function, its name, and inputs to start from.
pub struct Function {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const FUNCTIONS: [Function; 8] = [
    Function { name: "segment_header", run: segment_header, seeds: header::seeds_of_headers },
    Function { name: "header", run: header, seeds: header::seeds_of_regions },
    Function { name: "ring", run: ring, seeds: input::seeds_of_programs },
    Function { name: "cursors", run: cursors, seeds: input::seeds_of_programs },
    Function { name: "descriptors", run: descriptors, seeds: input::seeds_of_programs },
    Function { name: "free_lists", run: free_lists, seeds: input::seeds_of_programs },
    Function { name: "session", run: session, seeds: input::seeds_of_programs },
    Function { name: "hub", run: hub, seeds: input::seeds_of_programs },
];

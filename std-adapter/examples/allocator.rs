//! A vector that lives in a slot of shared memory.
//!
//! `cargo run --example allocator --features allocator`

use std::error::Error;

use rapace_shm::core::endpoint::Polled;
use rapace_shm::core::layout::ShmSessionConfig;
use rapace_shm::core::ledger::Ledger;
use rapace_shm::core::link::Link;
use rapace_shm::core::region::Memory;
use rapace_shm::core::slots::SlotStatus;

static MEMORY: Memory<65_536> = Memory::new();
static LEDGER: Ledger<8> = Ledger::new();

fn main() -> Result<(), Box<dyn Error>> {
    let config = ShmSessionConfig { ring_capacity: 16, slot_size: 4096, slot_count: 8 };
    let region = MEMORY.take().ok_or("taken already")?;
    let link = Link::create(Polled::new(region, &LEDGER), config)?;
    let mut squares = rapace_shm::allocator_api2::vec::Vec::new_in(link.allocator());
    squares.extend((0..400_u64).map(|number| number * number));
    println!("{} squares in shared memory, the last is {:?}", squares.len(), squares.last());
    let SlotStatus { allocated, total, .. } = link.status().slots;
    println!("{allocated} of {total} slots in use");
    drop(squares);
    println!("{} after the vector is gone", link.status().slots.allocated);
    Ok(())
}

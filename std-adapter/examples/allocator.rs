//! A vector that is born in shared memory, sent from there, and read by both sides at once.
//!
//! `cargo run --example allocator --features allocator`

use std::error::Error;

use rapace_shm::{MsgDescHot, ShmBytes, ShmSession, ShmSessionConfig, shm_vec, shm_vec_with_capacity};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut a, b) = ShmSession::pair(ShmSessionConfig::default())?;
    let receiver = std::thread::spawn(move || {
        for message in b.into_split().1.iter() {
            let message = message?;
            println!("received {} bytes at {:?}", message.len(), message.payload().as_ptr());
        }
        Ok::<(), rapace_shm::Error>(())
    });

    // A vector is filled where it will be read: sending it copies nothing.
    let mut squares = shm_vec_with_capacity::<u64>(&a.allocator(), 400)?;
    squares.extend((0..400).map(|number| number * number));
    println!("sending  {} squares at {:?}", squares.len(), squares.as_ptr());
    a.split().0.send_vec(&MsgDescHot::data(1), squares)?;

    // Frozen, it can be read here as well, by as many as like, while it is on its way and after.
    let text = ShmBytes::from(shm_vec(&a.allocator(), b"the quick brown fox jumps over the lazy dog")?);
    println!("sending  {} bytes at {:?}", text.len(), text.as_ptr());
    a.split().0.send_bytes(&MsgDescHot::data(2), &text)?;
    let words = text.slice(4..19).ok_or("the text is longer")?;
    drop(text);
    println!("still readable: {}", std::str::from_utf8(&words)?);

    a.split().0.close();
    receiver.join().map_err(|_| "the receiver panicked")??;
    println!("{}", a.status().slots);
    drop(words);
    println!("{}", a.status().slots);
    Ok(())
}

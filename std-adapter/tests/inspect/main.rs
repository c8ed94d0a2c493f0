//! What the report says of segments fresh, busy, damaged, random and alive. What was broken to see a test fail stands in
//! the head of its file.

mod alive;
mod damaged;
mod hub_alive;
mod hub_damaged;
mod hub_grown;
mod hub_old;
mod hub_segment;
mod hub_sound;
mod rubbish;
mod segment;
mod sound;

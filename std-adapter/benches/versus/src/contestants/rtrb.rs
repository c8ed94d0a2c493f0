//! rtrb: a ring between two threads of one process. Up to 64 bytes ride in the ring, in and out by value, as its users
//! do it; longer payloads are boxes that change hands, which takes one address space.

use rtrb::{Consumer, Producer, RingBuffer};

use super::{Contestant, Part};
use crate::measure::Plan;
use crate::row::Row;
use crate::second::{Job, Second};
use crate::work::{Link, Work, spin};

/// See the module.
#[derive(Debug)]
pub struct Rtrb;

/// As long as a descriptor, and on a line of its own like one.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Value([u8; 64]);

/// To the other thread, and from it.
type Ways<T> = (Producer<T>, Consumer<T>);

/// One thread's ends of the rings.
#[derive(Debug)]
pub struct Ends {
    values: Ways<Value>,
    boxes: Ways<Box<[u8]>>,
    /// Boxes on their way back to whoever sent them.
    returned: Ways<Box<[u8]>>,
    /// Boxes that may be written.
    spare: Vec<Box<[u8]>>,
}

fn crossed<T>(capacity: usize) -> [Ways<T>; 2] {
    let ((producer, other_consumer), (other_producer, consumer)) =
        (RingBuffer::new(capacity), RingBuffer::new(capacity));
    [(producer, consumer), (other_producer, other_consumer)]
}

impl Ends {
    fn pair(row: Row) -> [Self; 2] {
        let depth = row.depth() as usize;
        let ([values, values2], [boxes, boxes2], [returned, returned2]) =
            (crossed(depth), crossed(depth), crossed(2 * depth));
        let spare = || {
            let mut spare = Vec::with_capacity(depth);
            spare.resize_with(if row.wire() > 64 { depth } else { 0 }, || vec![0; row.wire()].into_boxed_slice());
            spare
        };
        [
            Self { values, boxes, returned, spare: spare() },
            Self { values: values2, boxes: boxes2, returned: returned2, spare: spare() },
        ]
    }

    /// Keeps a box that was received, to answer with it, or sends it back to where they come from.
    fn recycle(&mut self, payload: Box<[u8]>) {
        if self.spare.len() < self.spare.capacity() {
            self.spare.push(payload);
        } else {
            self.returned.0.push(payload).expect("room for every box that there is");
        }
    }
}

impl Contestant for Rtrb {
    type Link = Ends;

    fn part(row: Row) -> Part {
        match row {
            Row::Asleep => Part::Cannot("rtrb has no waiting: a program that wants to sleep brings its own."),
            Row::Inline | Row::OneWay => Part::But("Two threads of one process: rtrb does not reach another."),
            Row::Bytes64 => Part::But("Two threads of one process; 64 bytes copied into the ring and out of it."),
            _ => Part::But(
                "Two threads of one process, and a box changes hands: in place, but only within one address space.",
            ),
        }
    }

    fn start(_: usize, row: Row, plan: &Plan) -> (Ends, Second) {
        let [ours, mut theirs] = Ends::pair(row);
        let total = row.plan(plan).total();
        let thread = std::thread::spawn(move || row.second_side(&mut theirs, total));
        (ours, Second::Thread(thread))
    }

    fn second(_: &Job) -> Ends {
        unreachable!("its second side is a thread")
    }
}

impl Link for Ends {
    #[inline]
    fn send<W: Work>(&mut self, number: u64) {
        if W::WIRE <= 64 {
            let mut value = Value([0; 64]);
            W::write(&mut value.0[..W::WIRE], number);
            return spin(|| self.values.0.push(value).ok());
        }
        let mut payload = self.spare.pop().unwrap_or_else(|| spin(|| self.returned.1.pop().ok()));
        W::write(&mut payload, number);
        let mut payload = Some(payload);
        spin(|| {
            let refused = self.boxes.0.push(payload.take()?);
            refused.map_err(|rtrb::PushError::Full(back)| payload = Some(back)).ok()
        });
    }

    #[inline]
    fn recv<W: Work>(&mut self) -> u64 {
        if W::WIRE <= 64 {
            return W::read(&spin(|| self.values.1.pop().ok()).0[..W::WIRE]);
        }
        let payload = spin(|| self.boxes.1.pop().ok());
        let number = W::read(&payload);
        self.recycle(payload);
        number
    }
}

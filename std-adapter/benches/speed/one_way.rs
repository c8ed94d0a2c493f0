//! One way, as fast as it goes: the ring beside rtrb, and the session with its wait protocol on beside the ring's peer.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::thread;

use rapace_shm::core::region::{Memory, RawRegion};
use rapace_shm::core::ring::{Consumer, DescRing, Producer};
use rapace_shm::{MsgDescHot, ShmSession, ShmSessionConfig};

use crate::measure::{Plan, Row, Unit, compare, median_batch};

const CAPACITY: u32 = 256;
const CHUNK: usize = 64;

pub fn run(plan: &Plan) {
    let plan = &Plan { batch: plan.batch * 4, ..*plan };
    compare(
        plan,
        &Row { what: "one way, ring, one by one", goal: ">= 1.0 x rtrb", unit: Unit::Rate },
        || ring_single(plan, ring_memory()),
        || rtrb_single(plan),
    );
    compare(
        plan,
        &Row { what: "one way, ring, batches of 64", goal: ">= 0.9 x rtrb chunks", unit: Unit::Rate },
        || ring_batch(plan, ring_memory()),
        || rtrb_batch(plan),
    );
    compare(
        plan,
        &Row { what: "one way, session inline, one by one", goal: ">= 0.8 x rtrb", unit: Unit::Rate },
        || session_inline(plan),
        || rtrb_single(plan),
    );
    compare(
        plan,
        &Row { what: "one way, session inline, batches of 64", goal: "(rtrb one by one)", unit: Unit::Rate },
        || session_batch(plan),
        || rtrb_single(plan),
    );
    compare(
        &plan.slower(8),
        &Row {
            what: "one way, 1 KiB written in place",
            goal: ">= 20 M/s near (beside memcpy of 1 KiB)",
            unit: Unit::Rate,
        },
        || session_slots(&plan.slower(8), 1024),
        || copy_floor(&plan.slower(8), 1024),
    );
}

/// A ring over memory of its own. Leaked on purpose: a benchmark makes a handful.
fn ring_memory() -> RawRegion {
    let memory: &'static Memory<32_768> = Box::leak(Box::default());
    memory.take().expect("taken once")
}

fn ring(region: RawRegion) -> (Producer<RawRegion>, Consumer<RawRegion>) {
    DescRing::create(region, 0, CAPACITY).expect("fits").split()
}

fn ring_single(plan: &Plan, region: RawRegion) -> f64 {
    let (mut producer, mut consumer) = ring(region);
    let total = plan.total();
    let sender = thread::spawn(move || {
        for number in 0..total {
            let descriptor = MsgDescHot::data(number);
            while producer.try_push(&descriptor).is_err() {
                spin_loop();
            }
        }
    });
    let mut expected = 0;
    let time = median_batch(plan, || {
        let descriptor = loop {
            match consumer.try_pop().expect("no fault") {
                Some(descriptor) => break descriptor,
                None => spin_loop(),
            }
        };
        assert_eq!(black_box(descriptor).msg_id, expected);
        expected += 1;
    });
    sender.join().expect("sender");
    time
}

fn rtrb_single(plan: &Plan) -> f64 {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<MsgDescHot>::new(CAPACITY as usize);
    let total = plan.total();
    let sender = thread::spawn(move || {
        for number in 0..total {
            let descriptor = MsgDescHot::data(number);
            while producer.push(descriptor).is_err() {
                spin_loop();
            }
        }
    });
    let mut expected = 0;
    let time = median_batch(plan, || {
        let descriptor = loop {
            match consumer.pop() {
                Ok(descriptor) => break descriptor,
                Err(_) => spin_loop(),
            }
        };
        assert_eq!(black_box(descriptor).msg_id, expected);
        expected += 1;
    });
    sender.join().expect("sender");
    time
}

fn ring_batch(plan: &Plan, region: RawRegion) -> f64 {
    let (mut producer, mut consumer) = ring(region);
    let total = plan.total();
    let sender = thread::spawn(move || {
        let mut next = 0;
        let mut batch = [MsgDescHot::new(); CHUNK];
        while next < total {
            for (offset, descriptor) in batch.iter_mut().enumerate() {
                descriptor.msg_id = next + offset as u64;
            }
            let mut rest = &batch[..];
            while !rest.is_empty() {
                let pushed = producer.push_batch(rest).expect("no fault");
                rest = &rest[pushed..];
                if pushed == 0 {
                    spin_loop();
                }
            }
            next += CHUNK as u64;
        }
    });
    let mut expected = 0;
    let mut batch = [MsgDescHot::new(); CHUNK];
    let chunks = Plan { batch: plan.batch / CHUNK as u64, ..*plan };
    let time = median_batch(&chunks, || {
        let mut rest = &mut batch[..];
        while !rest.is_empty() {
            let popped = consumer.pop_batch(rest).expect("no fault");
            if popped == 0 {
                spin_loop();
            }
            rest = &mut rest[popped..];
        }
        for descriptor in &batch {
            assert_eq!(black_box(descriptor).msg_id, expected);
            expected += 1;
        }
    });
    sender.join().expect("sender");
    time / CHUNK as f64
}

fn rtrb_batch(plan: &Plan) -> f64 {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<MsgDescHot>::new(CAPACITY as usize);
    let total = plan.total();
    let sender = thread::spawn(move || {
        let mut next = 0;
        while next < total {
            if let Ok(chunk) = producer.write_chunk_uninit(CHUNK) {
                let first = next;
                let written = chunk.fill_from_iter((0..CHUNK as u64).map(|offset| MsgDescHot::data(first + offset)));
                next += written as u64;
            } else {
                spin_loop();
            }
        }
    });
    let mut expected = 0;
    let mut batch = [MsgDescHot::new(); CHUNK];
    let chunks = Plan { batch: plan.batch / CHUNK as u64, ..*plan };
    let time = median_batch(&chunks, || {
        let chunk = loop {
            match consumer.read_chunk(CHUNK) {
                Ok(chunk) => break chunk,
                Err(_) => spin_loop(),
            }
        };
        for (place, descriptor) in batch.iter_mut().zip(chunk) {
            *place = descriptor;
        }
        for descriptor in &batch {
            assert_eq!(black_box(descriptor).msg_id, expected);
            expected += 1;
        }
    });
    sender.join().expect("sender");
    time / CHUNK as f64
}

fn session_inline(plan: &Plan) -> f64 {
    let (a, b) = ShmSession::pair(ShmSessionConfig::default()).expect("pair");
    let ((mut tx, _a), (_b, mut rx)) = (a.into_split(), b.into_split());
    let total = plan.total();
    let sender = thread::spawn(move || {
        for number in 0..total {
            tx.send(&MsgDescHot::data(number), b"").expect("sent");
        }
    });
    let mut expected = 0;
    let time = median_batch(plan, || {
        let message = rx.recv().expect("received");
        assert_eq!(black_box(message.descriptor()).msg_id, expected);
        expected += 1;
    });
    sender.join().expect("sender");
    time
}

fn session_batch(plan: &Plan) -> f64 {
    let (a, b) = ShmSession::pair(ShmSessionConfig::default()).expect("pair");
    let ((mut tx, _a), (_b, mut rx)) = (a.into_split(), b.into_split());
    let total = plan.total();
    let sender = thread::spawn(move || {
        let mut next = 0;
        while next < total {
            let batch: [MsgDescHot; CHUNK] = std::array::from_fn(|offset| MsgDescHot::data(next + offset as u64));
            tx.send_batch(batch.iter().map(|descriptor| (descriptor, &b""[..]))).expect("sent");
            next += CHUNK as u64;
        }
    });
    let mut expected = 0;
    let time = median_batch(plan, || {
        let message = rx.recv().expect("received");
        assert_eq!(black_box(message.descriptor()).msg_id, expected);
        expected += 1;
    });
    sender.join().expect("sender");
    time
}

fn session_slots(plan: &Plan, len: usize) -> f64 {
    let config = ShmSessionConfig { slot_size: u32::try_from(len).expect("small"), ..ShmSessionConfig::default() };
    let (a, b) = ShmSession::pair(config).expect("pair");
    let ((mut tx, _a), (_b, mut rx)) = (a.into_split(), b.into_split());
    let total = plan.total();
    let sender = thread::spawn(move || {
        for number in 0..total {
            let mut loan = tx.loan(len).expect("slot");
            loan.fill(number.to_le_bytes()[0]);
            tx.send_loan(&MsgDescHot::data(number), loan).expect("sent");
        }
    });
    let mut expected = 0_u64;
    let time = median_batch(plan, || {
        let message = rx.recv().expect("received");
        let wanted = expected.to_le_bytes()[0];
        assert_eq!((message.payload()[0], message.payload()[len - 1]), (wanted, wanted));
        expected += 1;
    });
    sender.join().expect("sender");
    time
}

/// Writing and copying the same bytes in private memory.
fn copy_floor(plan: &Plan, len: usize) -> f64 {
    let (from, mut to) = (Arc::new(vec![7_u8; len]), vec![0_u8; len]);
    median_batch(plan, || {
        to.copy_from_slice(black_box(&from));
        black_box(&mut to);
    })
}

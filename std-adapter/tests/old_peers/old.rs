//! The published side: its sessions, its transport, and a runtime to drive it.

use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rapace_core::Transport;
use rapace_shm::{FrameFlags, MsgDescHot, ShmSessionConfig};
pub use rapace_transport_shm::{ShmSession, ShmTransport};

use crate::frames::Frame;

/// How long anything may take: a test that hangs has failed.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Silence that a peer of the published crate takes for death, in nanoseconds.
pub const SILENCE: u64 = 3_000_000_000;

pub fn config(ours: ShmSessionConfig) -> rapace_transport_shm::ShmSessionConfig {
    let ShmSessionConfig { ring_capacity, slot_size, slot_count } = ours;
    rapace_transport_shm::ShmSessionConfig { ring_capacity, slot_size, slot_count }
}

/// Its side A of a session that appears at the path once it is whole. It writes the file in place, and has no word for
/// "ready".
pub fn create(path: &Path, shape: ShmSessionConfig) -> Arc<ShmSession> {
    let unfinished = path.with_extension("unfinished");
    let session = ShmSession::create_file(&unfinished, config(shape)).unwrap();
    std::fs::rename(unfinished, path).unwrap();
    session
}

/// Its side B of the session at the path.
pub fn open(path: &Path) -> Arc<ShmSession> {
    ShmSession::open_file_auto(path).unwrap()
}

/// Drives what the published crate does.
pub fn run<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, what).await }).expect("within the limit")
}

/// A frame as the published crate has it.
pub fn frame(Frame { descriptor, payload }: Frame) -> rapace_core::Frame {
    let mut frame = rapace_core::Frame::with_payload(published(&descriptor), payload);
    if frame.payload().len() <= 16 {
        // The caller's bytes are in the descriptor, where the published crate looks for them.
        let payload = frame.payload.take().unwrap();
        frame = rapace_core::Frame::with_inline_payload(frame.desc, &payload).unwrap();
    }
    frame
}

pub async fn send(transport: &ShmTransport, what: Frame) {
    transport.send_frame(&frame(what)).await.unwrap();
}

/// Receives the next frame, which must be this one.
pub async fn receive(transport: &impl Transport, expected: &Frame) {
    let seen = transport.recv_frame().await.unwrap();
    expected.assert_is(&ours(seen.desc), seen.payload);
}

fn published(descriptor: &MsgDescHot) -> rapace_core::MsgDescHot {
    let mut other = rapace_core::MsgDescHot::new();
    other.msg_id = descriptor.msg_id;
    other.channel_id = descriptor.channel_id;
    other.method_id = descriptor.method_id;
    other.flags = rapace_core::FrameFlags::from_bits_retain(descriptor.flags.bits());
    other.credit_grant = descriptor.credit_grant;
    other.deadline_ns = descriptor.deadline_ns;
    other.inline_payload = descriptor.inline_payload;
    other
}

fn ours(other: &rapace_core::MsgDescHot) -> MsgDescHot {
    MsgDescHot {
        msg_id: other.msg_id,
        channel_id: other.channel_id,
        method_id: other.method_id,
        payload_slot: other.payload_slot,
        payload_generation: other.payload_generation,
        payload_offset: other.payload_offset,
        payload_len: other.payload_len,
        flags: FrameFlags::from_bits_retain(other.flags.bits()),
        credit_grant: other.credit_grant,
        deadline_ns: other.deadline_ns,
        inline_payload: other.inline_payload,
    }
}

/// A word of the segment at the path, as its file shows it.
pub fn word(path: &Path, offset: usize) -> u64 {
    let mut bytes = [0; 8];
    File::open(path).unwrap().read_exact_at(&mut bytes, offset as u64).unwrap();
    u64::from_ne_bytes(bytes)
}

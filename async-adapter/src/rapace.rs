//! rapace's `Transport` over shared memory (feature `rapace`).
//!
//! ```text
//!   RpcSession --- send_frame(&Frame) ---> copied once, into a slot ---> the peer's recv_frame
//!   encoder ------ Frame, by its slot ---> frozen bytes, not copied ---> the peer's recv_frame
//!   RpcSession <-- recv_frame: FrameView -- lent out of the slot, until recv_frame is called again
//! ```
//!
//! That trait lends a view of the received frame from `&self`, so nothing in its types keeps a caller from receiving again
//! while it reads on. Hence the constructor is `unsafe` and says what its caller has to see to.

#![allow(unsafe_code)]

use parking_lot::Mutex;
use rapace_core::{EncodeCtx, EncodeError, Frame, FrameView, Transport, TransportError, ValidationError};
use rapace_shm::core::slots::{DataSegment, Slot, SlotPool};
use rapace_shm::{Error, FrameFlags, INLINE_PAYLOAD_SIZE, Message, MsgDescHot, OsEndpoint, ShmBytes, ShmEndpoint};

use crate::frozen::Frozen;
use crate::transport::ShmTransport;

/// A [`ShmTransport`] as rapace's [`Transport`]: over a session, or, in a hub, a plugin's
/// ([`HubPeerTransport`](crate::HubPeerTransport)) or the host's towards one plugin
/// ([`HubHostPeerTransport`](crate::HubHostPeerTransport)).
///
/// ```
/// use rapace_core::{Frame, MsgDescHot, Transport};
/// use rapace_shm::ShmSessionConfig;
/// use rapace_shm_async::{RapaceTransport, ShmTransport};
///
/// let (a, b) = ShmTransport::pair(ShmSessionConfig::default())?;
/// // SAFETY: each view below is used before the next frame is received.
/// let [a, b] = [a, b].map(|transport| unsafe { RapaceTransport::new(transport) });
/// futures::executor::block_on(async {
///     a.send_frame(&Frame::with_payload(MsgDescHot::new(), vec![7; 4000])).await?;
///     assert_eq!(b.recv_frame().await?.payload, [7; 4000]);
///     Ok::<_, rapace_core::TransportError>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Invariants
/// 1. What `last` holds is replaced or taken out only by [`recv_frame`](Transport::recv_frame), when it is polled.
/// 2. While it is there its descriptor stays where it is, as views borrow `self`, which contains it; and its payload
///    stays where it is, in a slot that the message owns or inside the message.
#[derive(Debug)]
pub struct RapaceTransport<E: OsEndpoint = ShmEndpoint, P: SlotPool = DataSegment> {
    transport: ShmTransport<E, P>,
    /// What the last view shows.
    last: Mutex<Option<Received<E, P>>>,
}

#[derive(Debug)]
struct Received<E: OsEndpoint, P: SlotPool> {
    descriptor: rapace_core::MsgDescHot,
    message: Message<E, P>,
}

impl<E: OsEndpoint, P: SlotPool> RapaceTransport<E, P> {
    /// The transport for an `RpcSession`.
    ///
    /// # Safety
    /// No [`FrameView`] that [`recv_frame`](Transport::recv_frame) gave may be used once `recv_frame` has been called again,
    /// by whatever task: its frame is gone then, and its slot may carry another one.
    ///
    /// `rapace_core::RpcSession` and `rapace::session::Session` fulfil this as long as their loop is the only one that
    /// receives: it copies what it needs of a frame before it receives the next one.
    #[must_use]
    pub unsafe fn new(transport: ShmTransport<E, P>) -> Self {
        Self { transport, last: Mutex::new(None) }
    }

    /// The transport below.
    #[must_use]
    pub fn transport(&self) -> &ShmTransport<E, P> {
        &self.transport
    }

    /// Keeps a message and shows it.
    fn lend(&self, message: Message<E, P>) -> FrameView<'_> {
        let mut last = self.last.lock();
        let received = last.insert(Received { descriptor: to_rapace(message.descriptor()), message });
        let (descriptor, payload) = (&raw const received.descriptor, &raw const *received.message.payload());
        // SAFETY: invariants 1 and 2; the caller of `new` answers for the rest: nobody uses this view once it is replaced.
        let descriptor = unsafe { &*descriptor };
        // SAFETY: as above.
        let payload = unsafe { &*payload };
        FrameView::new(descriptor, payload)
    }
}

impl<E: Frozen<P>, P: SlotPool + Send + Sync + 'static> Transport for RapaceTransport<E, P> {
    async fn send_frame(&self, frame: &Frame) -> Result<(), TransportError> {
        let descriptor = from_rapace(&frame.desc);
        let sent = match self.in_place(frame)? {
            Some(bytes) => E::send_bytes(&self.transport, &descriptor, &bytes).await,
            None => self.transport.send(&descriptor, payload_of(frame)?).await,
        };
        sent.map_err(to_rapaces_error)
    }

    async fn recv_frame(&self) -> Result<FrameView<'_>, TransportError> {
        // The last view is over, and its slot is free before anybody waits for it.
        drop(self.last.lock().take());
        Ok(self.lend(self.transport.recv().await.map_err(to_rapaces_error)?))
    }

    /// One chunk that lies within [`ShmBytes`] of this session is referenced where it is, if it has more than 16 bytes: the
    /// bytes have to be kept until the frame was sent, by this transport, or sending it is an error. Everything else is
    /// copied, several chunks one behind the other; in a hub, all.
    fn encoder(&self) -> Box<dyn EncodeCtx + '_> {
        Box::new(Encoder { transport: &self.transport, chunks: Chunks::Copied(Vec::new()) })
    }

    /// The peer receives what was sent and then sees the end; a `recv_frame` that waits here sees it at once.
    async fn close(&self) -> Result<(), TransportError> {
        self.transport.close_both();
        Ok(())
    }
}

impl<E: Frozen<P>, P: SlotPool + Send + Sync + 'static> RapaceTransport<E, P> {
    /// What a frame refers to that the encoder made.
    fn in_place(&self, frame: &Frame) -> Result<Option<ShmBytes>, TransportError> {
        let rapace_core::MsgDescHot { payload_slot: reference, payload_generation: generation, .. } = frame.desc;
        if frame.desc.is_inline() || frame.payload.is_some() || frame.desc.payload_len == 0 {
            return Ok(None);
        }
        let from = frame.desc.payload_offset as usize;
        let range = from..from.saturating_add(frame.desc.payload_len as usize);
        match self.transport.endpoint().bytes_in(Slot { reference, generation }, range) {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(TransportError::Encode(EncodeError::EncodeFailed(format!(
                "frame refers to slot {reference}, generation {generation}, in which there are no frozen bytes (any more); \
                 keep the ShmBytes until the frame is sent, and send it through the transport that encoded it"
            )))),
        }
    }
}

/// The bytes of a frame that has them.
fn payload_of(frame: &Frame) -> Result<&[u8], TransportError> {
    if !frame.desc.is_inline() {
        return Ok(frame.payload.as_deref().unwrap_or_default());
    }
    let len = frame.desc.payload_len;
    let refused = ValidationError::InlinePayloadTooLarge { len, max: clamp(INLINE_PAYLOAD_SIZE) };
    frame.desc.inline_payload.get(..len as usize).ok_or(TransportError::Validation(refused))
}

/// A frame's bytes, in whatever chunks they come.
struct Encoder<'a, E: OsEndpoint, P: SlotPool> {
    transport: &'a ShmTransport<E, P>,
    chunks: Chunks,
}

enum Chunks {
    Copied(Vec<u8>),
    /// One chunk, where it is.
    InPlace(ShmBytes),
}

impl Chunks {
    fn len(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::InPlace(bytes) => bytes.len(),
        }
    }

    /// All chunks so far, to put another one behind them.
    fn into_copy(self) -> Vec<u8> {
        match self {
            Self::Copied(bytes) => bytes,
            Self::InPlace(bytes) => bytes.to_vec(),
        }
    }
}

impl<E: Frozen<P>, P: SlotPool + Send + Sync + 'static> EncodeCtx for Encoder<'_, E, P> {
    fn encode_bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let (needed, available) = (self.chunks.len().saturating_add(bytes.len()), self.transport.max_payload());
        if needed > available.max(INLINE_PAYLOAD_SIZE) {
            return Err(EncodeError::BufferTooSmall { needed, available });
        }
        let in_place = if self.chunks.len() == 0 { self.transport.endpoint().bytes_at(bytes) } else { None };
        self.chunks = match in_place {
            Some(bytes) => Chunks::InPlace(bytes),
            None => {
                let mut copied = std::mem::replace(&mut self.chunks, Chunks::Copied(Vec::new())).into_copy();
                copied.extend_from_slice(bytes);
                Chunks::Copied(copied)
            }
        };
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Frame, EncodeError> {
        let mut descriptor = rapace_core::MsgDescHot::new();
        if let Chunks::InPlace(bytes) = &self.chunks
            && bytes.len() > INLINE_PAYLOAD_SIZE
            && let Some((slot, range)) = bytes.location()
        {
            descriptor.payload_slot = slot.reference;
            descriptor.payload_generation = slot.generation;
            descriptor.payload_offset = clamp(range.start);
            descriptor.payload_len = clamp(range.len());
            return Ok(Frame::new(descriptor));
        }
        let bytes = self.chunks.into_copy();
        Ok(Frame::with_inline_payload(descriptor, &bytes).unwrap_or_else(|| Frame::with_payload(descriptor, bytes)))
    }
}

/// The two are the same 64 bytes, of two crates.
fn to_rapace(descriptor: &MsgDescHot) -> rapace_core::MsgDescHot {
    rapace_core::MsgDescHot {
        msg_id: descriptor.msg_id,
        channel_id: descriptor.channel_id,
        method_id: descriptor.method_id,
        payload_slot: descriptor.payload_slot,
        payload_generation: descriptor.payload_generation,
        payload_offset: descriptor.payload_offset,
        payload_len: descriptor.payload_len,
        flags: rapace_core::FrameFlags::from_bits_retain(descriptor.flags.bits()),
        credit_grant: descriptor.credit_grant,
        deadline_ns: descriptor.deadline_ns,
        inline_payload: descriptor.inline_payload,
    }
}

/// Without the payload, which the send step writes.
fn from_rapace(descriptor: &rapace_core::MsgDescHot) -> MsgDescHot {
    MsgDescHot {
        msg_id: descriptor.msg_id,
        channel_id: descriptor.channel_id,
        method_id: descriptor.method_id,
        flags: FrameFlags::from_bits_retain(descriptor.flags.bits()),
        credit_grant: descriptor.credit_grant,
        deadline_ns: descriptor.deadline_ns,
        ..MsgDescHot::new()
    }
}

/// What rapace has no word for stays what it is, inside an I/O error.
fn to_rapaces_error(error: Error) -> TransportError {
    match error {
        Error::Closed => TransportError::Closed,
        Error::TooLarge { len, max } => {
            TransportError::Validation(ValidationError::PayloadTooLarge { len: clamp(len), max: clamp(max) })
        }
        error => TransportError::Io(error.into()),
    }
}

fn clamp(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

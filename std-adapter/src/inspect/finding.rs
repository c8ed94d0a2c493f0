//! A field that looks wrong: which, what stands there, what should, and what that probably means.

use std::fmt;

/// Most findings that are kept. A segment of rubbish has one for every slot.
const MAX_FINDINGS: usize = 1000;

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// The first eight bytes are not a segment's, the rest is.
    Magic,
    /// Another major version, or bytes in the other order.
    Version,
    /// Bytes that must be zero are not.
    Reserved,
    /// A part of the shape that no segment can have.
    ShapeInvalid,
    /// A place that repeats a part of the shape says otherwise than the rest.
    ShapeDiffers,
    /// The file ends before the segment does.
    FileTooShort,
    /// The file goes on behind the segment.
    FileTooLong,
    /// Head and tail of a ring contradict each other.
    RingIndices,
    /// A list of free slots leads to a slot that does not exist.
    FreeLink,
    /// A list of free slots comes back to a slot that it has passed.
    FreeCycle,
    /// A slot is in two lists of free slots.
    ListedTwice,
    /// A slot in a list of free slots is not free.
    ListedNotFree,
    /// A free slot is in no list.
    Unlisted,
    /// A slot is in no known state.
    SlotState,
    /// A message names a slot that does not exist.
    MessageSlot,
    /// A message's payload does not lie within its slot.
    MessageRange,
    /// A message names another generation of its slot.
    MessageGeneration,
    /// The slot that a message names is not in flight.
    MessageState,
    /// Two messages name the same slot.
    MessageTwice,
    /// A message's inline payload is longer than fits.
    InlineLength,
    /// A sleeper word has no known value.
    Sleeper,
    /// The state of a ring's end has no known value.
    EndState,
    /// The state of a peer has no known value.
    PeerState,
    /// A word that says yes or no has another value (hubs).
    Flag,
    /// An entry of the peer table carries another number or type than its place (hubs).
    PeerNumber,
    /// The flags of a peer contradict each other, or have no known meaning (hubs).
    PeerFlags,
    /// The hub counts other peers than its entries say (hubs).
    PeerCount,
    /// Somebody who cannot exist waits for a slot (hubs).
    Waiter,
    /// A member announced a slot that does not exist (hubs).
    Announcement,
    /// The hub says that a size class has more extents than it may have (hubs that grow).
    Growth,
    /// There is no such slot as the one that is said to be the first that nobody has ever taken, or one behind it is in
    /// use or in a list (hubs that grow).
    Fresh,
    /// The owner of a slot is nobody who can own it (hubs).
    Owner,
    /// The owner of a slot in use was removed (hubs).
    OwnerRemoved,
    /// The owner of the slot that a message names is neither its sender nor its receiver (hubs).
    MessageOwner,
}

impl FindingKind {
    /// What it probably means, and what to do.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Magic => {
                "its creator writes it last: zero means that it is still at it, or died; \
                 anything else that somebody wrote here; nobody can attach"
            }
            Self::Version => "written by another version or another byte order; look with a program of that version",
            Self::Reserved => "written by a later version that uses these bytes, or overwritten",
            Self::ShapeInvalid => "somebody wrote here, or the creator is not this library; nobody can attach",
            Self::ShapeDiffers => "somebody wrote here after the segment was created; nobody can attach any more",
            Self::FileTooShort => "cut short, or copied in part: whoever touches the rest through a mapping is killed",
            Self::FileTooLong => "not made by this library, or made longer since; peers ignore the rest",
            Self::RingIndices => "a second producer or consumer, or somebody wrote here; the other end reports a fault",
            Self::FreeLink | Self::FreeCycle => {
                "somebody wrote here, or into a slot that was no longer its own; \
                 the slots behind it are lost until a peer resets the session, in a hub for good"
            }
            Self::ListedTwice => "a slot was freed twice; two senders would get it",
            Self::ListedNotFree => "a slot was freed twice, or its metadata was overwritten; whoever takes it faults",
            Self::Unlisted => {
                "a peer was killed, or is stopped, while it took or returned the slot; \
                 lost until the survivor resets the session, in a hub for good"
            }
            Self::SlotState => "written by a later version, or overwritten; whoever holds the slot reports a fault",
            Self::MessageSlot | Self::MessageRange | Self::InlineLength => {
                "overwritten, or from a sender that has lost its way; the receiver reports a fault when it comes to it"
            }
            Self::MessageGeneration | Self::MessageState => {
                "the slot was freed or reused before it was received; the receiver reports a fault when it comes to it"
            }
            Self::MessageTwice => "a slot was sent twice; the receiver reports a fault at the second",
            Self::Sleeper => "written by a later version, or overwritten; this side is signalled at every message",
            Self::EndState => "written by a later version, or overwritten; peers take it for open",
            Self::PeerState => "written by a later version, or overwritten; nobody can attach on this side",
            Self::Flag => "written by a later version, or overwritten; whatever is not zero is taken for yes",
            Self::PeerNumber => "somebody wrote here; the host knows its peers by the place, others may mistake it",
            Self::PeerFlags => "written by a later version, or overwritten; nobody can attach with this number",
            Self::PeerCount => {
                "somebody wrote here, or the host was killed while it added or removed a peer; nobody reads it"
            }
            Self::Waiter => "somebody wrote here; whoever frees a slot passes over it",
            Self::Announcement => {
                "somebody wrote here; what this member has in hand is not found should it be killed now"
            }
            Self::Growth => "somebody wrote here; whoever looks how many slots there are reports a fault",
            Self::Fresh => {
                "somebody wrote here, or into a slot that was no longer its own; senders report a fault, or two get it"
            }
            Self::Owner => "somebody wrote here; should its holder be killed, the slot is lost, or freed under another",
            Self::OwnerRemoved => {
                "its holder was removed without being reaped, as hosts of version 1.0 do; \
                 lost unless the other end of its ring still has the message in hand"
            }
            Self::MessageOwner => "somebody wrote here; should a member be killed, the slot is freed under another",
        }
    }
}

/// A field that looks wrong. Its `Display` says all of it in four lines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What is wrong with it.
    pub kind: FindingKind,
    /// Which field.
    pub field: String,
    /// What stands there.
    pub seen: String,
    /// What should.
    pub expected: String,
}

impl Finding {
    /// Whether it is the same damage to the same field, whatever its value is by now: what two looks have in common was
    /// not read while it was written.
    #[must_use]
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.field == other.field
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.field)?;
        writeln!(f, "    seen      {}", self.seen)?;
        writeln!(f, "    expected  {}", self.expected)?;
        write!(f, "    meaning   {}", self.kind.meaning())
    }
}

/// The findings of one look.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    omitted: u64,
}

impl Findings {
    pub(super) fn add(
        &mut self,
        kind: FindingKind,
        field: impl fmt::Display,
        seen: impl fmt::Display,
        expected: impl fmt::Display,
    ) {
        if self.kept.len() == MAX_FINDINGS {
            self.omitted += 1;
            return;
        }
        let (field, seen, expected) = (field.to_string(), seen.to_string(), expected.to_string());
        self.kept.push(Finding { kind, field, seen, expected });
    }

    /// Adds what another one has.
    pub(super) fn append(&mut self, other: Self) {
        self.omitted += other.omitted;
        for Finding { kind, field, seen, expected } in other.kept {
            self.add(kind, field, seen, expected);
        }
    }

    /// What was kept, and how many were not.
    pub(super) fn into_parts(self) -> (Vec<Finding>, u64) {
        (self.kept, self.omitted)
    }
}

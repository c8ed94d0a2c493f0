//! The messages that nobody has received: each is checked as its receiver will check it.

use std::collections::HashMap;

use rapace_shm_core::layout::{INLINE_PAYLOAD_SIZE, MsgDescHot, SlotMeta, SlotState};

use super::finding::{FindingKind, Findings};
use super::rings::RingPart;

/// The slots that messages name, seen from one ring.
pub(super) trait Named {
    /// What the slot of a message is.
    const ON_THE_WAY: &'static str;

    /// The slot that a message names so, and its size in bytes.
    fn find(&self, reference: u32) -> Option<(SlotMeta, u32)>;

    /// How people call it.
    fn name(&self, reference: u32) -> String;

    /// Which references there can be.
    fn rule(&self) -> String;

    /// What else there is to say of the slot of a message.
    fn check(&self, _field: &str, _reference: u32, _findings: &mut Findings) {}
}

/// The messages of several rings.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// The message that names each slot.
    named_by: HashMap<u32, String>,
}

impl Messages {
    /// How many slots of a kind were named.
    pub(super) fn count(&self, is_of_the_kind: impl Fn(u32) -> bool) -> u32 {
        let count = self.named_by.keys().filter(|reference| is_of_the_kind(**reference)).count();
        // There are fewer slots than that.
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Those of one ring.
    pub(super) fn check(&mut self, name: &str, ring: &RingPart, slots: &impl Named, findings: &mut Findings) {
        for (number, message) in (ring.status.tail..).zip(&ring.messages) {
            // What was received meanwhile may have its slot anywhere.
            if number >= ring.tail_after {
                self.message(format!("{name} message {number}"), message, slots, findings);
            }
        }
    }

    /// Checks one message and notes the slot that it names.
    fn message(&mut self, field: String, message: &MsgDescHot, slots: &impl Named, findings: &mut Findings) {
        let &MsgDescHot { payload_slot: reference, payload_len: len, .. } = message;
        if message.is_inline() {
            if len as usize > INLINE_PAYLOAD_SIZE {
                let expected = format!("at most {INLINE_PAYLOAD_SIZE} bytes");
                findings.add(FindingKind::InlineLength, field, format_args!("{len} bytes inline"), expected);
            }
            return;
        }
        let name = slots.name(reference);
        let Some((meta, size)) = slots.find(reference) else {
            return findings.add(FindingKind::MessageSlot, field, name, slots.rule());
        };
        if let Some(other) = self.named_by.get(&reference) {
            let seen = format!("{name}, which {other} names too");
            return findings.add(FindingKind::MessageTwice, field, seen, "a slot of its own");
        }
        range(&field, message, (&name, size), findings);
        its_slot(&field, message, (&name, meta), slots, findings);
        self.named_by.insert(reference, field);
    }
}

/// Whether the payload lies within the slot.
fn range(field: &str, message: &MsgDescHot, (name, size): (&str, u32), findings: &mut Findings) {
    let &MsgDescHot { payload_offset: offset, payload_len: len, .. } = message;
    if offset.checked_add(len).is_none_or(|end| end > size) {
        let seen = format!("{len} bytes from {offset} on in {name}");
        findings.add(FindingKind::MessageRange, field, seen, format_args!("within {size} bytes"));
    }
}

/// What a message's slot says of itself.
fn its_slot<S: Named>(
    field: &str,
    message: &MsgDescHot,
    (name, meta): (&str, SlotMeta),
    slots: &S,
    findings: &mut Findings,
) {
    let generation = message.payload_generation;
    if generation != meta.generation {
        let seen = format!("{name} of generation {generation}");
        findings.add(FindingKind::MessageGeneration, field, seen, format_args!("its generation, {}", meta.generation));
    } else if matches!(SlotState::from_u32(meta.state), Some(SlotState::Free | SlotState::Allocated)) {
        let seen = format!("{name} in state {}", meta.state);
        findings.add(FindingKind::MessageState, field, seen, S::ON_THE_WAY);
    } else {
        slots.check(field, message.payload_slot, findings);
    }
}

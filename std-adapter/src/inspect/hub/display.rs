//! The report of a hub as people read it: one fact per line, always in the same order. Places for plugins that are not
//! in use are counted and not shown.

use std::fmt;

use rapace_shm_core::hub::HOST;
use rapace_shm_core::layout::{DescRingHeader, HubConfig, HubHeader, PeerEntry};

use super::super::display::{findings, line, named, ring_and_ends, waits};
use super::super::words;
use super::{ClassReport, HubPartsReport, HubReport, MemberReport, is_old_host, may_grow};

impl fmt::Display for HubReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = &self.header;
        line(f, "file length", format_args!("{} bytes", self.len))?;
        line(f, "hub version", words::version(header.version))?;
        line(f, "host", named(header.host_state, words::peer_state))?;
        match &self.parts {
            Some(parts) => self::parts(f, header, parts)?,
            None => line(f, "the rest", "cannot be found")?,
        }
        findings(f, &self.findings, self.omitted, self.looks)
    }
}

fn parts(f: &mut fmt::Formatter<'_>, header: &HubHeader, parts: &HubPartsReport) -> fmt::Result {
    let HubPartsReport { config, members, classes } = parts;
    let HubConfig { max_peers, ring_capacity, .. } = config;
    let has_old_host = is_old_host(header);
    // A version 1.0 host has no place of its own.
    let plugins = usize::from(*max_peers) - usize::from(!has_old_host && *max_peers > 0);
    line(f, "shape", format_args!("{ring_capacity} descriptors per ring, at most {plugins} plugins"))?;
    if may_grow(header) {
        let (most, bytes) = (config.max_extents, header.max_size);
        line(f, "grows", format_args!("to {most} extents of each class, {bytes} bytes altogether"))?;
    }
    waits(f, "host for any", header.host_sleeper, header.host_sequence)?;
    line(f, "waiting for a slot", Waiters { listed: header.slot_waiters })?;
    line(f, "slots in doubt", if header.in_doubt == 0 { "no" } else { "yes, of a plugin that died" })?;
    for (number, class) in classes.iter().enumerate() {
        self::class(f, number, class)?;
    }
    let available = classes.first().map_or(0, |class| class.header.slot_available);
    let mut in_use = 0;
    for member in members {
        if member.id == HOST && !has_old_host {
            member_process(f, "host", member)?;
            hands(f, "host", member)?;
        } else if member.is_in_use() || member.entry.state != 0 {
            in_use += 1;
            self::member(f, member, available)?;
        }
    }
    line(f, "plugins", format_args!("{in_use}, room for {}", plugins.saturating_sub(in_use)))
}

/// Who has a bit in the list of those who wait for a slot.
struct Waiters {
    listed: u64,
}

impl fmt::Display for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.listed == 0 {
            return f.write_str("nobody");
        }
        let bits = (0..u64::BITS).filter(|bit| self.listed >> bit & 1 == 1);
        for (position, bit) in bits.enumerate() {
            let separator = if position > 0 { ", " } else { "" };
            match bit.checked_sub(u32::BITS) {
                None => write!(f, "{separator}plugin {bit}")?,
                Some(plugin) => write!(f, "{separator}host for plugin {plugin}")?,
            }
        }
        Ok(())
    }
}

/// Of a class that has grown, into how many.
struct Extents(u32);

impl fmt::Display for Extents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 1 { write!(f, " in {} extents", self.0) } else { Ok(()) }
    }
}

fn class(f: &mut fmt::Formatter<'_>, number: usize, class: &ClassReport) -> fmt::Result {
    let status = &class.status;
    let name = format!("class {number}");
    let extents = Extents(status.extents);
    line(f, &name, format_args!("{} slots of {} bytes{extents}", status.total, status.slot_size))?;
    line(f, format_args!("{name} free"), status.free)?;
    line(f, format_args!("{name} allocated"), status.allocated)?;
    let in_flight = format_args!("{}, of which {} in the rings", status.in_flight, class.in_rings);
    line(f, format_args!("{name} in flight"), in_flight)?;
    if status.unknown > 0 {
        line(f, format_args!("{name} in no known state"), status.unknown)?;
    }
    line(f, class.list.name, class.list)?;
    match class.header.quota {
        0 => Ok(()),
        quota => line(f, format_args!("{name} quota"), format_args!("{quota} slots per plugin")),
    }
}

fn member(f: &mut fmt::Formatter<'_>, member: &MemberReport, available: u32) -> fmt::Result {
    let MemberReport { id, entry, to_host, to_peer, .. } = member;
    let name = format!("plugin {}", id.0);
    let state = format_args!("{}; flags: {}", named(entry.state, words::peer_state), words::peer_flags(entry.flags));
    line(f, &name, state)?;
    member_process(f, &name, member)?;
    heartbeat(f, &name, entry)?;
    hands(f, &name, member)?;
    let [first, second] = words::hub_rings(*id);
    let plugin = id.0.to_string();
    ring_and_ends(f, &first, to_host)?;
    if to_host.header.waits_with_others == 0 {
        waits(f, "host for data", to_host.header.data_sleeper, entry.to_host)?;
    }
    producer_waits(f, &plugin, &to_host.header, available)?;
    ring_and_ends(f, &second, to_peer)?;
    waits(f, &format!("{plugin} for data"), to_peer.header.data_sleeper, entry.to_peer)?;
    producer_waits(f, "host", &to_peer.header, available)
}

/// Only what was looked up: the words that say it stand in the ring that the member produces into.
fn member_process(f: &mut fmt::Formatter<'_>, name: &str, member: &MemberReport) -> fmt::Result {
    match member.pid {
        0 => Ok(()),
        pid => line(f, format_args!("{name} process"), format_args!("{pid}, {}", member.process)),
    }
}

fn heartbeat(f: &mut fmt::Formatter<'_>, name: &str, entry: &PeerEntry) -> fmt::Result {
    let PeerEntry { epoch, last_seen, .. } = *entry;
    if epoch == 0 && last_seen == 0 {
        return Ok(());
    }
    line(f, format_args!("{name} heartbeat"), format_args!("number {epoch}, {last_seen} ns after 1970"))
}

fn producer_waits(f: &mut fmt::Formatter<'_>, who: &str, header: &DescRingHeader, available: u32) -> fmt::Result {
    waits(f, &format!("{who} for space"), header.space_sleeper, header.space_sequence)?;
    waits(f, &format!("{who} for a slot"), header.slots_sleeper, available)
}

/// What a member has, and what it is taking or giving back.
fn hands(f: &mut fmt::Formatter<'_>, name: &str, member: &MemberReport) -> fmt::Result {
    let counts = member.owned.iter().enumerate().filter(|(_, count)| **count > 0);
    let owned: Vec<String> = counts.map(|(class, count)| format!("{count} of class {class}")).collect();
    if !owned.is_empty() {
        line(f, format_args!("{name} owns"), owned.join(", "))?;
    }
    let announced = member.entry.announced.into_iter().filter_map(|said| said.checked_sub(1));
    let announced: Vec<String> = announced.map(words::slot_reference).collect();
    if !announced.is_empty() {
        line(f, format_args!("{name} has in hand"), announced.join(", "))?;
    }
    Ok(())
}

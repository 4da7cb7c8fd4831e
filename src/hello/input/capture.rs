//! Capture files: the packets of pcap and pcapng.
//!
//! Formats after draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. A file that breaks off is read
//! as far as it goes.

use super::{Format, InputError};
use crate::hello::take::Take;

/// One captured packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// LINKTYPE of its interface.
    pub(super) link: u32,
    /// What was captured of it.
    pub(super) bytes: &'a [u8],
}

/// The packets of a file.
#[derive(Debug, Default)]
pub(super) struct Packets<'a> {
    pub(super) list: Vec<Packet<'a>>,
    /// A link type of packets that were left out because it is not read here.
    pub(super) unread_link: Option<u32>,
    pub(super) remarks: Vec<String>,
    /// Packets of which the capture kept only the beginning.
    clipped: usize,
}

impl<'a> Packets<'a> {
    fn add(&mut self, link: u32, bytes: &'a [u8], on_the_wire: u32) {
        if !super::frame::LINKS.contains(&link) {
            self.unread_link = Some(link);
            return;
        }
        self.clipped += usize::from(usize::try_from(on_the_wire).is_ok_and(|n| n > bytes.len()));
        self.list.push(Packet { link, bytes });
    }
}

/// The format of a capture file, by its first bytes.
pub(super) fn recognise(bytes: &[u8]) -> Option<Format> {
    let magic = bytes.first_chunk::<4>()?;
    match *magic {
        PCAPNG => Some(Format::Pcapng),
        _ if Endian::of_pcap(*magic).is_some() => Some(Format::Pcap),
        _ => None,
    }
}

/// All packets, in the order of the file.
pub(super) fn packets(bytes: &[u8], format: Format) -> Result<Packets<'_>, InputError> {
    let mut packets = Packets::default();
    let whole = match format {
        Format::Pcapng => pcapng(bytes, &mut packets),
        _ => pcap(bytes, &mut packets),
    }?;
    if whole.is_none() {
        packets.remarks.push("the capture file breaks off in the middle of a packet".to_owned());
    }
    if packets.clipped > 0 {
        packets.remarks.push(format!(
            "{} packets were captured only in part; capture with `tcpdump -s 0`",
            packets.clipped
        ));
    }
    Ok(packets)
}

/// How a file's numbers are written.
#[derive(Clone, Copy, Debug)]
enum Endian {
    Big,
    Little,
}

impl Endian {
    fn of_pcap(magic: [u8; 4]) -> Option<Self> {
        match magic {
            // Microseconds, nanoseconds.
            [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => Some(Self::Big),
            [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => Some(Self::Little),
            _ => None,
        }
    }

    fn u16(self, take: &mut Take<'_>) -> Option<u16> {
        let bytes = <[u8; 2]>::try_from(take.bytes(2)?).ok()?;
        Some(match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        })
    }

    fn u32(self, take: &mut Take<'_>) -> Option<u32> {
        let bytes = <[u8; 4]>::try_from(take.bytes(4)?).ok()?;
        Some(match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        })
    }

    fn length(self, take: &mut Take<'_>) -> Option<usize> {
        usize::try_from(self.u32(take)?).ok()
    }
}

/// `Ok(None)` where the file breaks off.
fn pcap<'a>(bytes: &'a [u8], packets: &mut Packets<'a>) -> Result<Option<()>, InputError> {
    let mut take = Take::new(bytes);
    let mut header = || {
        let endian = Endian::of_pcap(<[u8; 4]>::try_from(take.bytes(4)?).ok()?)?;
        // Version, time zone, accuracy, snapshot length.
        take.bytes(16)?;
        Some((endian, endian.u32(&mut take)?))
    };
    let Some((endian, link)) = header() else {
        return Err(InputError::Capture("its header is cut off"));
    };
    // The upper bits say how long a frame check sequence is.
    let link = link & 0x03ff_ffff;
    while !take.is_empty() {
        let mut packet = || {
            take.bytes(8)?;
            let length = endian.length(&mut take)?;
            let on_the_wire = endian.u32(&mut take)?;
            Some((take.bytes(length)?, on_the_wire))
        };
        let Some((bytes, on_the_wire)) = packet() else { return Ok(None) };
        packets.add(link, bytes, on_the_wire);
    }
    Ok(Some(()))
}

/// One interface of a pcapng section.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u32,
    snapshot: u32,
}

/// `Ok(None)` where the file breaks off.
fn pcapng<'a>(bytes: &'a [u8], packets: &mut Packets<'a>) -> Result<Option<()>, InputError> {
    let mut take = Take::new(bytes);
    let mut endian = Endian::Little;
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut blocks = 0_usize;
    while !take.is_empty() {
        if take.rest().starts_with(&PCAPNG) {
            let magic = take.rest().get(8..12);
            endian = match magic {
                Some([0x1a, 0x2b, 0x3c, 0x4d]) => Endian::Big,
                Some([0x4d, 0x3c, 0x2b, 0x1a]) => Endian::Little,
                _ if blocks == 0 => {
                    return Err(InputError::Capture("its header has no byte order"));
                }
                _ => return Ok(None),
            };
            interfaces.clear();
        }
        let Some((kind, body)) = block(&mut take, endian) else {
            return if blocks == 0 {
                Err(InputError::Capture("its header is cut off"))
            } else {
                Ok(None)
            };
        };
        blocks += 1;
        if in_block(kind, body, endian, &mut interfaces, packets).is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

/// A block's type and body.
fn block<'a>(take: &mut Take<'a>, endian: Endian) -> Option<(u32, &'a [u8])> {
    let kind = endian.u32(take)?;
    let length = endian.length(take)?;
    // Type, length, and the length again.
    let body = take.bytes(length.checked_sub(12)?)?;
    take.bytes(4)?;
    Some((kind, body))
}

fn in_block<'a>(
    kind: u32,
    body: &'a [u8],
    endian: Endian,
    interfaces: &mut Vec<Interface>,
    packets: &mut Packets<'a>,
) -> Option<()> {
    let mut take = Take::new(body);
    let interface = match kind {
        INTERFACE => {
            let link = u32::from(endian.u16(&mut take)?);
            take.bytes(2)?;
            interfaces.push(Interface { link, snapshot: endian.u32(&mut take)? });
            return Some(());
        }
        ENHANCED_PACKET => endian.length(&mut take)?,
        OLD_PACKET => {
            let interface = endian.u16(&mut take)?;
            take.bytes(2)?;
            usize::from(interface)
        }
        SIMPLE_PACKET => 0,
        _ => return Some(()),
    };
    let interface = *interfaces.get(interface)?;
    let (length, on_the_wire) = if kind == SIMPLE_PACKET {
        let on_the_wire = endian.u32(&mut take)?;
        let snapshot = if interface.snapshot == 0 { u32::MAX } else { interface.snapshot };
        (usize::try_from(on_the_wire.min(snapshot)).ok()?, on_the_wire)
    } else {
        take.bytes(8)?;
        (endian.length(&mut take)?, endian.u32(&mut take)?)
    };
    packets.add(interface.link, take.bytes(length)?, on_the_wire);
    Some(())
}

/// The type of a section header block, the same in both byte orders.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

//! From a captured frame to the TCP segment in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::capture::Packet;
use crate::hello::take::Take;

/// One TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) payload: &'a [u8],
}

/// What a frame has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// A TCP segment.
    Tcp(Segment<'a>),
    /// A part of a fragmented IP packet, which is not put together here.
    Fragment,
    /// Anything else, or too little of it.
    Other,
}

/// Reads a frame.
pub(super) fn read<'a>(packet: &Packet<'a>) -> Content<'a> {
    let network = match packet.link {
        ETHERNET => ethernet(packet.bytes),
        // Protocol at the end of the header.
        SLL => tagged(packet.bytes, 14, 0),
        // Protocol at its beginning, 18 bytes of header behind it.
        SLL2 => tagged(packet.bytes, 0, 18),
        // The address family depends on the system that captured; the IP version does not.
        NULL | LOOP => packet.bytes.get(4..),
        _ => Some(packet.bytes),
    };
    network.and_then(ip).unwrap_or(Content::Other)
}

fn ethernet(bytes: &[u8]) -> Option<&[u8]> {
    tagged(bytes, 12, 0)
}

/// The IP packet behind an EtherType that stands at `at`, with `behind` more bytes of header behind
/// it, and behind any VLAN tags (IEEE 802.1Q).
fn tagged(bytes: &[u8], at: usize, behind: usize) -> Option<&[u8]> {
    let mut take = Take::new(bytes.get(at..)?);
    let mut kind = take.u16()?;
    take.bytes(behind)?;
    for _ in 0..MOST_TAGS {
        if !VLAN.contains(&kind) {
            break;
        }
        take.bytes(2)?;
        kind = take.u16()?;
    }
    IP.contains(&kind).then_some(take.rest())
}

fn ip(bytes: &[u8]) -> Option<Content<'_>> {
    match bytes.first()? >> 4 {
        4 => ipv4(bytes),
        6 => ipv6(bytes),
        _ => None,
    }
}

/// RFC 791 section 3.1.
fn ipv4(bytes: &[u8]) -> Option<Content<'_>> {
    let mut take = Take::new(bytes);
    let header = usize::from(take.u8()? & 0x0f) * 4;
    take.u8()?;
    let total = usize::from(take.u16()?);
    take.bytes(2)?;
    let fragment = take.u16()?;
    take.u8()?;
    let protocol = take.u8()?;
    take.bytes(2)?;
    let from = Ipv4Addr::from(<[u8; 4]>::try_from(take.bytes(4)?).ok()?);
    let to = Ipv4Addr::from(<[u8; 4]>::try_from(take.bytes(4)?).ok()?);
    if protocol != TCP {
        return None;
    }
    // More fragments, or an offset.
    if fragment & 0x3fff != 0 {
        return Some(Content::Fragment);
    }
    // Ethernet pads short packets; segmentation offload leaves the length at zero.
    let end = if total == 0 { bytes.len() } else { total.min(bytes.len()) };
    tcp(from.into(), to.into(), bytes.get(header.max(20)..end)?)
}

/// RFC 8200 section 3, with the extension headers of section 4.
fn ipv6(bytes: &[u8]) -> Option<Content<'_>> {
    let mut take = Take::new(bytes);
    take.bytes(4)?;
    let length = usize::from(take.u16()?);
    let mut next = take.u8()?;
    take.u8()?;
    let from = Ipv6Addr::from(<[u8; 16]>::try_from(take.bytes(16)?).ok()?);
    let to = Ipv6Addr::from(<[u8; 16]>::try_from(take.bytes(16)?).ok()?);
    let rest = take.rest();
    let end = if length == 0 { rest.len() } else { length.min(rest.len()) };
    let mut take = Take::new(rest.get(..end)?);
    for _ in 0..MOST_EXTENSIONS {
        match next {
            TCP => return tcp(from.into(), to.into(), take.rest()),
            HOP_BY_HOP | ROUTING | DESTINATION => {
                next = take.u8()?;
                let units = usize::from(take.u8()?);
                take.bytes(units * 8 + 6)?;
            }
            FRAGMENT => {
                next = take.u8()?;
                take.u8()?;
                // An atomic fragment (RFC 6946) is whole.
                if take.u16()? & 0xfff9 != 0 {
                    return (next == TCP).then_some(Content::Fragment);
                }
                take.bytes(4)?;
            }
            _ => return None,
        }
    }
    None
}

/// RFC 9293 section 3.1.
fn tcp(from: IpAddr, to: IpAddr, bytes: &[u8]) -> Option<Content<'_>> {
    let mut take = Take::new(bytes);
    let (source, destination) = (take.u16()?, take.u16()?);
    let sequence = u32::from_be_bytes(<[u8; 4]>::try_from(take.bytes(4)?).ok()?);
    take.bytes(4)?;
    let header = usize::from(take.u8()? >> 4) * 4;
    let flags = take.u8()?;
    let payload = bytes.get(header.max(20)..)?;
    Some(Content::Tcp(Segment {
        from: SocketAddr::new(from, source),
        to: SocketAddr::new(to, destination),
        sequence,
        syn: flags & 0x02 != 0,
        ack: flags & 0x10 != 0,
        payload,
    }))
}

/// LINKTYPE values (tcpdump.org/linktypes) that are read here. Raw IP has three.
pub(super) const LINKS: [u32; 10] =
    [NULL, ETHERNET, 12, 14, RAW, LOOP, SLL, IPV4_ONLY, IPV6_ONLY, SLL2];
const NULL: u32 = 0;
const ETHERNET: u32 = 1;
const RAW: u32 = 101;
const LOOP: u32 = 108;
const SLL: u32 = 113;
const IPV4_ONLY: u32 = 228;
const IPV6_ONLY: u32 = 229;
const SLL2: u32 = 276;
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const IP: [u16; 2] = [0x0800, 0x86dd];
const MOST_TAGS: usize = 4;
const MOST_EXTENSIONS: usize = 8;
const TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

//! Capture files, written byte by byte.

/// What a client sends: segments in the order of their capture, each with its place in the stream.
pub(crate) type Segments<'a> = Vec<(usize, &'a [u8])>;

/// A capture of raw IPv4 packets: a connection for each of these, begun with a SYN.
pub(crate) fn pcap(connections: &[Segments<'_>]) -> Vec<u8> {
    let mut file = vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];
    file.extend(101_u32.to_be_bytes());
    for (index, segments) in connections.iter().enumerate() {
        let port = 50_000 + u16::try_from(index).unwrap();
        file.extend(frame(&packet(port, 1000, SYN, &[])));
        for (place, bytes) in segments {
            let sequence = 1001 + u32::try_from(*place).unwrap();
            file.extend(frame(&packet(port, sequence, PUSH_ACK, bytes)));
        }
    }
    file
}

/// A connection that sends `bytes` in segments of `size`.
pub(crate) fn in_segments(bytes: &[u8], size: usize) -> Segments<'_> {
    bytes.chunks(size).enumerate().map(|(index, part)| (index * size, part)).collect()
}

fn packet(port: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(40 + payload.len()).unwrap().to_be_bytes();
    [
        &[0x45, 0][..],
        &length,
        &[0, 0, 0, 0, 64, 6, 0, 0, 10, 10, 0, 7, 198, 51, 100, 11],
        &port.to_be_bytes(),
        &443_u16.to_be_bytes(),
        &sequence.to_be_bytes(),
        &[0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0],
        payload,
    ]
    .concat()
}

fn frame(packet: &[u8]) -> Vec<u8> {
    let size = u32::try_from(packet.len()).unwrap().to_be_bytes();
    [&[0; 8][..], &size, &size, packet].concat()
}

const SYN: u8 = 2;
const PUSH_ACK: u8 = 24;

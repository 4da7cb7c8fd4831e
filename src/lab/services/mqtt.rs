//! As much of an MQTT 3.1.1 broker as a device notices: everything is accepted and acknowledged.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Talks to one client until it disconnects or closes.
pub(super) async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        let packet = match read_packet(&mut stream).await {
            Ok(packet) => packet,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return stream.shutdown().await;
            }
            Err(error) => return Err(error),
        };
        let id = packet.identifier();
        let answer: &[u8] = match (packet.first >> 4, id) {
            (CONNECT, _) => &[0x20, 2, 0, 0],
            (PUBLISH, Some([high, low])) if packet.first & QOS != 0 => &[0x40, 2, high, low],
            (SUBSCRIBE, Some([high, low])) => &[0x90, 3, high, low, 1],
            (PINGREQ, _) => &[0xd0, 0],
            (DISCONNECT, _) => return stream.shutdown().await,
            _ => &[],
        };
        stream.write_all(answer).await?;
        stream.flush().await?;
    }
}

/// One control packet (section 2.1 of the standard).
#[derive(Debug)]
pub(crate) struct Packet {
    /// Type and flags.
    pub(crate) first: u8,
    body: Vec<u8>,
}

impl Packet {
    /// The packet identifier, where this type of packet has one.
    pub(crate) fn identifier(&self) -> Option<[u8; 2]> {
        let at = match self.first >> 4 {
            // It follows the topic, which has its length in front.
            PUBLISH => {
                let length = self.body.first_chunk::<2>().copied().map(u16::from_be_bytes)?;
                2 + usize::from(length)
            }
            _ => 0,
        };
        self.body.get(at..)?.first_chunk::<2>().copied()
    }

    /// What stands behind the packet identifier or the flags.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }
}

/// Reads one control packet; none larger than 1 MiB.
pub(crate) async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Packet> {
    let first = stream.read_u8().await?;
    let mut length = 0;
    for shift in [0, 7, 14] {
        let byte = stream.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            return Ok(Packet { first, body });
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "an MQTT packet too large for the lab"))
}

const CONNECT: u8 = 1;
const PUBLISH: u8 = 3;
const SUBSCRIBE: u8 = 8;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;
const QOS: u8 = 0b0110;

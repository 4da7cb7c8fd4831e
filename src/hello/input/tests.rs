use proptest::prelude::*;

use super::*;
use crate::reason::Reason;

const NAME: &str = "device.example.com";

/// A TLS 1.2 hello with one server name.
fn hello() -> Vec<u8> {
    let name = NAME.as_bytes();
    let length = u8::try_from(name.len()).unwrap();
    let sni = [&[0, 0, 0, length + 5, 0, length + 3, 0, 0, length], name].concat();
    let extensions = u8::try_from(sni.len()).unwrap();
    let fields = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0xc0, 0x2f, 1, 0, 0, extensions]].concat();
    let body = [fields, sni].concat();
    let size = u8::try_from(body.len()).unwrap();
    [&[22, 3, 1, 0, size + 4, 1, 0, 0, size], &*body].concat()
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Client,
    Server,
}

/// A TCP segment in IPv4, or in IPv6 with a hop-by-hop header.
fn segment(v6: bool, side: Side, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let ports = [49_152_u16.to_be_bytes(), 8_883_u16.to_be_bytes()];
    let (from, to) = if side == Side::Client { (0, 1) } else { (1, 0) };
    let tcp = [
        &ports[from][..],
        &ports[to],
        &sequence.to_be_bytes(),
        &[0; 4],
        &[0x50, flags],
        &[0; 6],
        payload,
    ]
    .concat();
    if v6 {
        let length = u16::try_from(tcp.len() + 8).unwrap().to_be_bytes();
        let ends = [[1_u8; 16], [2; 16]];
        let header = [&[0x60, 0, 0, 0][..], &length, &[0, 64], &ends[from], &ends[to]].concat();
        return [header, vec![6, 0, 1, 4, 0, 0, 0, 0], tcp].concat();
    }
    let length = u16::try_from(tcp.len() + 20).unwrap().to_be_bytes();
    let ends = [[10, 10, 0, 7], [198, 51, 100, 11]];
    let header =
        [&[0x45, 0][..], &length, &[0; 4], &[64, 6, 0, 0], &ends[from], &ends[to]].concat();
    [header, tcp].concat()
}

fn client(sequence: u32, payload: &[u8]) -> Vec<u8> {
    segment(false, Side::Client, sequence, 0x18, payload)
}

fn syn(sequence: u32) -> Vec<u8> {
    segment(false, Side::Client, sequence, 0x02, &[])
}

/// A frame of a link type.
fn framed(link: u32, ip: &[u8]) -> Vec<u8> {
    let kind = if ip[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    match link {
        0 | 108 => [&[2, 0, 0, 0], ip].concat(),
        1 => [&[0xaa; 12][..], &[0x81, 0, 0, 5], &kind, ip, &[0; 7]].concat(),
        113 => [&[0; 14][..], &kind, ip].concat(),
        276 => [&kind[..], &[0; 18], ip].concat(),
        _ => ip.to_vec(),
    }
}

fn pcap(link: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0];
    file.extend(link.to_le_bytes());
    for packet in packets {
        let frame = framed(link, packet);
        let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
        file.extend([[0; 4], [0; 4], length, length].concat());
        file.extend(frame);
    }
    file
}

/// Big-endian, with a simple packet block and then enhanced ones.
fn pcapng(link: u16, packets: &[Vec<u8>]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let length = u32::try_from(padded + 12).unwrap().to_be_bytes();
        let padding = vec![0; padded - body.len()];
        [&kind.to_be_bytes()[..], &length, body, &padding, &length].concat()
    };
    let section = [&[0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0][..], &[0xff; 8]].concat();
    let mut file = block(0x0a0d_0d0a, &section);
    file.extend(block(1, &[&link.to_be_bytes()[..], &[0, 0, 0, 0, 0, 0]].concat()));
    file.extend(block(5, &[0; 8]));
    for (index, packet) in packets.iter().enumerate() {
        let frame = framed(u32::from(link), packet);
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        file.extend(match index {
            0 => block(3, &[&length[..], &frame].concat()),
            _ => block(6, &[&[0; 12][..], &length, &length, &frame].concat()),
        });
    }
    file
}

#[track_caller]
fn one(bytes: &[u8]) -> (Format, Found) {
    let mut examined = examine(bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(examined.found.len(), 1, "{examined:?}");
    (examined.format, examined.found.remove(0))
}

#[track_caller]
fn named(bytes: &[u8]) -> (Format, Found) {
    let (format, found) = one(bytes);
    let hello = found.answer.as_ref().unwrap_or_else(|refusal| panic!("{refusal:?}"));
    assert_eq!(hello.name.as_str(), NAME);
    assert_eq!(hello.facts.traits.ciphers(), [0xc02f]);
    (format, found)
}

#[test]
fn every_form_of_the_same_bytes_is_recognised() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};
    let bytes = hello();
    assert_eq!(named(&bytes).0, Format::Binary);
    let join = |by: &str, before: &str| {
        let words: Vec<_> = bytes.iter().map(|byte| format!("{before}{byte:02X}")).collect();
        words.join(by)
    };
    let line = join("", "");
    let hex = [
        join(" ", ""),
        join(":", ""),
        join(", ", "0x"),
        format!("0x{line}\n"),
        join("\r\n", ""),
        format!("\u{feff}{line}"),
    ];
    for text in hex {
        assert_eq!(named(text.as_bytes()).0, Format::Hex, "{text}");
    }
    let mut wrapped = STANDARD.encode(&bytes);
    wrapped.insert(40, '\n');
    for text in [wrapped, STANDARD_NO_PAD.encode(&bytes), URL_SAFE.encode(&bytes)] {
        assert_eq!(named(text.as_bytes()).0, Format::Base64, "{text}");
    }
    let capture = STANDARD.encode(pcap(1, &[syn(9), client(10, &bytes)]));
    assert_eq!(named(capture.as_bytes()).0, Format::Pcap);
}

#[test]
fn what_is_no_input_says_so() {
    assert_eq!(examine(b"").unwrap_err(), InputError::Empty);
    assert_eq!(examine(b"16 03 0").unwrap_err(), InputError::HalfByte(5));
    assert_eq!(examine(&[0x1f, 0x8b, 8, 0]).unwrap_err(), InputError::Compressed);
    let clear = one(b"GET / HTTP/1.1\r\n").1.answer.unwrap_err();
    assert_eq!((clear.reason, &*clear.first_bytes), (Reason::NotTls, &b"GET / HTTP/1.1\r\n"[..]));
    assert_eq!(one(b"EHLO").1.answer.unwrap_err().first_bytes, b"EHLO");
    assert_eq!(one(&hello()[..60]).1.answer.unwrap_err().reason, Reason::HelloCut);
    let wifi = pcap(105, &[vec![0; 60]]);
    assert_eq!(examine(&wifi).unwrap_err(), InputError::LinkType(105));
    assert!(matches!(examine(&pcap(1, &[])), Err(InputError::NoStream(_))));
    assert!(
        matches!(examine(&pcap(1, &[syn(1)])), Err(InputError::NoStream(why)) if why.contains("1 conn"))
    );
    assert!(matches!(examine(&pcap(1, &[])[..20]), Err(InputError::Capture(_))));
    assert!(matches!(examine(&pcapng(1, &[])[..20]), Err(InputError::Capture(_))));
}

#[test]
fn every_link_type_and_both_formats_are_read() {
    for v6 in [false, true] {
        let packets = [
            segment(v6, Side::Client, 99, 0x02, &[]),
            segment(v6, Side::Server, 7, 0x12, &[]),
            // In two: what pads the first frame would spoil the second.
            segment(v6, Side::Client, 100, 0x18, &hello()[..30]),
            segment(v6, Side::Client, 130, 0x18, &hello()[30..]),
            segment(v6, Side::Server, 8, 0x18, &[22, 3, 3, 0, 9, 2]),
        ];
        for link in [0, 1, 12, 101, 108, 113, 276] {
            let (format, found) = named(&pcap(link, &packets));
            let (client, server) = found.between.unwrap();
            assert_eq!((format, client.port(), server.port()), (Format::Pcap, 49_152, 8_883));
            assert_eq!(client.is_ipv6(), v6);
            let link = u16::try_from(link).unwrap();
            assert_eq!(named(&pcapng(link, &packets)).0, Format::Pcapng);
        }
    }
}

#[test]
fn streams_are_put_in_order_across_the_wrap() {
    let bytes = hello();
    let (first, rest) = bytes.split_at(20);
    let (second, third) = rest.split_at(30);
    // The sequence number wraps inside the first segment.
    let base = u32::MAX - 9;
    let at = |offset: u32| base.wrapping_add(1).wrapping_add(offset);
    let overlapping = [&first[10..], second].concat();
    let packets = [
        syn(base),
        syn(base),
        client(at(50), third),
        client(at(0), &[]),
        client(at(10), &overlapping),
        client(at(u32::MAX), &[0]),
        client(at(0), first),
        client(at(0), first),
    ];
    let (_, found) = named(&pcap(1, &packets));
    assert_eq!(found.answer.unwrap().facts.bytes, bytes.len());
    let holed = [syn(base), client(at(0), first), client(at(50), third)];
    let (_, found) = one(&pcap(1, &holed));
    assert_eq!(found.answer.unwrap_err().reason, Reason::HelloCut);
    assert_eq!(found.remarks, ["the capture lacks 30 bytes of the stream"]);
}

#[test]
fn each_connection_is_one_answer() {
    let http = b"GET / HTTP/1.1\r\n";
    let again = [syn(1), client(2, &hello()), syn(900_000), client(900_001, http)];
    let examined = examine(&pcap(1, &again)).unwrap();
    let reasons: Vec<_> =
        examined.found.iter().map(|found| found.answer.as_ref().err().map(|r| r.reason)).collect();
    assert_eq!(reasons, [None, Some(Reason::NotTls)]);
    // A SYN that carries data (TCP Fast Open).
    named(&pcap(1, &[segment(false, Side::Client, 5, 0x02, &hello())]));
    // Data in front of its SYN, as captures of several queues have it.
    named(&pcap(1, &[client(2, &hello()), syn(1)]));
}

#[test]
fn without_a_syn_only_a_beginning_is_judged() {
    named(&pcap(1, &[client(77, &hello())]));
    let answer = segment(false, Side::Server, 5, 0x18, &[22, 3, 3, 0, 9, 2, 0, 0, 5]);
    for later in [answer, client(77, &[23, 3, 3, 0, 1, 9]), client(77, &[])] {
        assert!(matches!(examine(&pcap(1, &[later])), Err(InputError::NoStream(_))));
    }
    let (_, found) = one(&pcap(1, &[client(77, b"MQTT in clear")]));
    assert_eq!(found.answer.unwrap_err().reason, Reason::NotTls);
    assert!(found.remarks[0].contains("before the capture"));
}

#[test]
fn a_file_that_breaks_off_is_read_as_far_as_it_goes() {
    let packets = [syn(1), client(2, &hello()), client(500, &[1; 40])];
    for whole in [pcap(1, &packets), pcapng(1, &packets)] {
        let examined = examine(&whole[..whole.len() - 9]).unwrap();
        assert!(examined.found[0].answer.is_ok());
        assert!(examined.remarks[0].contains("breaks off"), "{:?}", examined.remarks);
        for end in 0..whole.len() {
            let _ = examine(&whole[..end]);
        }
    }
}

proptest! {
    #[test]
    fn no_input_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = examine(&bytes);
        for magic in [&pcap(1, &[])[..], &pcap(101, &[]), &pcap(276, &[]), &pcapng(1, &[])] {
            let _ = examine(&[magic, &bytes].concat());
        }
    }

    #[test]
    fn no_damage_is_a_panic(at in any::<prop::sample::Index>(), byte: u8, ng: bool, v6: bool) {
        let packets = [
            segment(v6, Side::Client, 1, 2, &[]),
            segment(v6, Side::Client, 2, 24, &hello()),
            segment(v6, Side::Server, 9, 24, &hello()),
        ];
        let mut file = if ng { pcapng(1, &packets) } else { pcap(1, &packets) };
        let at = at.index(file.len());
        file[at] = byte;
        let _ = examine(&file);
    }
}

//! Bytes on the wire, as old and odd devices send them.

use std::time::Duration;

use sluicegate::lab::device::{exchange, udp_exchange};
use sluicegate::lab::services::{HISTORIAN, IOT_DATA};
use sluicegate::lab::{Lab, inside};

use crate::ask::{BOX, dig, start};
use crate::gate::{SOON, lab, until};

/// A question without EDNS, as resolvers of 1987 send it.
pub(crate) fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn ask(lab: &Lab, number: usize, bytes: Vec<u8>) -> Vec<u8> {
    let to = (BOX, 53).into();
    lab.device(number).run(async move || udp_exchange(to, &bytes, SOON).await).unwrap()
}

fn code(answer: &[u8]) -> u8 {
    answer[3] & 0x0f
}

fn counts(answer: &[u8]) -> [u16; 4] {
    [4, 6, 8, 10].map(|at| u16::from_be_bytes([answer[at], answer[at + 1]]))
}

fn is_truncated(answer: &[u8]) -> bool {
    answer[2] & 0x02 != 0
}

#[test]
fn a_device_without_edns_is_answered_in_512_bytes_or_by_tcp() {
    inside::test("wire::a_device_without_edns_is_answered_in_512_bytes_or_by_tcp", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        let answer = ask(&lab, 0, question(0x1234, IOT_DATA, 1));
        assert_eq!((&answer[..2], code(&answer)), (&[0x12, 0x34][..], 0));
        assert_eq!(counts(&answer), [1, 2, 0, 0], "no OPT to a device that sent none");
        // Forty addresses are more than 512 bytes.
        let many: Vec<_> = (1..=40).map(|octet| [10, 20, 0, octet].into()).collect();
        lab.zone().set_private(HISTORIAN, &many);
        let long = question(7, HISTORIAN, 1);
        let answer = until("the long answer", || {
            let answer = ask(&lab, 1, long.clone());
            is_truncated(&answer).then_some(answer)
        });
        assert!(answer.len() <= 512 && counts(&answer) == [1, 0, 0, 0], "{answer:?}");
        let framed = [&u16::try_from(long.len()).unwrap().to_be_bytes(), long.as_slice()].concat();
        let whole = lab
            .device(1)
            .run(async move || exchange((BOX, 53).into(), &framed, SOON).await)
            .unwrap();
        assert_eq!(counts(&whole[2..]), [1, 40, 0, 0]);
        assert!(!is_truncated(&whole[2..]));
        // dig asks with EDNS, and by itself again by TCP.
        assert_eq!(dig(&lab, 1, BOX, &["+bufsize=4096", HISTORIAN]).addresses().len(), 40);
        assert_eq!(dig(&lab, 1, BOX, &["+bufsize=512", HISTORIAN]).addresses().len(), 40);
        let said = dig(&lab, 1, BOX, &["+bufsize=512", "+ignore", HISTORIAN]);
        assert!(said.flags().contains("tc"), "{}", said.text);
    });
}

#[test]
fn the_question_comes_back_in_its_own_letters() {
    inside::test("wire::the_question_comes_back_in_its_own_letters", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        let mixed: String = IOT_DATA
            .chars()
            .enumerate()
            .map(|(at, c)| if at % 3 == 0 { c.to_ascii_uppercase() } else { c })
            .collect();
        let asked = question(1, &mixed, 1);
        let answer = ask(&lab, 0, asked.clone());
        assert_eq!((code(&answer), &answer[12..asked.len()]), (0, &asked[12..]));
        assert_eq!(counts(&answer), [1, 2, 0, 0]);
    });
}

#[test]
fn options_are_echoed_as_their_standards_say() {
    inside::test("wire::options_are_echoed_as_their_standards_say", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        let said = dig(&lab, 0, BOX, &["+cookie=0102030405060708", IOT_DATA]);
        assert!(said.text.contains("COOKIE: 0102030405060708"), "{}", said.text);
        assert!(said.text.contains("(good)") && said.text.contains("udp: 1232"), "{}", said.text);
        let again = dig(&lab, 0, BOX, &["+cookie=010203040506070811223344aabbccdd", IOT_DATA]);
        assert_eq!(again.status(), Some("NOERROR"));
        let bad = dig(&lab, 0, BOX, &["+nocookie", "+ednsopt=10:0102", IOT_DATA]);
        assert_eq!(bad.status(), Some("FORMERR"), "{}", bad.text);
        let later = dig(&lab, 0, BOX, &["+edns=1", "+noednsnegotiation", IOT_DATA]);
        assert_eq!(later.status(), Some("BADVERS"), "{}", later.text);
        let dnssec = dig(&lab, 0, BOX, &["+dnssec", IOT_DATA]);
        assert!(dnssec.text.contains("flags: do;"), "{}", dnssec.text);
        let refused = dig(&lab, 0, BOX, &["www.example.com"]);
        assert!(
            refused.text.contains("EDE: 18 (Prohibited): (name_not_allowed)"),
            "{}",
            refused.text
        );
        let subnet = dig(&lab, 0, BOX, &["+subnet=192.0.2.0/24", IOT_DATA]);
        assert!(!subnet.text.contains("CLIENT-SUBNET"), "{}", subnet.text);
    });
}

#[test]
fn what_is_no_question_is_answered_with_its_fault_or_not_at_all() {
    inside::test("wire::what_is_no_question_is_answered_with_its_fault_or_not_at_all", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        let good = question(9, IOT_DATA, 1);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        let cut = good[..20].to_vec();
        let pointer = [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
        let cases = [
            ("two questions", with(5, 2), 1),
            ("none", with(5, 0), 1),
            ("65,281 questions", with(4, 255), 1),
            ("a question that is cut", cut, 1),
            ("a name that points to itself", pointer, 1),
            ("STATUS", with(2, 0x11), 4),
            ("UPDATE", with(2, 0x29), 4),
            ("an opcode that nobody knows", with(2, 0x79), 4),
            ("class CHAOS", with(good.len() - 1, 3), 5),
        ];
        for (what, bytes, expected) in cases {
            let answer = ask(&lab, 0, bytes);
            assert_eq!((code(&answer), answer[1]), (expected, 9), "{what}: {answer:?}");
        }
        // An answer is never answered, so that two servers cannot talk for ever.
        for silent in [with(2, 0x81), good[..11].to_vec(), Vec::new()] {
            let patience = Duration::from_millis(300);
            let outcome = lab
                .device(0)
                .run(async move || udp_exchange((BOX, 53).into(), &silent, patience).await);
            assert!(outcome.is_err(), "{outcome:?}");
        }
        assert_eq!(code(&ask(&lab, 0, good)), 0, "it still answers");
    });
}

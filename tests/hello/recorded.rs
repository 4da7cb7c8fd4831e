//! Hellos recorded from TLS stacks that are seldom installed where tests run: those of controllers
//! (mbedTLS, wolfSSL) and of gateways (Java, Go, Node, NSS). The fingerprints are from another
//! program than the gate.

use std::fs;
use std::path::Path;

use sluicegate::hello::Progress;

use crate::{accepted, read_in};

fn recorded(file: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hellos");
    fs::read(directory.join(format!("{file}.bin"))).unwrap()
}

#[test]
fn recorded_hellos_say_what_they_said() {
    for (file, bytes, ja4) in RECORDED {
        let hello = accepted(&recorded(file));
        assert_eq!(hello.name.as_str(), "device.example.com", "{file}");
        assert_eq!((hello.facts.ja4().as_str(), hello.facts.bytes), (ja4, bytes), "{file}");
        assert_eq!(hello.facts.trailing_bytes, 0, "{file}");
        assert_eq!(hello.facts.notes, Vec::<String>::new(), "{file}");
    }
}

#[test]
fn recorded_hellos_are_read_alike_however_cut() {
    for (file, ..) in RECORDED {
        let bytes = recorded(file);
        let whole = Progress::Hello(accepted(&bytes));
        for at in 0..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(read_in([first]), Progress::Incomplete, "{file}, the first {at} bytes");
            assert_eq!(read_in([first, second]), whole, "{file}, cut at {at}");
        }
    }
}

/// File in tests/hellos, bytes, JA4.
const RECORDED: [(&str, usize, &str); 20] = [
    ("go-1.19-alpn", 277, "t13d1910mt_9dc949149365_97f8aa674fd9"),
    ("go-1.19-tls10", 170, "t10d080700_dafb69683c10_583ba773bd60"),
    ("go-1.19-tls12", 216, "t12d160800_8cdfa2d4673b_ac0d2f4ec206"),
    ("go-1.19-tls13", 266, "t13d190900_9dc949149365_97f8aa674fd9"),
    ("java-17-alpn", 488, "t13d3713xa_db35923f8641_7c76daad20ec"),
    ("java-17-tls12", 310, "t12d341000_0ca14b6c4d46_1f7ae294493e"),
    ("java-17-tls13", 467, "t13d371200_db35923f8641_7c76daad20ec"),
    ("mbedtls-2.28-alpn", 330, "t12d8008xa_ee0b5a6c69b8_cdbdbcd6f742"),
    ("mbedtls-2.28-fragment-512", 314, "t12d800800_ee0b5a6c69b8_40c0a6b70936"),
    ("mbedtls-2.28-tls10", 177, "t10d250600_e15af7bc6349_195413a0cc0f"),
    ("mbedtls-2.28-tls12", 309, "t12d800700_ee0b5a6c69b8_cdbdbcd6f742"),
    ("node-20-alpn", 387, "t13d5911mt_a33745022dd6_1f22a2ca17c4"),
    ("node-20-tls12", 271, "t12d560700_99d8c53049f3_e7e480e5a997"),
    ("node-20-tls13", 376, "t13d591000_a33745022dd6_1f22a2ca17c4"),
    ("nss-3.87-from-tls10", 517, "t13d351100_948423e5275c_496733ea6893"),
    ("nss-3.87-tls12", 212, "t12d320700_3acd2c70fcf0_6b16546de802"),
    ("nss-3.87-tls13", 517, "t13d351100_948423e5275c_496733ea6893"),
    ("wolfssl-5.5-default", 376, "t13d600900_68b42a500d9a_bcf9c9146425"),
    ("wolfssl-5.5-tls12", 269, "t12d530600_9f4633ce5439_6caddbc9a4c7"),
    ("wolfssl-5.5-tls13", 362, "t13d600700_68b42a500d9a_f741878c55eb"),
];

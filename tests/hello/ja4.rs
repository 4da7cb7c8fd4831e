//! JA4 of hellos whose fingerprint is known: values that FoxIO published for real clients, and two of
//! hellos from the time before TLS 1.2.

use crate::client_hello::{
    ALPN, Builder, SIGNATURE_ALGORITHMS, SNI, VERSIONS, alpn, list8, list16, numbers, sni,
};
use crate::read;
use sluicegate::hello::Progress;

struct Case {
    client: &'static str,
    ja4: &'static str,
    legacy_version: u16,
    /// In hexadecimal, in the client's order.
    ciphers: &'static str,
    /// In hexadecimal, in the client's order.
    extensions: &'static str,
    alpn: &'static [&'static [u8]],
    versions: &'static [u16],
    /// In hexadecimal, in the client's order.
    signature_algorithms: &'static str,
}

#[test]
fn known_clients_have_their_known_fingerprint() {
    for case in CASES {
        let facts = match read(&case.bytes()) {
            Progress::Hello(hello) => hello.facts,
            Progress::Refused(refusal) => *refusal.facts.expect("a well-formed hello"),
            Progress::Incomplete => panic!("{} is incomplete", case.client),
        };
        assert_eq!(facts.ja4().as_str(), case.ja4, "{}", case.client);
    }
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let bare = Builder {
            legacy_version: self.legacy_version,
            ciphers: parsed(self.ciphers),
            ..Builder::bare()
        };
        let hello = parsed(self.extensions).into_iter().fold(bare, |hello, kind| {
            let content = match kind {
                SNI => sni(b"device.example"),
                ALPN => alpn(self.alpn),
                VERSIONS => list8(&numbers(self.versions)),
                SIGNATURE_ALGORITHMS => list16(&numbers(&parsed(self.signature_algorithms))),
                _ => Vec::new(),
            };
            hello.with(kind, content)
        });
        hello.bytes()
    }
}

fn parsed(list: &str) -> Vec<u16> {
    list.split_whitespace().map(|value| u16::from_str_radix(value, 16).unwrap()).collect()
}

const CASES: [Case; 13] = [
    Case {
        client: "a browser with TLS 1.3",
        ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1",
        legacy_version: 0x0303,
        ciphers: "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035",
        extensions: "001b 0000 0033 0010 4469 0017 002d 000d 0005 0023 0012 002b ff01 000b 000a \
             0015",
        alpn: &[b"h2", b"http/1.1"],
        versions: &[0x0304, 0x0303],
        signature_algorithms: "0403 0804 0401 0503 0805 0501 0806 0601",
    },
    Case {
        client: "the same with GREASE everywhere",
        ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1",
        legacy_version: 0x0303,
        ciphers: "3a3a 1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f \
             0035",
        extensions: "5a5a 001b 0000 0033 0010 4469 0017 002d 000d 0005 0023 0012 002b ff01 000b \
             000a 0015 fafa",
        alpn: &[b"h2", b"http/1.1"],
        versions: &[0x7a7a, 0x0304, 0x0303],
        signature_algorithms: "0403 0804 0401 0503 0805 0501 0806 0601",
    },
    Case {
        client: "the same with http/1.1 only",
        ja4: "t13d1516h1_8daaf6152771_e5627efa2ab1",
        legacy_version: 0x0303,
        ciphers: "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035",
        extensions: "001b 0000 0033 0010 4469 0017 002d 000d 0005 0023 0012 002b ff01 000b 000a \
             0015",
        alpn: &[b"http/1.1"],
        versions: &[0x0304],
        signature_algorithms: "0403 0804 0401 0503 0805 0501 0806 0601",
    },
    Case {
        client: "Firefox",
        ja4: "t13d1715h2_5b57614c22b0_3d5424432f57",
        legacy_version: 0x0303,
        ciphers: "1301 1303 1302 c02b c02f cca9 cca8 c02c c030 c00a c009 c013 c014 009c 009d \
             002f 0035",
        extensions: "0000 0017 ff01 000a 000b 0023 0010 0005 0022 0033 002b 000d 002d 001c 0015",
        alpn: &[b"h2", b"http/1.1"],
        versions: &[0x0304, 0x0303],
        signature_algorithms: "0403 0503 0603 0804 0805 0806 0401 0501 0601 0203 0201",
    },
    Case {
        client: "Windows without ALPN",
        ja4: "t12d190800_d83cc789557e_7af1ed941c26",
        legacy_version: 0x0303,
        ciphers: "c02c c02b c030 c02f c024 c023 c028 c027 c00a c009 c014 c013 009d 009c 003d \
             003c 0035 002f 000a",
        extensions: "0000 0005 000a 000b 000d 0023 0017 ff01",
        alpn: &[],
        versions: &[],
        signature_algorithms: "0804 0805 0806 0401 0501 0201 0403 0503 0203 0202 0601 0603",
    },
    Case {
        client: "Windows with HTTP/2",
        ja4: "t12d1909h2_d83cc789557e_7af1ed941c26",
        legacy_version: 0x0303,
        ciphers: "c02c c02b c030 c02f c024 c023 c028 c027 c00a c009 c014 c013 009d 009c 003d \
             003c 0035 002f 000a",
        extensions: "0000 0005 000a 000b 000d 0023 0010 0017 ff01",
        alpn: &[b"h2", b"http/1.1"],
        versions: &[],
        signature_algorithms: "0804 0805 0806 0401 0501 0201 0403 0503 0203 0202 0601 0603",
    },
    Case {
        client: "LibreSSL, with signature algorithms that only look like GREASE",
        ja4: "t12d4605h2_85626a9a5f7f_aaf95bb78ec9",
        legacy_version: 0x0303,
        ciphers: "c030 c02c c028 c024 c014 c00a 009f 006b 0039 cca9 cca8 ccaa ff85 00c4 0088 \
             0081 009d 003d 0035 00c0 0084 c02f c02b c027 c023 c013 c009 009e 0067 0033 \
             00be 0045 009c 003c 002f 00ba 0041 c011 c007 0005 0004 c012 c008 0016 000a \
             00ff",
        extensions: "0000 000b 000a 000d 0010",
        alpn: &[b"h2", b"http/1.1"],
        versions: &[],
        signature_algorithms: "0601 0603 efef 0501 0503 0401 0403 eeee eded 0301 0303 0201 0203",
    },
    Case {
        client: "TLS 1.0 with nothing but a name",
        ja4: "t10d230100_6a57a6f57151_000000000000",
        legacy_version: 0x0301,
        ciphers: "0039 0038 0035 0016 0013 000a 0033 0032 002f 009a 0099 0096 0005 0004 0015 \
             0012 0009 0014 0011 0008 0006 0003 00ff",
        extensions: "0000",
        alpn: &[],
        versions: &[],
        signature_algorithms: "",
    },
    Case {
        client: "TLS 1.3 without ALPN",
        ja4: "t13d151400_8daaf6152771_de4a06bb82e3",
        legacy_version: 0x0303,
        ciphers: "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035",
        extensions: "0033 002b 001b 0000 0012 002d 000d 000a 0005 0023 0017 ff01 000b 0015",
        alpn: &[],
        versions: &[0x0304, 0x0303],
        signature_algorithms: "0403 0804 0401 0503 0805 0501 0806 0601",
    },
    Case {
        client: "an NSS client",
        ja4: "t13d1615h2_46e7e9700bed_45f260be83e2",
        legacy_version: 0x0303,
        ciphers: "1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035 \
             000a",
        extensions: "0000 0017 ff01 000a 000b 0023 0010 0005 000d 0012 0033 002d 002b 001b 0015",
        alpn: &[b"h2", b"http/1.1"],
        versions: &[0x0304, 0x0303],
        signature_algorithms: "0403 0804 0401 0503 0805 0501 0806 0601 0201",
    },
    Case {
        client: "macOS",
        ja4: "t13d2613h2_2802a3db6c62_845d286b0d67",
        legacy_version: 0x0303,
        ciphers: "1301 1302 1303 c02c c02b c024 c023 c00a c009 cca9 c030 c02f c028 c027 c014 \
             c013 cca8 009d 009c 003d 003c 0035 002f c008 c012 000a",
        extensions: "ff01 0000 0017 000d 0005 0012 0010 000b 0033 002d 002b 000a 0015",
        alpn: &[b"h2", b"http/1.1"],
        versions: &[0x0304, 0x0303],
        signature_algorithms: "0403 0804 0401 0503 0203 0805 0805 0501 0806 0601 0201",
    },
    Case {
        client: "TLS 1.0 with elliptic curves",
        ja4: "t10d120300_d94e65cdb899_33a13ba74d1c",
        legacy_version: 0x0301,
        ciphers: "002f 0035 0005 000a c009 c00a c013 c014 0032 0038 0013 0004",
        extensions: "0000 000a 000b",
        alpn: &[],
        versions: &[],
        signature_algorithms: "",
    },
    Case {
        client: "TLS 1.0 without extensions",
        ja4: "t10i110000_3609b414f052_000000000000",
        legacy_version: 0x0301,
        ciphers: "0004 0005 000a 0009 0064 0062 0003 0006 0013 0012 0063",
        extensions: "",
        alpn: &[],
        versions: &[],
        signature_algorithms: "",
    },
];

//! A plant with 10,000 devices and 1,000 names, and everybody who may ask there.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use sluicegate::config::{self, MacAddr};
use sluicegate::name::ServerName;
use sluicegate::policy::{Asking, Policy};
use sluicegate::reason::Reason;

/// Devices known by their MAC, by their address, and by a network; 10,000 together.
const BY_MAC: u32 = 5_000;
const BY_ADDRESS: u32 = 4_500;
const BY_NETWORK: u32 = 500;
/// Tables of own names, with so many names each.
const TABLES: u32 = 10;
const NAMES: u32 = 100;

/// Who asks for what, and what must come out.
pub(crate) struct Case {
    pub(crate) label: &'static str,
    /// `None` where it is allowed.
    pub(crate) reason: Option<Reason>,
    /// As many different ones as there are, so that no cache holds the answer.
    pub(crate) questions: Vec<(Asking, ServerName, u16)>,
}

/// The configuration file.
pub(crate) fn file() -> String {
    let mut text = HEAD.to_owned();
    for table in 0..TABLES {
        let hosts: Vec<String> =
            (0..NAMES).map(|host| format!("\"{}\"", own(table, host))).collect();
        let hosts = hosts.join(", ");
        let _ = writeln!(text, "[endpoint.own-{table}]\nhosts = [{hosts}]\n");
    }
    for number in 0..BY_MAC {
        device(&mut text, "mac", number, &format!("mac = \"{}\"", mac(number)));
    }
    for number in 0..BY_ADDRESS {
        device(&mut text, "host", number, &format!("address = \"{}\"", host(number)));
    }
    for number in 0..BY_NETWORK {
        device(&mut text, "net", number, &format!("address = \"{}/29\"", cell(number)));
    }
    text
}

/// The compiled policy of the file.
pub(crate) fn policy() -> Policy {
    Policy::compile(&config::parse(&file(), "plant.toml").expect("a valid file").site)
}

/// Every way to be allowed, and every reason to be refused, each checked to be just that.
pub(crate) fn cases(policy: &Policy) -> Vec<Case> {
    let mut cases = allowed();
    cases.extend(refused());
    for case in &cases {
        for (asking, name, port) in &case.questions {
            let verdict = policy.judge(*asking, name, *port);
            assert_eq!(verdict.outcome.err().map(|denial| denial.reason), case.reason, "{name}");
        }
    }
    cases
}

fn allowed() -> Vec<Case> {
    let cells = |number| Ipv4Addr::from_bits(cell(number).to_bits() + 3);
    vec![
        case("allow by mac", None, BY_MAC, |n| (known(n), own(n % TABLES, n % NAMES), 443)),
        case("allow by address", None, BY_ADDRESS, |n| {
            (unknown(host(n)), own(n % TABLES, n % NAMES), 443)
        }),
        case("allow by network", None, BY_NETWORK, |n| {
            (unknown(cells(n)), own(n % TABLES, n % NAMES), 443)
        }),
        case("allow by default", None, 1_000, |n| (visitor(n), IOT.to_owned(), 8883)),
    ]
}

fn refused() -> Vec<Case> {
    let outside = |n| unknown(Ipv4Addr::from_bits(OUTSIDE.to_bits() + n));
    let aws = |label| format!("{label}.amazonaws.com");
    vec![
        refusal(Reason::NameNotAllowed, |n| (known(n), format!("host-{n}.example.com"), 443)),
        refusal(Reason::NamePublicOnly, |n| {
            (known(n), aws("greengrass-ats.iot.eu-central-1"), 443)
        }),
        refusal(Reason::NameWrongRegion, |n| {
            (known(n), aws("a1b2c3d4e5f6g7-ats.iot.us-east-1"), 443)
        }),
        refusal(Reason::NameOtherAccount, |n| {
            (known(n), format!("a9b9c9d9e9{n:04}-ats.iot.eu-central-1.amazonaws.com"), 443)
        }),
        refusal(Reason::PortNotAllowed, |n| (known(n), own(n % TABLES, n % NAMES), 8080)),
        refusal(Reason::DeviceUnknown, |n| (outside(n), IOT.to_owned(), 443)),
        refusal(Reason::DeviceNotAllowed, |n| (visitor(n), own(n % TABLES, n % NAMES), 443)),
    ]
}

fn refusal(reason: Reason, question: impl Fn(u32) -> (Asking, String, u16)) -> Case {
    case(reason.code(), Some(reason), 1_000, question)
}

fn case(
    label: &'static str,
    reason: Option<Reason>,
    count: u32,
    question: impl Fn(u32) -> (Asking, String, u16),
) -> Case {
    // A stride that is prime to every count, so that neighbours in the file do not ask in a row.
    let questions = (0..count).map(|place| question(place * 7_919 % count));
    let questions =
        questions.map(|(asking, name, port)| (asking, name.parse().expect("a host name"), port));
    Case { label, reason, questions: questions.collect() }
}

fn device(text: &mut String, kind: &str, number: u32, key: &str) {
    let tables = (0..TABLES).map(|table| format!("\"own-{table}\""));
    let tables = tables.collect::<Vec<_>>().join(", ");
    let _ = write!(text, "[[device]]\nname = \"{kind}-{number}\"\n{key}\nallow = [{tables}]\n\n");
}

fn known(number: u32) -> Asking {
    Asking { address: IpAddr::V4(Ipv4Addr::new(10, 12, 1, 1)), mac: Some(mac(number)) }
}

fn unknown(address: Ipv4Addr) -> Asking {
    Asking { address: IpAddr::V4(address), mac: None }
}

/// A device without an entry.
fn visitor(number: u32) -> Asking {
    unknown(Ipv4Addr::from_bits(VISITORS.to_bits() + number))
}

fn own(table: u32, host: u32) -> String {
    format!("line-{host}.own-{table}.corp.example")
}

fn mac(number: u32) -> MacAddr {
    format!("00:1b:1b:00:{:02x}:{:02x}", number >> 8, number & 0xff).parse().expect("a MAC")
}

fn host(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(HOSTS.to_bits() + number)
}

fn cell(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(CELLS.to_bits() + number * 8)
}

const IOT: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
const HOSTS: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 0);
const CELLS: Ipv4Addr = Ipv4Addr::new(10, 11, 0, 0);
const VISITORS: Ipv4Addr = Ipv4Addr::new(10, 12, 2, 0);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 13, 0, 0);

const HEAD: &str = r#"
[site]
name    = "augsburg-2"
region  = "eu-central-1"
account = "123456789012"

[devices]
interfaces = ["lan0"]
networks   = ["10.10.0.0/16", "10.11.0.0/16", "10.12.0.0/16"]

[tunnel]
interfaces = ["xfrm101"]

[resolver]
inbound = ["10.20.0.53"]

[vpc]
networks = ["10.20.0.0/16"]

[policy]
default = ["iot-data"]

[endpoint.iot-data]
host = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com"

[endpoint.s3]
buckets = ["augsburg-artifacts"]

[endpoint.ecr]

"#;

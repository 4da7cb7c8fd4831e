//! The configuration that fits the lab.

use std::fmt::Write;
use std::path::Path;

use super::services::{IOT_CREDENTIALS, IOT_DATA};
use super::topology::{DEVICES, TUNNEL_SOURCE, ZONES};

/// The site's name.
pub(crate) const SITE: &str = "augsburg-2";

/// The site's configuration file, with what the daemon writes in `directory`.
pub(crate) fn daemon(directory: &Path) -> String {
    let directory = directory.display();
    let inbound = ZONES.map(|zone| format!("\"{}\"", zone.resolver())).join(", ");
    let mut text = format!(
        r#"[site]
name    = "{SITE}"
region  = "eu-central-1"
account = "123456789012"

[devices]
interfaces = ["lan0"]
networks   = ["10.10.0.0/16", "fd00:10:10::/64"]

[tunnel]
interfaces = ["vpn1", "vpn2"]
source     = "{TUNNEL_SOURCE}"

[resolver]
inbound = [{inbound}]

[vpc]
networks = ["10.20.0.0/16"]

[vpc.zones]
"#
    );
    for zone in &ZONES {
        line(&mut text, format_args!("{} = [\"{}/24\"]", zone.name, zone.address(0)));
    }
    let _ = write!(
        text,
        r#"
[endpoint.iot-data]
host = "{IOT_DATA}"

[endpoint.iot-credentials]
host = "{IOT_CREDENTIALS}"

[endpoint.s3]
buckets = ["augsburg-artifacts"]

[endpoint.historian]
hosts = ["historian.corp.example"]
ports = [443, 8443]

"#
    );
    for service in WITHOUT_SETTINGS {
        line(&mut text, format_args!("[endpoint.{service}]"));
    }
    text.push_str("\n[policy]\nmode    = \"enforce\"\ndefault = []\n");
    for (device, allow) in DEVICES.iter().zip(ALLOWED) {
        let allow = allow.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(", ");
        let _ = write!(
            text,
            "\n[[device]]\nname    = \"{}\"\nmac     = \"{}\"\nallow   = [{allow}]\n",
            device.name, device.mac
        );
    }
    let _ = write!(
        text,
        r#"
[health]
every = "1h"

[dns]
listen = "off"

[audit]
directory = "{directory}/audit"

[admin]
listen = "127.0.0.1:9443"
socket = "{directory}/control.sock"
"#
    );
    text
}

/// Endpoints whose names the catalogue knows.
const WITHOUT_SETTINGS: [&str; 12] = [
    "ecr",
    "greengrass",
    "logs",
    "secretsmanager",
    "sts",
    "kms",
    "ssm",
    "ssmmessages",
    "ec2messages",
    "monitoring",
    "iot-control",
    "iot-tunneling",
];

/// What each device may use, in the order of [`DEVICES`].
const ALLOWED: [&[&str]; 3] = [
    &["iot-data", "iot-credentials"],
    &[
        "iot-data",
        "iot-credentials",
        "s3",
        "ecr",
        "historian",
        "greengrass",
        "logs",
        "secretsmanager",
        "sts",
    ],
    &["iot-data"],
];

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{words}");
}

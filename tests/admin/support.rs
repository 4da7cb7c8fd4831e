//! A management network, and curl.

use std::path::{Path, PathBuf};

use sluicegate::lab::Lab;
use sluicegate::lab::party::Party;

use crate::gate::*;

/// The box on the management network.
pub(crate) const BOX: &str = "192.0.2.1";
/// A workstation there.
const STATION: &str = "192.0.2.2";
/// A token as `openssl rand -hex 32` prints it.
pub(crate) const TOKEN: &str = "8d1f3c5b7a9e0d2c4b6a8f1e3d5c7b9a0e2d4c6b8a1f3e5d7c9b0a2e4d6c8b1f";

/// What curl got.
#[derive(Debug)]
pub(crate) struct Reply {
    /// 0 when there was none.
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
    /// curl's own exit code.
    pub(crate) exit: i32,
}

impl Reply {
    /// The value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.lines().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }
}

/// Asks with curl from a namespace.
pub(crate) fn curl(from: &Party, args: &[&str]) -> Reply {
    let fixed = ["-sS", "-i", "--http1.1", "--max-time", "20", "--noproxy", "*"];
    let output = from.command("curl", &[&fixed[..], args].concat()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok());
    Reply {
        status: status.unwrap_or_default(),
        headers: headers.to_owned(),
        body: body.to_owned(),
        exit: output.status.code().unwrap_or(-1),
    }
}

/// Asks the listener on loopback.
pub(crate) fn local(lab: &Lab, path: &str) -> Reply {
    curl(lab.edge(), &[&format!("http://127.0.0.1:9443{path}")])
}

/// The management network, with a workstation in it.
pub(crate) fn office(lab: &Lab) -> Party {
    let wire = "link add mgmt0 netns box type veth peer name eth0 netns office";
    ip(lab, "netns add office");
    ip(lab, wire);
    ip(lab, &format!("addr add {BOX}/24 dev mgmt0"));
    ip(lab, "link set mgmt0 up");
    let office = Party::enter("office").unwrap();
    for words in [&format!("addr add {STATION}/24 dev eth0"), "link set eth0 up", "link set lo up"]
    {
        run(&office, "ip", &words.split_whitespace().collect::<Vec<_>>());
    }
    // Where plant and workstation could reach each other by the box.
    run(&office, "ip", &["route", "add", "10.10.0.0/16", "via", BOX]);
    office
}

/// Writes a file that only its owner may read.
pub(crate) fn secret(lab: &Lab, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let file = lab.directory().join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// The lab's configuration with another `[admin]` table.
pub(crate) fn config(lab: &Lab, admin: &str) -> String {
    let config = lab.daemon_config();
    let listen = "listen = \"127.0.0.1:9443\"\n";
    assert!(config.contains(listen), "{config}");
    config.replace(listen, admin)
}

/// The same on the management network, with a token.
pub(crate) fn office_config(lab: &Lab) -> String {
    let token = secret(lab, "token", &format!("{TOKEN}\n"));
    config(lab, &format!("listen = \"{BOX}:9443\"\ntoken-file = \"{}\"\n", token.display()))
}

/// The certificate that the gate has made for itself.
pub(crate) fn own_certificate(lab: &Lab) -> String {
    text(&lab.directory().join("admin/certificate.pem"))
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

//! A configuration with a mistake of each kind.

/// In lines 3, 6, 7, 9, 10, 12, 16, 17, 19 and 21, one each.
pub(crate) const TEN_MISTAKES: &str = r#"[site]
name = "augsburg-2"
region = "eu-central"
[devices]
interfaces = ["lan0"]
netwoks = ["10.10.0.0/16"]
networks = ["10.10.0.1/16"]
[tunnel]
interfaces = ["xfrm101", "lan0"]
mss = 20
[resolver]
inbound = ["10.21.0.53"]
[vpc]
networks = ["10.20.0.0/16"]
[endpoint.historian]
hosts = ["*.corp.example"]
ports = [15443]
[policy]
default = ["historien"]
[admin]
socket = "control.sock"
"#;

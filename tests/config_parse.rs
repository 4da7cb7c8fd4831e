//! From configuration text to a site, and robustness against any text.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use sluicegate::config::{
    self, Dns, DnsForward, ExpectedVerdict, ForeignDns, LanDns, Loaded, OnFull, OnLeak, OtherNames,
    PolicyMode, Problems, Retention, Service, Style,
};

#[test]
fn the_full_sample_is_the_expected_site() {
    let Loaded { site, warnings } = config::parse(SAMPLE, "sluicegate.toml").expect("the sample");
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!((site.name.as_str(), site.region.as_str()), ("augsburg-2", "eu-central-1"));
    assert_eq!(site.account.as_deref(), Some("123456789012"));
    assert_eq!(texts(&site.devices.interfaces), ["lan0"]);
    assert_eq!(texts(&site.devices.networks), ["10.10.0.0/16"]);
    assert_eq!(texts(&site.tunnel.interfaces), ["xfrm101", "xfrm102"]);
    assert_eq!(site.tunnel.source, "10.99.0.7".parse().ok());
    assert!(site.tunnel.each.iter().all(|tunnel| tunnel.mss == 1_398), "{:?}", site.tunnel);
    assert_eq!(texts(&site.resolver.inbound), ["10.20.0.53:53", "10.20.1.53:5353"]);
    assert_eq!(site.resolver.last_good, Duration::from_secs(1_800));
    assert_eq!(texts(&site.vpc.networks), ["10.20.0.0/16"]);
    let zones: Vec<_> =
        site.vpc.zones.iter().map(|zone| (&*zone.name, texts(&zone.networks))).collect();
    assert_eq!(
        zones,
        [
            ("eu-central-1b", vec!["10.20.1.0/24".to_owned()]),
            ("eu-central-1a", vec!["10.20.0.0/24".to_owned()]),
        ]
    );
    assert_eq!(site.policy.mode, PolicyMode::Enforce);
    assert_eq!(ids(&site.policy.default), ["iot-data", "iot-credentials", "s3", "ecr"]);
    assert_eq!(site.intercept.port, 15_444);
    assert_eq!(site.intercept.data_threads, Some(2));
    assert_eq!(site.dns, Dns::Off);
    assert_eq!(site.audit.directory, Path::new("/var/lib/sluicegate/audit"));
    assert_eq!(site.audit.retention, Retention::default());
    assert_eq!(site.admin.listen.to_string(), "127.0.0.1:9443");
    assert_eq!(site.admin.socket, Path::new("/run/sluicegate/other.sock"));
}

#[test]
fn endpoints_of_the_sample_keep_the_files_order() {
    let site = config::parse(SAMPLE, "sluicegate.toml").expect("the sample").site;
    let services: Vec<_> = site.endpoints.iter().map(|e| (&*e.id, e.service)).collect();
    assert_eq!(
        services,
        [
            ("iot-data", Service::IotData),
            ("iot-credentials", Service::IotCredentials),
            ("s3", Service::S3),
            ("ecr", Service::Ecr),
            ("historian", Service::Custom),
        ]
    );
    let [data, credentials, s3, ecr, historian] = &site.endpoints[..] else { panic!("five") };
    assert_eq!(texts(&data.hosts), ["a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com"]);
    assert_eq!(texts(&data.networks), ["10.20.0.0/24", "10.20.1.0/24"]);
    assert_eq!(data.ports, None);
    assert_eq!(texts(&credentials.networks), ["10.20.0.0/16"]);
    assert_eq!(s3.buckets, ["augsburg-artifacts"]);
    assert!(!s3.path_style && !s3.any_bucket);
    assert_eq!(ecr.accounts, ["123456789012"]);
    assert_eq!(texts(&historian.hosts), ["historian.corp.example", "old.corp.example"]);
    assert_eq!(historian.ports, Some(vec![443, 8_443]));
}

#[test]
fn devices_and_expectations_of_the_sample() {
    let site = config::parse(SAMPLE, "sluicegate.toml").expect("the sample").site;
    let [press, cell] = &site.device_entries[..] else { panic!("two devices") };
    assert_eq!((&*press.name, ids(&press.allow)), ("press-3", vec!["iot-data"]));
    assert_eq!(press.mac.map(|mac| mac.to_string()).as_deref(), Some("00:1b:1b:2c:3d:4e"));
    assert_eq!(press.address, "10.10.3.7/32".parse().ok());
    assert_eq!((cell.mac, cell.address), (None, "10.10.4.0/24".parse().ok()));
    assert!(cell.allow.is_empty());
    let [deny, allow] = &site.expectations[..] else { panic!("two expectations") };
    assert_eq!((deny.device.as_str(), deny.port), ("press-3", 443));
    assert_eq!(deny.name, "augsburg-artifacts.s3.eu-central-1.amazonaws.com");
    assert_eq!(deny.verdict, ExpectedVerdict::Deny);
    let line = SAMPLE.lines().position(|line| line == "[[expect]]").expect("its header") + 1;
    assert_eq!(deny.line, line);
    assert_eq!((allow.device.as_str(), allow.port), ("10.10.9.9", 8_443));
    assert_eq!(allow.verdict, ExpectedVerdict::Allow);
    assert!(allow.line > line);
}

#[test]
fn what_the_file_leaves_out_has_its_default() {
    let site = config::parse(MINIMAL, "sluicegate.toml").expect("the minimum").site;
    assert_eq!(site.account, None);
    assert_eq!((site.tunnel.source, site.tunnel.each[0].mss), (None, 1_360));
    assert_eq!(site.tunnel.return_after, Duration::from_secs(30));
    assert_eq!(site.resolver.last_good, Duration::from_secs(86_400));
    assert_eq!(site.policy.mode, PolicyMode::Enforce);
    assert_eq!(ids(&site.policy.default), ["historian", "kms"]);
    assert_eq!(site.endpoints[0].ports, Some(vec![443]));
    assert_eq!(site.endpoints[1].ports, None);
    assert_eq!((site.intercept.port, site.intercept.data_threads), (15_443, None));
    assert_eq!(site.dns, Dns::Off);
    assert_eq!(site.audit.directory, Path::new("/var/lib/sluicegate/audit"));
    assert_eq!(site.audit.retention.on_full, OnFull::Refuse);
    assert_eq!(site.admin.listen.to_string(), "127.0.0.1:9443");
    assert_eq!(site.admin.socket, Path::new("/run/sluicegate/control.sock"));
}

#[test]
fn an_empty_default_refuses_and_is_not_the_default() {
    let text = format!("{MINIMAL}\n[policy]\ndefault = []\n");
    let site = config::parse(&text, "f").expect("an empty default").site;
    assert!(site.policy.default.is_empty());
}

#[test]
fn a_canary_needs_targets_alone() {
    let canary = |more: &str| {
        let text =
            format!("{MINIMAL}\n[canary]\ntargets = [\"192.0.2.1\", \"2001:db8::1\"]\n{more}");
        config::parse(&text, "f").expect("a canary").site.canary.expect("a canary")
    };
    assert_eq!(config::parse(MINIMAL, "f").expect("the minimum").site.canary, None);
    let least = canary("");
    assert_eq!(texts(&least.targets), ["192.0.2.1", "2001:db8::1"]);
    assert_eq!((least.name.as_str(), least.on_leak), ("example.com", OnLeak::Alarm));
    let full = canary("name = \"www.example.org\"\non-leak = \"close\"");
    assert_eq!((full.name.as_str(), full.on_leak), ("www.example.org", OnLeak::Close));
}

#[test]
fn last_good_takes_units_and_never() {
    for (text, seconds) in [
        ("\"90s\"", 90),
        ("\"30m\"", 1_800),
        ("\"24h\"", 86_400),
        ("\"7d\"", 604_800),
        ("\"0\"", 0),
        ("\"0h\"", 0),
        ("0", 0),
    ] {
        let text = MINIMAL.replace("[vpc]", &format!("last-good = {text}\n[vpc]"));
        let site = config::parse(&text, "f").expect("a duration").site;
        assert_eq!(site.resolver.last_good, Duration::from_secs(seconds), "{text}");
    }
    for text in ["\"h\"", "\"\"", "\"-1h\"", "\"1.5h\"", "\"99999999999999999999d\"", "\"1w\"", "5"]
    {
        let text = MINIMAL.replace("[vpc]", &format!("last-good = {text}\n[vpc]"));
        let problems = config::parse(&text, "f").expect_err("no duration");
        assert_eq!(problems.len(), 1, "{problems}");
    }
}

#[test]
fn region_shapes() {
    for region in [
        "eu-central-1",
        "cn-north-1",
        "us-gov-west-1",
        "eusc-de-east-1",
        "ap-southeast-5",
        "us-isob-east-1",
    ] {
        let text = MINIMAL.replace("eu-central-1", region);
        assert!(config::parse(&text, "f").is_ok(), "{region}");
    }
    for region in
        ["", "eu", "eu-central", "EU-central-1", "eu-central-1a", "eu_central_1", "-a-1", "eu--1"]
    {
        let text = MINIMAL.replace("eu-central-1", region);
        let problems = config::parse(&text, "f").expect_err(region);
        assert_eq!(problems.len(), 1, "{problems}");
    }
}

#[test]
fn dns_for_devices_has_defaults_and_forwards() {
    let parse = |further: &str| {
        let text = format!("{MINIMAL}\n[dns]\nlisten = \"lan\"\n{further}");
        config::parse(&text, "f").unwrap_or_else(|problems| panic!("{problems}")).site.dns
    };
    assert_eq!(parse(""), Dns::Lan(LanDns::default()));
    let given = parse(
        "foreign = \"refuse\"\nother-names = \"nxdomain\"\nqueries-per-second = 7\n\
         synthetic = \"198.18.0.0/16\"\n\
         [[dns.forward]]\nzone = \"Plant.example\"\nservers = [\"10.10.0.53\", \"10.10.1.53:5353\"]\n",
    );
    let forward = DnsForward {
        zone: "plant.example".parse().unwrap(),
        servers: vec!["10.10.0.53:53".parse().unwrap(), "10.10.1.53:5353".parse().unwrap()],
    };
    let expected = LanDns {
        foreign: ForeignDns::Refuse,
        other_names: OtherNames::Nxdomain,
        queries_per_second: 7,
        synthetic: Some("198.18.0.0/16".parse().unwrap()),
        forwards: vec![forward],
    };
    assert_eq!(given, Dns::Lan(expected));
}

#[test]
fn what_the_log_keeps_has_limits() {
    let parse = |setting: &str| config::parse(&format!("{MINIMAL}\n[audit]\n{setting}\n"), "f");
    let audit =
        parse("quota = \"20GiB\"\nretain = \"90d\"\non-full = \"overwrite\"").unwrap().site.audit;
    let retain = Some(Duration::from_secs(90 * 86_400));
    let expected = Retention { on_full: OnFull::Overwrite, quota: 20 << 30, retain };
    assert_eq!(audit.retention, expected);
    let nothing = ["63MiB", "20", "GiB", "20 GiB", "20GB", "-1GiB", "18446744073709551615TiB"];
    let quotas = nothing.map(|quota| format!("quota = \"{quota}\""));
    let days = ["0d", "90", "d", "12h", "36501d", "+1d"].map(|days| format!("retain = \"{days}\""));
    for wrong in quotas.iter().chain(&days) {
        let problems = parse(wrong).expect_err(wrong);
        assert_eq!(problems.len(), 1, "{problems}");
    }
}

#[test]
fn endpoints_are_examined_as_often_as_the_file_says() {
    let parse = |lines: &str| config::parse(&format!("{MINIMAL}\n[health]\n{lines}"), "f");
    let health = parse("").expect("the defaults").site.health;
    assert_eq!((health.every, health.roots), (Duration::from_secs(60), None));
    let health = parse("every = \"30s\"\nroots = \"/etc/roots.pem\"").expect("both").site.health;
    assert_eq!(health.every, Duration::from_secs(30));
    assert_eq!(health.roots.as_deref(), Some(Path::new("/etc/roots.pem")));
    for wrong in ["0", "2d", "often"] {
        assert!(parse(&format!("every = \"{wrong}\"")).is_err(), "{wrong}");
    }
}

#[test]
fn learning_has_an_end_in_every_spelling() {
    for (until, unix) in
        [("2030-01-31T18:00:00Z", 1_896_112_800), ("\"2030-01-31T18:00:00+01:00\"", 1_896_109_200)]
    {
        let setting = format!("[policy]\nmode = \"learn\"\nlearn-until = {until}\n");
        let site = config::parse(&format!("{MINIMAL}\n{setting}"), "f").expect(until).site;
        let PolicyMode::Learn { until } = site.policy.mode else { panic!("{:?}", site.policy) };
        assert_eq!(until.unix_timestamp(), unix);
    }
}

#[test]
fn the_hash_is_of_the_bytes() {
    let site = config::parse(MINIMAL, "f").expect("the minimum").site;
    assert_eq!(site.hash.len(), 64);
    let other = config::parse(&format!("{MINIMAL} "), "f").expect("with a space").site;
    assert_ne!(site.hash, other.hash);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sluicegate.toml");
    std::fs::write(&path, MINIMAL).expect("a file is written");
    assert_eq!(config::load(&path).expect("the minimum").site.hash, site.hash);
}

#[test]
fn the_example_file_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("appliance/sluicegate.toml.example");
    let loaded = config::load(&path).expect("the example");
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    // What is commented out must be right as well, once the marks are gone.
    let text = std::fs::read_to_string(&path).expect("the example");
    let (head, rest) = text.split_once("\n\n").expect("a comment, then tables");
    let live = rest.replace("\n# ", "\n");
    let loaded = config::parse(&format!("{head}\n\n{live}"), "example").expect("all of it");
    assert_eq!(loaded.site.endpoints.len(), 5);
    assert_eq!(loaded.site.device_entries.len(), 1);
}

#[test]
fn services_and_their_tables_are_one_to_one() {
    for service in Service::ALL {
        assert_eq!(Service::from_key(service.key()), service);
    }
    assert_eq!(Service::from_key("historian"), Service::Custom);
}

/// Nothing is lost in a large file (and quadratic work would be felt here).
#[test]
fn a_large_file_of_mistakes_is_judged() {
    let mut text = MINIMAL.to_owned();
    text.push_str(&"[[device]]\nname = \"press\"\naddress = \"10.11.0.1\"\n".repeat(10_000));
    text.push_str(&"[[expect]]\ndevice = \"press-1\"\n".repeat(1_000));
    let problems = config::parse(&text, "f").expect_err("mistakes");
    assert!(problems.len() > 40_000, "{}", problems.len());
    assert_eq!(problems.to_json().as_array().map(Vec::len), Some(problems.len()));
    assert!(config::parse(&"a =\n".repeat(50_000), "f").expect_err("no values").len() >= 50_000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        check(&text);
    }

    /// Text that looks like a configuration reaches further into the reader.
    #[test]
    fn any_lines_are_read_or_refused(lines in proptest::collection::vec(line(), 0..40)) {
        check(&lines.join("\n"));
    }

    /// One place of the sample replaced by anything.
    #[test]
    fn a_damaged_sample_is_read_or_refused(
        from in 0..SAMPLE.len(),
        length in 0..60usize,
        with in prop_oneof!["\\PC{0,12}", "[\\[\\]\"'=#,.{}\\n\\r\\t 0-9a-z*-]{0,12}"],
    ) {
        let from = SAMPLE.floor_char_boundary(from);
        let to = SAMPLE.ceil_char_boundary((from + length).min(SAMPLE.len()));
        check(&format!("{}{with}{}", &SAMPLE[..from], &SAMPLE[to..]));
    }
}

/// Lines made of what a configuration consists of, in any order.
fn line() -> impl Strategy<Value = String> {
    let lines: Vec<&'static str> = SAMPLE.lines().collect();
    let values: Vec<&'static str> =
        SAMPLE.lines().filter_map(|line| line.split_once("= ")).map(|(_, value)| value).collect();
    let keys: Vec<&'static str> =
        SAMPLE.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key).collect();
    let key = proptest::sample::select(keys);
    prop_oneof![
        4 => proptest::sample::select(lines).prop_map(str::to_owned),
        3 => (key.clone(), proptest::sample::select(values)).prop_map(|(k, v)| format!("{k}= {v}")),
        1 => (key, "\\PC{0,20}").prop_map(|(k, v)| format!("{k}= {v:?}")),
        1 => "\\PC{0,30}",
        1 => "\\[{1,2}[a-z.\"-]{0,12}\\]{0,2}",
    ]
}

/// Never panics; every place is inside of the text; rendering works in both styles.
fn check(text: &str) {
    let problems: Problems = match config::parse(text, "f.toml") {
        Ok(loaded) => loaded.warnings,
        Err(problems) => {
            assert!(!problems.is_empty());
            problems
        }
    };
    let lines = text.split('\n').count();
    for problem in problems.iter() {
        let mut spans = vec![problem.span.clone().expect("text was read, so there is a place")];
        spans.extend(problem.also.iter().map(|(span, _)| span.clone()));
        for span in spans {
            assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
        }
        let (line, column) = problems.position(problem);
        assert!((1..=lines).contains(&line) && column >= 1, "{line}:{column} of {text:?}");
    }
    let plain = problems.render(Style::Plain);
    let colour = problems.render(Style::Colour);
    assert_eq!(plain.is_empty(), problems.is_empty());
    assert_eq!(colour.is_empty(), problems.is_empty());
    assert_eq!(problems.to_json().as_array().map(Vec::len), Some(problems.len()));
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn ids(values: &[std::sync::Arc<str>]) -> Vec<&str> {
    values.iter().map(|id| &**id).collect()
}

const MINIMAL: &str = r#"
[site]
name = "augsburg-2"
region = "eu-central-1"
[devices]
interfaces = ["lan0"]
networks = ["10.10.0.0/16"]
[tunnel]
interfaces = ["xfrm101"]
[resolver]
inbound = ["10.20.0.53"]
[vpc]
networks = ["10.20.0.0/16"]
[endpoint.historian]
host = "historian.corp.example"
[endpoint.kms]
"#;

const SAMPLE: &str = r#"[site]
name    = "augsburg-2"
region  = "eu-central-1"
account = "123456789012"

[devices]                                  # where plant devices arrive
interfaces = ["lan0"]
networks   = ["10.10.0.0/16"]

[tunnel]                                   # the only ways out, best first
interfaces = ["xfrm101", "xfrm102"]
source     = "10.99.0.7"
mss        = 1398

[resolver]
inbound   = ["10.20.0.53", "10.20.1.53:5353"]
last-good = "30m"

[vpc]
networks = ["10.20.0.0/16"]

[vpc.zones]
eu-central-1b = ["10.20.1.0/24"]
eu-central-1a = ["10.20.0.0/24"]

[endpoint.iot-data]
host     = "A1B2C3D4E5F6G7-ats.iot.eu-central-1.amazonaws.com"
networks = ["10.20.0.0/24", "10.20.1.0/24"]

[endpoint.iot-credentials]
host = "c1d2e3f4g5h6i7.credentials.iot.eu-central-1.amazonaws.com"

[endpoint.s3]
buckets = ["augsburg-artifacts"]
path-style = false

[endpoint.ecr]

[endpoint.historian]
host  = "historian.corp.example"
hosts = ["old.corp.example"]
ports = [443, 8443]

[policy]
mode    = "enforce"
default = ["iot-data", "iot-credentials", "s3", "ecr"]

[[device]]
name  = "press-3"
mac   = "00:1b:1b:2c:3d:4e"
address = "10.10.3.7"
allow = ["iot-data"]

[[device]]
name    = "cell-4"
address = "10.10.4.0/24"
allow   = []

[[expect]]
device = "press-3"
name   = "augsburg-artifacts.s3.eu-central-1.amazonaws.com"
verdict = "deny"

[[expect]]
device = "10.10.9.9"
name   = "historian.corp.example"
port   = 8443
verdict = "allow"

[intercept]
port = 15444
data-threads = 2

[dns]
listen = "off"

[audit]
directory = "/var/lib/sluicegate/audit"
on-full   = "refuse"

[admin]
listen = "127.0.0.1:9443"
socket = "/run/sluicegate/other.sock"
"#;

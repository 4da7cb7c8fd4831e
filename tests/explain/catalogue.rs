//! Every name form of AWS's that devices use, through `sluicegate explain` with a site in each
//! partition: the verdict, the VPC endpoint service, and what to do where it is refused.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::names::By::{self, Hosts};
use crate::names::{OWN_ENDPOINT, PLACES, PRIVATE, PUBLIC_ONLY, Place, private};
use crate::sluicegate;

#[test]
fn what_a_site_has_is_allowed() {
    for place in &PLACES {
        let site = Site::full(place);
        for (name, table, service, _) in private(place) {
            site.allows(&name, 443, table, &service);
        }
        for (form, service) in OWN_ENDPOINT {
            let name = place.write(form).unwrap();
            site.allows(&name, 443, "own", &place.write(service).unwrap());
        }
    }
}

#[test]
fn each_service_has_its_ports() {
    let place = &PLACES[0];
    let site = Site::full(place);
    for form in ["{data}", "mqtt.augsburg.example"] {
        let (name, service) = (place.write(form).unwrap(), "com.amazonaws.eu-central-1.iot.data");
        for port in [443, 8443, 8883] {
            site.allows(&name, port, "iot-data", service);
        }
        let remedy = "[endpoint.iot-data] has ports 443, 8443 and 8883";
        site.refuses(&name, 1883, "port_not_allowed", service, &[remedy]);
    }
    for (name, table, service, _) in private(place).filter(|(_, table, ..)| *table != "iot-data") {
        let remedy = format!("[endpoint.{table}] has port 443");
        site.refuses(&name, 8443, "port_not_allowed", &service, &[&remedy]);
    }
}

#[test]
fn what_a_site_lacks_is_refused_with_the_table_to_add() {
    for place in [&PLACES[0], &PLACES[4], &PLACES[5]] {
        let site = Site::with_iot_only(place);
        for (name, table, service, _) in
            private(place).filter(|(_, table, ..)| *table != "iot-data")
        {
            let table = format!("create its VPC endpoint and add [endpoint.{table}]");
            site.refuses(&name, 443, "name_not_allowed", &service, &[&table]);
        }
        for (form, service) in OWN_ENDPOINT {
            let (name, service) = (place.write(form).unwrap(), place.write(service).unwrap());
            let remedy = "`hosts` of a table of its own";
            site.refuses(&name, 443, "name_not_allowed", &service, &[remedy]);
        }
    }
}

#[test]
fn public_only_names_are_refused_with_the_setting_that_avoids_them() {
    for place in &PLACES {
        let site = Site::full(place);
        for (form, setting) in PUBLIC_ONLY {
            let Some(name) = place.write(form) else { continue };
            site.refuses(&name, 443, "name_public_only", "", &[setting]);
        }
    }
    let only = [
        (3, "greengrass.ats.iot.{r}.{main}", "`greengrassDataPlaneEndpoint: iotdata`"),
        (3, "data.ats.iot.{r}.{main}", "`aws iot describe-endpoint --endpoint-type iot:Data-ATS`"),
        (3, "a1b2c3d4e5f6g7-ats.iot.{r}.{main}", "`<prefix>.ats.iot.cn-north-1…`"),
        (4, "a1b2c3d4e5f6g7.ats.iot.{r}.{main}", "`<prefix>-ats.iot.<region>…`"),
        (0, "a1b2c3d4e5f6g7.ats.iot.{r}.{main}", "`<prefix>-ats.iot.<region>…`"),
        (2, "c1d2e3f4g5h6i7.credentials.iot.{r}.{main}", "no VPC endpoint"),
        (3, "c1d2e3f4g5h6i7.credentials.iot.{r}.{main}", "no VPC endpoint"),
        (4, "c1d2e3f4g5h6i7.credentials.iot.{r}.{main}", "no VPC endpoint"),
        (3, "greengrass.{r}.{main}", "provision cores by hand"),
        (4, "greengrass.{r}.{dual}", "provision cores by hand"),
        (1, "s3-external-1.{main}", "`s3EndpointType: REGIONAL`"),
    ];
    for (place, form, setting) in only {
        let place: &Place = &PLACES[place];
        let name = place.write(form).unwrap();
        Site::full(place).refuses(&name, 443, "name_public_only", "", &[setting]);
    }
}

#[test]
fn names_of_others_are_refused() {
    for place in &PLACES {
        let site = Site::full(place);
        let own = place.write("{data}").unwrap();
        let other = own.replace("a1b2c3d4e5f6g7", "z9y8x7w6v5u4t3");
        let service = place.write("{cn}com.amazonaws.{r}.iot.data").unwrap();
        site.refuses(&other, 8883, "name_other_account", &service, &[&own, "describe-endpoint"]);
        if let Some(own) = place.write("{credentials}") {
            let other = own.replace("c1d2e3f4g5h6i7", "z9y8x7w6v5u4t3");
            let service = place.write("com.amazonaws.{r}.iot.credentials").unwrap();
            site.refuses(&other, 443, "name_other_account", &service, &[&own]);
        }
        let others = [
            (
                "999999999999.dkr.ecr.{r}.{main}",
                "name_other_account",
                "ecr.dkr",
                "add \"999999999999\" to `accounts` of [endpoint.ecr]",
            ),
            (
                "line-9-999999999999.s3-accesspoint.{r}.{main}",
                "name_other_account",
                "s3",
                "`hosts` of [endpoint.s3]",
            ),
            (
                "999999999999.s3-control.{r}.{main}",
                "name_other_account",
                "s3",
                "`hosts` of [endpoint.s3]",
            ),
            (
                "line-9-123456789012.s3-accesspoint.{r}.{main}",
                "name_not_allowed",
                "s3",
                "`hosts` of [endpoint.s3]",
            ),
            (
                "another-bucket.s3.{r}.{main}",
                "name_not_allowed",
                "s3",
                "add \"another-bucket\" to `buckets` of [endpoint.s3]",
            ),
            (
                "another.bucket.s3.dualstack.{r}.{main}",
                "name_not_allowed",
                "s3",
                "add \"another.bucket\" to `buckets` of [endpoint.s3]",
            ),
            // Only the region's own layer bucket is AWS's.
            (
                "prod-eu-west-1-starport-layer-bucket.s3.{r}.{main}",
                "name_not_allowed",
                "s3",
                "`buckets` of [endpoint.s3]",
            ),
            (
                "bucket.vpce-9999-z9.s3.{r}.vpce.{main}",
                "name_not_allowed",
                "s3",
                "`hosts` of [endpoint.s3]",
            ),
            (
                "vpce-9999-z9.kms.{r}.vpce.{main}",
                "name_not_allowed",
                "kms",
                "`hosts` of [endpoint.kms]",
            ),
        ];
        for (form, reason, service, remedy) in others {
            let service = place.write(&format!("com.amazonaws.{{r}}.{service}")).unwrap();
            site.refuses(&place.write(form).unwrap(), 443, reason, &service, &[remedy]);
        }
    }
}

#[test]
fn path_style_names_need_a_word_of_their_own() {
    let place = &PLACES[0];
    let text = Site::full(place).text.replace("path-style = true\n", "");
    let site = Site::new(text);
    for form in ["s3.{r}.{main}", "s3.dualstack.{r}.{main}"] {
        let name = place.write(form).unwrap();
        let service = "com.amazonaws.eu-central-1.s3";
        site.refuses(&name, 443, "name_not_allowed", service, &["`path-style = true`"]);
    }
}

#[test]
fn names_of_another_region_are_refused() {
    // The region of a site, and one whose names are asked for.
    for (here, there) in [(0, 1), (2, 0), (4, 3), (0, 5)] {
        let (here, there): (&Place, &Place) = (&PLACES[here], &PLACES[there]);
        let site = Site::full(here);
        let of_a_region = |form: &&(&str, &str, &str, By)| form.0 != "mqtt.augsburg.example";
        for (form, _, service, _) in PRIVATE.iter().filter(of_a_region) {
            let Some(name) = there.write(form) else { continue };
            let service = there.write(service).unwrap();
            let words = [format!("in {}", there.region), format!("for {}", here.region)];
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            site.refuses(&name, 443, "name_wrong_region", &service, &words);
        }
    }
}

#[test]
fn a_region_under_the_domain_of_another_partition_is_no_name_of_aws() {
    let site = Site::full(&PLACES[0]);
    for name in [
        "s3.cn-north-1.amazonaws.com",
        "s3.eu-central-1.amazonaws.com.cn",
        "logs.eusc-de-east-1.amazonaws.com",
        "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com.example.com",
    ] {
        site.refuses(name, 443, "name_not_allowed", "", &["[endpoint.*] table"]);
    }
}

/// A configuration file that the program is asked with.
struct Site {
    text: String,
    file: NamedTempFile,
}

impl Site {
    fn new(text: String) -> Self {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &text).unwrap();
        Self { text, file }
    }

    /// With a table for every service of the region, and one for names of an endpoint of their own.
    fn full(place: &Place) -> Self {
        let mut hosts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, table, _, by) in private(place) {
            let names = hosts.entry(table).or_default();
            names.extend((by == Hosts).then_some(name));
        }
        let own = OWN_ENDPOINT.iter().map(|(form, _)| place.write(form).unwrap()).collect();
        hosts.insert("own", own);
        let mut text = place.write(HEAD).unwrap();
        for (table, names) in hosts {
            let _ = writeln!(text, "\n[endpoint.{table}]");
            if !names.is_empty() {
                let _ = writeln!(text, "hosts = {names:?}");
            }
            if table == "s3" {
                text.push_str(BUCKETS);
            }
        }
        Self::new(text)
    }

    fn with_iot_only(place: &Place) -> Self {
        let table = "\n[endpoint.iot-data]\nhost = \"{data}\"\n";
        Self::new(place.write(&format!("{HEAD}{table}")).unwrap())
    }

    #[track_caller]
    fn allows(&self, name: &str, port: u16, table: &str, service: &str) {
        let (code, said) = self.ask(name, port);
        let expected = (Some(0), &"allow".into(), &Value::Null, &Value::Null);
        assert_eq!(
            (code, &said["verdict"], &said["reason"], &said["remedy"]),
            expected,
            "{said:#}"
        );
        assert_eq!(
            (&said["endpoint"], &said["service"]),
            (&table.into(), &service.into()),
            "{name}"
        );
    }

    /// An empty `service` stands for any.
    #[track_caller]
    fn refuses(&self, name: &str, port: u16, reason: &str, service: &str, remedy: &[&str]) {
        let (code, said) = self.ask(name, port);
        let expected = (Some(3), &"deny".into(), &reason.into());
        assert_eq!((code, &said["verdict"], &said["reason"]), expected, "{said:#}");
        if !service.is_empty() {
            assert_eq!(said["service"], service, "{said:#}");
        }
        for words in remedy {
            let whole = said["remedy"].as_str().unwrap_or_default();
            assert!(whole.contains(words), "{name}: {words:?} is not in {whole:?}");
        }
    }

    fn ask(&self, name: &str, port: u16) -> (Option<i32>, Value) {
        let (config, port) = (self.file.path().to_str().unwrap(), port.to_string());
        let asked = ["explain", "--offline", "--json", "--device", "10.10.0.7", "--name", name];
        let output =
            sluicegate(&[&asked[..], &["--port", &port, "--config", config]].concat(), b"");
        let said = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{name}: {error}: {output:?}"));
        (output.status.code(), said)
    }
}

/// Device networks and everything else that a site needs; all endpoints for everybody.
const HEAD: &str = r#"
[site]
name = "augsburg-2"
region = "{r}"
account = "123456789012"

[devices]
interfaces = ["lan0"]
networks = ["10.10.0.0/16"]

[tunnel]
interfaces = ["xfrm101"]

[resolver]
inbound = ["10.20.0.53", "10.20.1.53"]

[vpc]
networks = ["10.20.0.0/16"]
"#;
const BUCKETS: &str = "path-style = true\n\
    buckets = [\"augsburg-artifacts\", \"parts.line-4.augsburg\", \"line-4-a1b2c3d4-s3alias\"]\n";

//! Which names and ports are allowed, and why the others are not.

use super::support::*;
use crate::config::{EndpointConfig, Service};
use crate::policy::Policy;
use crate::reason::Reason::*;

const LAYERS: &str = "prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com";

#[test]
fn configured_names_are_granted_with_their_endpoint_service() {
    let site = plant();
    for (text, port, id, service) in [
        (IOT, 8883, "iot-data", "com.amazonaws.eu-central-1.iot.data"),
        (IOT, 8443, "iot-data", "com.amazonaws.eu-central-1.iot.data"),
        (CREDENTIALS, 443, "iot-credentials", "com.amazonaws.eu-central-1.iot.credentials"),
        ("parts.s3.eu-central-1.amazonaws.com", 443, "s3", "com.amazonaws.eu-central-1.s3"),
        (
            "parts.s3.dualstack.eu-central-1.amazonaws.com",
            443,
            "s3",
            "com.amazonaws.eu-central-1.s3",
        ),
        ("api.ecr.eu-central-1.amazonaws.com", 443, "ecr", "com.amazonaws.eu-central-1.ecr.api"),
        (
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            443,
            "ecr",
            "com.amazonaws.eu-central-1.ecr.dkr",
        ),
        (
            "123456789012.dkr-ecr.eu-central-1.on.aws",
            443,
            "ecr",
            "com.amazonaws.eu-central-1.ecr.dkr",
        ),
        (LAYERS, 443, "ecr", "com.amazonaws.eu-central-1.s3"),
        ("historian.corp.example", 8443, "historian", "historian"),
    ] {
        let grant = allows(&site, text, port);
        assert_eq!((&*grant.endpoint().id, &*grant.endpoint().service), (id, service), "{text}");
        assert_eq!((grant.name().as_str(), grant.port()), (text, port));
        assert_eq!(&**grant.rule(), "policy.default");
    }
}

#[test]
fn a_wrong_port_is_answered_with_the_right_ones() {
    let denial = refuses(&plant(), IOT, 1883, PortNotAllowed, "443, 8443 and 8883");
    assert_eq!(&*denial.rule(), "endpoint iot-data");
    refuses(&plant(), CREDENTIALS, 8443, PortNotAllowed, "port 443:");
    refuses(&plant(), "historian.corp.example", 8883, PortNotAllowed, "443 and 8443");
}

#[test]
fn ports_of_the_file_replace_those_of_the_catalogue() {
    let mut site = plant();
    site.endpoints[0].ports = Some(vec![8883]);
    allows(&site, IOT, 8883);
    refuses(&site, IOT, 443, PortNotAllowed, "port 8883:");
    assert_eq!(Policy::compile(&plant()).ports(), [443, 8443, 8883]);
    site.endpoints.truncate(1);
    assert_eq!(Policy::compile(&site).ports(), [8883]);
    site.endpoints.clear();
    assert_eq!(Policy::compile(&site).ports(), [0_u16; 0]);
}

#[test]
fn names_of_other_accounts_are_told_from_unlisted_ones() {
    let site = plant();
    let other = "z9y8x7w6v5u4t3-ats.iot.eu-central-1.amazonaws.com";
    refuses(&site, other, 8883, NameOtherAccount, IOT);
    let other = "z9y8x7w6v5u4t3.credentials.iot.eu-central-1.amazonaws.com";
    refuses(&site, other, 443, NameOtherAccount, CREDENTIALS);
    let other = "999999999999.dkr.ecr.eu-central-1.amazonaws.com";
    let denial = refuses(&site, other, 443, NameOtherAccount, "\"999999999999\" to `accounts`");
    assert_eq!(denial.service().as_deref(), Some("com.amazonaws.eu-central-1.ecr.dkr"));
    assert_eq!(&*denial.rule(), "catalogue ecr-dkr");
    let other = "ap-999999999999.s3-accesspoint.eu-central-1.amazonaws.com";
    refuses(&site, other, 443, NameOtherAccount, "`hosts` of [endpoint.s3]");
    let own = "ap-123456789012.s3-accesspoint.eu-central-1.amazonaws.com";
    refuses(&site, own, 443, NameNotAllowed, "`hosts` of [endpoint.s3]");
}

#[test]
fn without_a_name_to_compare_with_no_account_is_claimed() {
    let mut site = plant();
    site.endpoints[0].hosts = vec![name("mqtt.plant.example")];
    allows(&site, "mqtt.plant.example", 8883);
    refuses(&site, IOT, 8883, NameNotAllowed, "`hosts` of [endpoint.iot-data]");
    site.account = None;
    let ap = "ap-999999999999.s3-accesspoint.eu-central-1.amazonaws.com";
    refuses(&site, ap, 443, NameNotAllowed, "`hosts` of [endpoint.s3]");
}

#[test]
fn more_accounts_replace_the_sites_own() {
    let mut site = plant();
    site.endpoints[3].accounts = vec!["999999999999".into()];
    allows(&site, "999999999999.dkr.ecr.eu-central-1.amazonaws.com", 443);
    let own = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
    refuses(&site, own, 443, NameNotAllowed, "\"123456789012\" to `accounts`");
}

#[test]
fn s3_names_are_refused_with_the_setting_that_would_allow_them() {
    let site = plant();
    let other = "secret.s3.eu-central-1.amazonaws.com";
    refuses(&site, other, 443, NameNotAllowed, "\"secret\" to `buckets` of [endpoint.s3]");
    let dotted = "my.parts.s3.eu-central-1.amazonaws.com";
    refuses(&site, dotted, 443, NameNotAllowed, "\"my.parts\" to `buckets`");
    let path = "s3.eu-central-1.amazonaws.com";
    refuses(&site, path, 443, NameNotAllowed, "`path-style = true`");
    let vpce = "parts.bucket.vpce-0-a.s3.eu-central-1.vpce.amazonaws.com";
    refuses(&site, vpce, 443, NameNotAllowed, "`hosts` of [endpoint.s3]");
}

#[test]
fn path_style_and_any_bucket_open_just_what_they_say() {
    let mut site = plant();
    site.endpoints[2].path_style = true;
    allows(&site, "s3.eu-central-1.amazonaws.com", 443);
    refuses(&site, "secret.s3.eu-central-1.amazonaws.com", 443, NameNotAllowed, "buckets");
    let mut site = plant();
    site.endpoints[2].any_bucket = true;
    for text in [
        "secret.s3.eu-central-1.amazonaws.com",
        "my.dotted.bucket.s3.eu-central-1.amazonaws.com",
        "secret.s3.dualstack.eu-central-1.amazonaws.com",
    ] {
        assert_eq!(&*allows(&site, text, 443).endpoint().id, "s3");
    }
    refuses(&site, "secret.s3.eu-central-1.amazonaws.com", 8443, PortNotAllowed, "443");
    refuses(&site, "s3.eu-central-1.amazonaws.com", 443, NameNotAllowed, "path-style");
    refuses(&site, "x.s3.eu-west-1.amazonaws.com", 443, NameWrongRegion, "eu-west-1");
    refuses(&site, "xs3.eu-central-1.amazonaws.com", 443, NameNotAllowed, "[endpoint.*]");
    let ap = "ap-123456789012.s3-accesspoint.eu-central-1.amazonaws.com";
    refuses(&site, ap, 443, NameNotAllowed, "hosts");
}

#[test]
fn a_service_without_a_table_is_answered_with_the_table() {
    let site = plant();
    for (text, table) in [
        ("logs.eu-central-1.amazonaws.com", "[endpoint.logs]"),
        ("logs.eu-central-1.api.aws", "[endpoint.logs]"),
        ("sts.eu-central-1.amazonaws.com", "[endpoint.sts]"),
        ("iot.eu-central-1.amazonaws.com", "[endpoint.iot-control]"),
        ("data.tunneling.iot.eu-central-1.amazonaws.com", "[endpoint.iot-tunneling]"),
        ("greengrass.eu-central-1.amazonaws.com", "[endpoint.greengrass]"),
    ] {
        refuses(&site, text, 443, NameNotAllowed, table);
    }
    let empty = {
        let mut site = bare();
        site.policy.default = vec!["iot-data".into()];
        site
    };
    let host = format!("[endpoint.iot-data] with `host = \"{IOT}\"`");
    refuses(&empty, IOT, 8883, NameNotAllowed, &host);
    let bucket = "[endpoint.s3] with `buckets = [\"parts\"]`";
    refuses(&empty, "parts.s3.eu-central-1.amazonaws.com", 443, NameNotAllowed, bucket);
    let accounts = "[endpoint.ecr] with `accounts = [\"999999999999\"]`";
    let registry = "999999999999.dkr.ecr.eu-central-1.amazonaws.com";
    refuses(&empty, registry, 443, NameNotAllowed, accounts);
}

#[test]
fn other_regions_are_named() {
    for text in [
        "logs.us-east-1.amazonaws.com",
        "z9y8x7-ats.iot.us-east-1.amazonaws.com",
        "parts.s3.us-east-1.amazonaws.com",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "kms-fips.us-east-1.amazonaws.com",
    ] {
        refuses(&plant(), text, 443, NameWrongRegion, "in us-east-1, this site is in eu-central-1");
    }
    refuses(&plant(), "parts.s3.cn-north-1.amazonaws.com.cn", 443, NameWrongRegion, "cn-north-1");
}

#[test]
fn public_names_are_refused_with_the_way_around() {
    let site = plant();
    for (text, word) in [
        ("greengrass-ats.iot.eu-central-1.amazonaws.com", "greengrassDataPlaneEndpoint: iotdata"),
        ("greengrass-ats.iot.us-east-1.amazonaws.com", "greengrassDataPlaneEndpoint: iotdata"),
        ("parts.s3.amazonaws.com", "s3EndpointType: REGIONAL"),
        ("a1b2c3.iot.eu-central-1.amazonaws.com", "iot:Data-ATS"),
        ("registry-1.docker.io", "private ECR"),
    ] {
        refuses(&site, text, 8443, NamePublicOnly, word);
    }
}

#[test]
fn names_behind_an_endpoint_of_their_own_are_not_called_public() {
    let text = "kms-fips.eu-central-1.amazonaws.com";
    refuses(&plant(), text, 443, NameNotAllowed, "table of its own");
}

#[test]
fn unknown_names_are_refused() {
    let denial = refuses(&plant(), "www.example.com", 443, NameNotAllowed, "[endpoint.*]");
    assert_eq!((&*denial.rule(), denial.service()), ("no endpoint", None));
}

#[test]
fn what_the_file_lists_wins_over_what_the_catalogue_says() {
    let mut site = plant();
    let listed = [
        "greengrass-ats.iot.eu-central-1.amazonaws.com",
        "logs.us-east-1.amazonaws.com",
        "parts.s3.amazonaws.com",
        "z9y8x7-ats.iot.eu-central-1.amazonaws.com",
    ];
    site.endpoints.push(table("others", Service::Custom, &listed));
    site.policy.default.push("others".into());
    for text in listed {
        assert_eq!(&*allows(&site, text, 443).endpoint().id, "others");
    }
    let grant = allows(&site, "logs.us-east-1.amazonaws.com", 443);
    assert_eq!(&*grant.endpoint().service, "com.amazonaws.us-east-1.logs");
}

#[test]
fn a_name_of_two_tables_is_for_whoever_may_use_either() {
    let mut site = plant();
    site.endpoints[2].buckets.push("prod-eu-central-1-starport-layer-bucket".into());
    site.policy.default = vec!["s3".into()];
    assert_eq!(&*allows(&site, LAYERS, 443).endpoint().id, "s3");
    site.policy.default = vec!["ecr".into()];
    assert_eq!(&*allows(&site, LAYERS, 443).endpoint().id, "ecr");
    site.policy.default = vec!["iot-data".into()];
    refuses(&site, LAYERS, 443, DeviceNotAllowed, "allows \"s3\"");
    site.endpoints.push(EndpointConfig {
        ports: Some(vec![8080]),
        ..table("more", Service::Custom, &["historian.corp.example"])
    });
    site.policy.default = vec!["more".into()];
    allows(&site, "historian.corp.example", 8080);
    refuses(&site, "historian.corp.example", 443, DeviceNotAllowed, "allows \"historian\"");
    refuses(&site, "historian.corp.example", 1, PortNotAllowed, "443, 8080 and 8443");
}

#[test]
fn image_layers_lie_in_the_networks_of_s3() {
    let mut site = plant();
    site.endpoints[3].networks = vec![net4("10.20.3.0/24")];
    site.endpoints[2].networks = vec![net4("10.20.2.0/24")];
    let api = allows(&site, "api.ecr.eu-central-1.amazonaws.com", 443);
    assert_eq!(*api.endpoint().networks, [net4("10.20.3.0/24")]);
    assert_eq!(*allows(&site, LAYERS, 443).endpoint().networks, [net4("10.20.2.0/24")]);
    site.endpoints.remove(2);
    assert_eq!(*allows(&site, LAYERS, 443).endpoint().networks, [net4("10.20.0.0/16")]);
}

#[test]
fn names_follow_the_partition_of_the_site() {
    let mut site = plant();
    for table in &mut site.endpoints {
        table.hosts.clear();
    }
    site.region = "cn-north-1".into();
    site.endpoints.push(table("greengrass", Service::Greengrass, &[]));
    site.policy.default.push("greengrass".into());
    allows(&site, "parts.s3.cn-north-1.amazonaws.com.cn", 443);
    allows(&site, "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", 443);
    let greengrass = "greengrass.cn-north-1.amazonaws.com.cn";
    refuses(&site, greengrass, 443, NamePublicOnly, "China");
    site.region = "eusc-de-east-1".into();
    allows(&site, "parts.s3.eusc-de-east-1.amazonaws.eu", 443);
    allows(&site, "ecr.eusc-de-east-1.api.amazonwebservices.eu", 443);
    site.region = "mars-1".into();
    site.endpoints.push(table("by-hand", Service::Custom, &["only.this.example"]));
    let listed = Policy::compile(&site).exact_names().len();
    assert_eq!(listed, 1, "no names are made up for a region nobody knows");
}

#[test]
fn every_exact_name_is_allowed_on_every_port_of_its_endpoint() {
    let mut site = plant();
    site.endpoints[2].path_style = true;
    site.endpoints.push(table(
        "logs",
        Service::Logs,
        &["vpce-0-a.logs.eu-central-1.vpce.amazonaws.com"],
    ));
    site.policy.default.push("logs".into());
    let policy = Policy::compile(&site);
    let names = policy.exact_names();
    assert_eq!(names.len(), 18);
    for exact in names {
        let ports = site.endpoints.iter().find(|table| table.id == exact.endpoint.id);
        let ports: &[u16] = match &*ports.expect("its table").id {
            "iot-data" => &[443, 8443, 8883],
            "historian" => &[443, 8443],
            _ => &[443],
        };
        for port in ports {
            let grant = policy.judge(asking("10.10.9.9", ""), &exact.name, *port).outcome;
            let grant = grant.expect("an exact name");
            assert_eq!(grant.endpoint().id, exact.endpoint.id);
        }
    }
}

//! Every host name form AWS documents, with what the catalogue must say about it.

use super::*;

use Service::*;

fn name(text: &str) -> ServerName {
    text.parse().expect("a host name")
}

/// name, service, region, VPC endpoint service
const PRIVATE: &[(&str, Service, &str, &str)] = &[
    (
        "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com",
        IotData,
        "eu-central-1",
        "com.amazonaws.eu-central-1.iot.data",
    ),
    (
        "a1b2c3.ats.iot.cn-north-1.amazonaws.com.cn",
        IotData,
        "cn-north-1",
        "cn.com.amazonaws.cn-north-1.iot.data",
    ),
    (
        "a1b2c3-ats.iot.cn-northwest-1.amazonaws.com.cn",
        IotData,
        "cn-northwest-1",
        "cn.com.amazonaws.cn-northwest-1.iot.data",
    ),
    (
        "a1b2c3-ats.iot.us-gov-west-1.amazonaws.com",
        IotData,
        "us-gov-west-1",
        "com.amazonaws.us-gov-west-1.iot.data",
    ),
    (
        "a1b2c3-ats.iot.eusc-de-east-1.amazonaws.eu",
        IotData,
        "eusc-de-east-1",
        "com.amazonaws.eusc-de-east-1.iot.data",
    ),
    (
        "c1d2e3f4g5h6i7.credentials.iot.eu-central-1.amazonaws.com",
        IotCredentials,
        "eu-central-1",
        "com.amazonaws.eu-central-1.iot.credentials",
    ),
    ("iot.us-east-1.amazonaws.com", IotControl, "us-east-1", "com.amazonaws.us-east-1.iot.api"),
    ("iot.us-east-1.api.aws", IotControl, "us-east-1", "com.amazonaws.us-east-1.iot.api"),
    (
        "api.tunneling.iot.eu-west-1.amazonaws.com",
        IotTunneling,
        "eu-west-1",
        "com.amazonaws.eu-west-1.iot.tunneling.api",
    ),
    (
        "api.iot-tunneling.eu-west-1.api.aws",
        IotTunneling,
        "eu-west-1",
        "com.amazonaws.eu-west-1.iot.tunneling.api",
    ),
    (
        "data.tunneling.iot.eu-west-1.amazonaws.com",
        IotTunneling,
        "eu-west-1",
        "com.amazonaws.eu-west-1.iot.tunneling.data",
    ),
    (
        "greengrass.eu-central-1.amazonaws.com",
        Greengrass,
        "eu-central-1",
        "com.amazonaws.eu-central-1.greengrass",
    ),
    (
        "greengrass.us-gov-east-1.api.aws",
        Greengrass,
        "us-gov-east-1",
        "com.amazonaws.us-gov-east-1.greengrass",
    ),
    ("s3.eu-central-1.amazonaws.com", S3, "eu-central-1", "com.amazonaws.eu-central-1.s3"),
    ("parts.s3.eu-central-1.amazonaws.com", S3, "eu-central-1", "com.amazonaws.eu-central-1.s3"),
    (
        "my.dotted.bucket.s3.eu-central-1.amazonaws.com",
        S3,
        "eu-central-1",
        "com.amazonaws.eu-central-1.s3",
    ),
    (
        "s3.dualstack.eu-central-1.amazonaws.com",
        S3,
        "eu-central-1",
        "com.amazonaws.eu-central-1.s3",
    ),
    (
        "parts.s3.dualstack.eu-central-1.amazonaws.com",
        S3,
        "eu-central-1",
        "com.amazonaws.eu-central-1.s3",
    ),
    ("parts.s3.cn-north-1.amazonaws.com.cn", S3, "cn-north-1", "com.amazonaws.cn-north-1.s3"),
    (
        "parts.s3.eusc-de-east-1.amazonaws.eu",
        S3,
        "eusc-de-east-1",
        "com.amazonaws.eusc-de-east-1.s3",
    ),
    (
        "123456789012.s3-control.eu-central-1.amazonaws.com",
        S3,
        "eu-central-1",
        "com.amazonaws.eu-central-1.s3",
    ),
    (
        "line-4-123456789012.s3-accesspoint.eu-central-1.amazonaws.com",
        S3,
        "eu-central-1",
        "com.amazonaws.eu-central-1.s3",
    ),
    (
        "line-4-123456789012.s3-accesspoint.dualstack.eu-central-1.amazonaws.com",
        S3,
        "eu-central-1",
        "com.amazonaws.eu-central-1.s3",
    ),
    (
        "bucket.vpce-0123456789abcdef0-abcdefgh.s3.eu-central-1.vpce.amazonaws.com",
        S3,
        "eu-central-1",
        "com.amazonaws.eu-central-1.s3",
    ),
    (
        "parts.bucket.vpce-0123456789abcdef0-abcdefgh.s3.eu-central-1.vpce.amazonaws.com",
        S3,
        "eu-central-1",
        "com.amazonaws.eu-central-1.s3",
    ),
    (
        "control.vpce-0123-abcd-eu-central-1a.s3.eu-central-1.vpce.amazonaws.com",
        S3,
        "eu-central-1",
        "com.amazonaws.eu-central-1.s3",
    ),
    ("api.ecr.us-east-2.amazonaws.com", Ecr, "us-east-2", "com.amazonaws.us-east-2.ecr.api"),
    ("ecr.us-east-2.api.aws", Ecr, "us-east-2", "com.amazonaws.us-east-2.ecr.api"),
    (
        "ecr.cn-north-1.api.amazonwebservices.com.cn",
        Ecr,
        "cn-north-1",
        "com.amazonaws.cn-north-1.ecr.api",
    ),
    (
        "vpce-0123-abcd.api.ecr.us-east-2.vpce.amazonaws.com",
        Ecr,
        "us-east-2",
        "com.amazonaws.us-east-2.ecr.api",
    ),
    (
        "123456789012.dkr.ecr.us-east-2.amazonaws.com",
        Ecr,
        "us-east-2",
        "com.amazonaws.us-east-2.ecr.dkr",
    ),
    ("123456789012.dkr-ecr.us-east-2.on.aws", Ecr, "us-east-2", "com.amazonaws.us-east-2.ecr.dkr"),
    (
        "123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn",
        Ecr,
        "cn-north-1",
        "com.amazonaws.cn-north-1.ecr.dkr",
    ),
    (
        "123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu",
        Ecr,
        "eusc-de-east-1",
        "com.amazonaws.eusc-de-east-1.ecr.dkr",
    ),
    (
        "prod-us-east-2-starport-layer-bucket.s3.us-east-2.amazonaws.com",
        Ecr,
        "us-east-2",
        "com.amazonaws.us-east-2.s3",
    ),
    ("logs.eu-north-1.amazonaws.com", Logs, "eu-north-1", "com.amazonaws.eu-north-1.logs"),
    ("logs.eu-north-1.api.aws", Logs, "eu-north-1", "com.amazonaws.eu-north-1.logs"),
    ("stream-logs.eu-north-1.amazonaws.com", Logs, "eu-north-1", "com.amazonaws.eu-north-1.logs"),
    (
        "secretsmanager.eusc-de-east-1.api.amazonwebservices.eu",
        SecretsManager,
        "eusc-de-east-1",
        "com.amazonaws.eusc-de-east-1.secretsmanager",
    ),
    ("sts.eu-north-1.amazonaws.com", Sts, "eu-north-1", "com.amazonaws.eu-north-1.sts"),
    ("kms.eu-north-1.amazonaws.com", Kms, "eu-north-1", "com.amazonaws.eu-north-1.kms"),
    ("ssm.eu-north-1.amazonaws.com", Ssm, "eu-north-1", "com.amazonaws.eu-north-1.ssm"),
    (
        "ssmmessages.eu-north-1.amazonaws.com",
        SsmMessages,
        "eu-north-1",
        "com.amazonaws.eu-north-1.ssmmessages",
    ),
    (
        "ec2messages.eu-north-1.amazonaws.com",
        Ec2Messages,
        "eu-north-1",
        "com.amazonaws.eu-north-1.ec2messages",
    ),
    (
        "monitoring.eu-north-1.amazonaws.com",
        Monitoring,
        "eu-north-1",
        "com.amazonaws.eu-north-1.monitoring",
    ),
];

/// name, row, a word of the remedy
const PUBLIC: &[(&str, &str, &str)] = &[
    ("greengrass-ats.iot.eu-central-1.amazonaws.com", "greengrass-ats", "iotdata"),
    ("greengrass.ats.iot.cn-north-1.amazonaws.com.cn", "greengrass-ats", "iotdata"),
    ("greengrass-ats.iot.cn-northwest-1.amazonaws.com.cn", "greengrass-ats", "iotdata"),
    ("data-ats.iot.eu-central-1.amazonaws.com", "iot-generic", "describe-endpoint"),
    ("data.iot.eu-central-1.amazonaws.com", "iot-generic", "describe-endpoint"),
    ("data.ats.iot.cn-north-1.amazonaws.com.cn", "iot-generic", "describe-endpoint"),
    ("data-ats.iot.eu-central-1.api.aws", "iot-generic", "describe-endpoint"),
    ("a1b2c3.iot.eu-central-1.amazonaws.com", "iot-legacy", "Data-ATS"),
    ("a1b2c3-ats.iot.cn-north-1.amazonaws.com.cn", "iot-beijing", "dot"),
    ("a1b2c3.ats.iot.cn-northwest-1.amazonaws.com.cn", "iot-not-beijing", "-ats.iot"),
    ("a1b2c3-ats.data.iot.eu-central-1.amazonaws.com", "iot-sample-data", "-ats.iot"),
    ("a1b2c3.api.iot.eu-central-1.amazonaws.com", "iot-sample-api", "`iot.<region>…`"),
    ("a1b2c3.jobs.iot.eu-central-1.amazonaws.com", "iot-jobs", "MQTT"),
    ("data.jobs.iot.eu-central-1.amazonaws.com", "iot-jobs", "MQTT"),
    ("api.fleethub.iot.eu-central-1.amazonaws.com", "iot-fleethub", "browsers"),
    ("c1.credentials.iot.cn-north-1.amazonaws.com.cn", "iot-credentials-public", "China"),
    ("c1.credentials.iot.us-gov-west-1.amazonaws.com", "iot-credentials-public", "GovCloud"),
    ("greengrass.cn-north-1.amazonaws.com.cn", "greengrass-china", "China"),
    ("vpce-0123-abcd.data.iot.eu-central-1.vpce.amazonaws.com", "iot-vpce", "describe-endpoint"),
    ("vpce-0123-abcd.iot.data.eu-central-1.vpce.amazonaws.com", "iot-vpce", "describe-endpoint"),
    (
        "vpce-0123-abcd.credentials.iot.eu-central-1.vpce.amazonaws.com",
        "iot-vpce",
        "describe-endpoint",
    ),
    ("data.iot-fips.us-east-1.amazonaws.com", "iot-data-fips", "describe-endpoint"),
    ("data.credentials.iot-fips.us-east-1.amazonaws.com", "iot-data-fips", "describe-endpoint"),
    ("logs-fips.us-east-1.amazonaws.com", "fips", "FIPS"),
    ("greengrass-fips.us-east-1.amazonaws.com", "fips", "FIPS"),
    ("secretsmanager-fips.us-east-1.amazonaws.com", "fips", "FIPS"),
    ("ecr-fips.us-east-1.amazonaws.com", "fips", "FIPS"),
    ("ecr-fips.us-east-1.api.aws", "fips", "FIPS"),
    ("api.ecr-fips.us-east-1.amazonaws.com", "fips", "FIPS"),
    ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", "fips", "FIPS"),
    ("123456789012.dkr-ecr-fips.us-east-1.on.aws", "fips", "FIPS"),
    ("parts.s3-fips.us-east-1.amazonaws.com", "fips", "FIPS"),
    ("parts.s3-fips.dualstack.us-east-1.amazonaws.com", "fips", "FIPS"),
    ("s3.amazonaws.com", "s3-global", "REGIONAL"),
    ("parts.s3.amazonaws.com", "s3-global", "REGIONAL"),
    ("my.dotted.bucket.s3.amazonaws.com", "s3-global", "REGIONAL"),
    ("s3-eu-west-1.amazonaws.com", "s3-dash", "hyphen"),
    ("parts.s3-eu-west-1.amazonaws.com", "s3-dash", "hyphen"),
    ("parts.s3-website.eu-central-1.amazonaws.com", "s3-website", "websites"),
    ("parts.s3-website-us-east-1.amazonaws.com", "s3-website", "websites"),
    ("parts.s3-accelerate.amazonaws.com", "s3-accelerate", "acceleration"),
    ("parts.s3-accelerate.dualstack.amazonaws.com", "s3-accelerate", "acceleration"),
    (
        "b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com",
        "s3-express",
        "general purpose",
    ),
    ("s3express-control.us-east-1.amazonaws.com", "s3-express", "general purpose"),
    ("ap-123456789012.op-01ac.s3-outposts.us-east-1.amazonaws.com", "s3-outposts", "Outposts"),
    ("ol-123456789012.s3-object-lambda.us-east-1.amazonaws.com", "s3-object-lambda", "Lambda"),
    ("sts.amazonaws.com", "sts-global", "regional"),
    ("iam.amazonaws.com", "iam", "provision"),
    ("public.ecr.aws", "ecr-public", "private ECR"),
    ("api.ecr-public.us-east-1.amazonaws.com", "ecr-public", "private ECR"),
    ("registry-1.docker.io", "docker-hub", "private ECR"),
    ("auth.docker.io", "docker-hub", "private ECR"),
    ("production.cloudflare.docker.com", "docker-hub", "private ECR"),
    ("d2s8p88vqu9w66.cloudfront.net", "greengrass-installer", "installer"),
    ("d111111abcdef8.cloudfront.net", "cloudfront", "bucket"),
];

/// name, VPC endpoint service
const OWN: &[(&str, &str)] = &[
    ("iot-fips.us-east-1.amazonaws.com", "com.amazonaws.us-east-1.iot-fips.api"),
    (
        "data.tunneling.iot-fips.us-east-1.amazonaws.com",
        "com.amazonaws.us-east-1.iot-fips.tunneling.data",
    ),
    ("sts-fips.us-east-1.amazonaws.com", "com.amazonaws.us-east-1.sts-fips"),
    ("kms-fips.us-east-1.amazonaws.com", "com.amazonaws.us-east-1.kms-fips"),
    ("mfz.mrap.accesspoint.s3-global.amazonaws.com", "com.amazonaws.s3-global.accesspoint"),
];

const UNKNOWN: &[&str] = &[
    "historian.corp.example",
    "example.com",
    "amazonaws.com",
    "com",
    "s3.eu-central-1.amazonaws.com.example.com",
    "notamazonaws.com",
    "s3.eu-central-1.notamazonaws.com",
    // A region of one partition under the domain of another is no name of AWS's.
    "s3.cn-north-1.amazonaws.com",
    "s3.eu-central-1.amazonaws.com.cn",
    "logs.eusc-de-east-1.amazonaws.com",
    "logs.us-iso-east-1.amazonaws.com",
    "logs.nowhere.amazonaws.com",
    "12345678901.dkr.ecr.us-east-2.amazonaws.com",
    "a-ats.b.iot.eu-central-1.amazonaws.com",
];

#[test]
fn private_names_have_service_region_and_endpoint_service() {
    for (text, service, region, endpoint) in PRIVATE {
        let host = name(text);
        let known = classify(&host).expect(text);
        assert_eq!(known.kind, Kind::Private(*service), "{text}");
        assert_eq!(known.region, Some(*region), "{text}");
        assert_eq!(known.endpoint_service().as_deref(), Some(*endpoint), "{text}");
        assert_eq!(known.remedy, None, "{text}");
        let ports: &[u16] = if *service == IotData { &[443, 8443, 8883] } else { &[443] };
        assert_eq!(known.ports, ports, "{text}");
    }
}

#[test]
fn public_names_have_a_remedy_of_their_own() {
    for (text, row, word) in PUBLIC {
        let host = name(text);
        let known = classify(&host).expect(text);
        assert_eq!((known.kind, known.row), (Kind::PublicOnly, *row), "{text}");
        assert!(known.remedy.expect(text).contains(word), "{text}");
        assert_eq!(known.endpoint_service(), None, "{text}");
    }
}

#[test]
fn names_with_an_endpoint_of_their_own_name_it() {
    for (text, endpoint) in OWN {
        let host = name(text);
        let known = classify(&host).expect(text);
        assert_eq!(known.kind, Kind::OwnEndpoint, "{text}");
        assert_eq!(known.endpoint_service().as_deref(), Some(*endpoint), "{text}");
        assert!(known.remedy.expect(text).contains("`hosts`"), "{text}");
    }
}

#[test]
fn other_names_are_unknown() {
    for text in UNKNOWN {
        assert_eq!(classify(&name(text)), None, "{text}");
    }
}

#[test]
fn parts_of_names_are_read() {
    let host = name("a1b2c3-ats.iot.eu-central-1.amazonaws.com");
    assert_eq!(classify(&host).expect("IoT data").prefix, Some("a1b2c3"));
    let host = name("my.dotted.bucket.s3.eu-central-1.amazonaws.com");
    assert_eq!(classify(&host).expect("a bucket").bucket, Some("my.dotted.bucket"));
    let host = name("line-4-123456789012.s3-accesspoint.eu-central-1.amazonaws.com");
    assert_eq!(classify(&host).expect("an access point").account, Some("123456789012"));
    let host = name("123456789012.dkr.ecr.us-east-2.amazonaws.com");
    assert_eq!(classify(&host).expect("a registry").account, Some("123456789012"));
    // Only the layer bucket of a region itself is AWS's: anyone may have taken the other names.
    let host = name("prod-us-east-2-starport-layer-bucket.s3.us-west-2.amazonaws.com");
    assert_eq!(classify(&host).expect("a bucket").row, "s3");
    let host = name("vpce-0-a.logs.us-east-2.vpce.amazonaws.com");
    assert!(classify(&host).expect("one endpoint").vpce);
}

#[test]
fn no_form_is_hidden_by_an_earlier_row() {
    let mut seen = 0;
    for row in rows() {
        for form in row.forms {
            for partition in row.partitions {
                let (Some(text), region) = write(form, *partition) else { continue };
                let host = name(&text);
                let known = classify(&host).expect(&text);
                assert_eq!(known.row, row.key, "{text} of {}", form.pattern);
                if form.pattern.contains("{r}") {
                    assert_eq!(known.region, Some(region), "{text}");
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 300, "{seen}");
}

/// A name of the form in a region of the partition that the form holds in.
fn write(form: &Form, partition: Partition) -> (Option<String>, &'static str) {
    let region = match (partition, form.regions) {
        (_, Regions::Only(region)) => region,
        (Partition::Commercial, _) => "eu-central-1",
        (Partition::China, _) => "cn-northwest-1",
        (Partition::GovCloud, _) => "us-gov-east-1",
        (Partition::EuropeanSovereign, _) => "eusc-de-east-1",
    };
    if Partition::of_region(region) != Some(partition) {
        return (None, region);
    }
    let blanks = Blanks { partition, region, account: "123456789012", bucket: "my.bucket" };
    let text = form.render(&blanks);
    let text = text.map(|text| text.replace("{prefix}", "p7").replace("{any}", "any"));
    (text.map(|text| text.replace("{id}", "id7")), region)
}

#[test]
fn every_service_has_a_table_and_every_row_says_what_to_do() {
    for service in [
        IotData,
        IotCredentials,
        IotControl,
        IotTunneling,
        S3,
        Ecr,
        Greengrass,
        Logs,
        SecretsManager,
        Sts,
        Kms,
        Ssm,
        SsmMessages,
        Ec2Messages,
        Monitoring,
    ] {
        assert!(table_name(service).is_some(), "{service:?}");
    }
    assert_eq!(table_name(Custom), None);
    let mut keys: Vec<&str> = rows().map(|row| row.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), rows().count(), "a key stands for one row");
    for row in rows() {
        assert!(!row.forms.is_empty() && !row.ports.is_empty(), "{}", row.key);
        match row.access {
            Access::Table(_) => assert!(row.endpoint.contains("{r}"), "{}", row.key),
            Access::OwnEndpoint(remedy) | Access::PublicOnly(remedy) => {
                assert!(remedy.ends_with('.'), "{}", row.key);
            }
        }
    }
}

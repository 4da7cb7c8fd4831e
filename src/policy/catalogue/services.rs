//! The services that have an `[endpoint.*]` table.

use super::demand::{SINCE_TLS12, TLS12_ONLY};
use super::{Access, Form, Partition, Regions, Row, Table, Usage};
use crate::config::Service;

use Usage::{Account, Always, Bucket, Hosts, PathStyle, Vpce};

/// Rows in the order in which they are tried.
pub(super) const SERVICES: &[Row] = &[
    Row {
        endpoint_cn: Some("cn.com.amazonaws.{r}.iot.data"),
        ports: IOT_DATA_PORTS,
        alpn: &["x-amzn-mqtt-ca", "x-amzn-http-ca", "mqtt"],
        forms: &[
            // Beijing alone writes a dot where all other regions write a hyphen.
            Form {
                regions: Regions::Only("cn-north-1"),
                ..Form::new(Hosts, "{prefix}.ats.iot.{r}.{main}")
            },
            Form {
                regions: Regions::Except("cn-north-1"),
                ..Form::new(Hosts, "{prefix}-ats.iot.{r}.{main}")
            },
        ],
        ..table(Service::IotData, "iot-data", "AWS IoT data", "com.amazonaws.{r}.iot.data")
    },
    Row {
        partitions: &[Partition::Commercial, Partition::EuropeanSovereign],
        forms: &[Form::new(Hosts, "{prefix}.credentials.iot.{r}.{main}")],
        ..table(
            Service::IotCredentials,
            "iot-credentials",
            "AWS IoT credentials provider",
            "com.amazonaws.{r}.iot.credentials",
        )
    },
    Row {
        forms: &[
            Form::new(Always, "iot.{r}.{main}"),
            Form::new(Always, "iot.{r}.{dual}"),
            Form::new(Vpce, "vpce-{id}.api.iot.{r}.vpce.{main}"),
            Form::new(Vpce, "vpce-{id}.iot.{r}.vpce.{main}"),
        ],
        ..table(
            Service::IotControl,
            "iot-control",
            "AWS IoT control plane",
            "com.amazonaws.{r}.iot.api",
        )
    },
    Row {
        key: "iot-tunneling-api",
        forms: &[
            Form::new(Always, "api.tunneling.iot.{r}.{main}"),
            Form::new(Always, "api.iot-tunneling.{r}.{dual}"),
            Form::new(Vpce, "vpce-{id}.api.tunneling.iot.{r}.vpce.{main}"),
        ],
        ..table(
            Service::IotTunneling,
            "iot-tunneling",
            "AWS IoT secure tunneling (API)",
            "com.amazonaws.{r}.iot.tunneling.api",
        )
    },
    Row {
        key: "iot-tunneling-data",
        forms: &[
            Form::new(Always, "data.tunneling.iot.{r}.{main}"),
            Form::new(Vpce, "vpce-{id}.data.tunneling.iot.{r}.vpce.{main}"),
        ],
        ..table(
            Service::IotTunneling,
            "iot-tunneling",
            "AWS IoT secure tunneling (device side)",
            "com.amazonaws.{r}.iot.tunneling.data",
        )
    },
    // Before S3: the layers lie in a bucket of AWS's, which S3's endpoint serves.
    Row {
        key: LAYERS,
        tls: TLS12_ONLY,
        forms: &[
            Form::new(Always, "prod-{r}-starport-layer-bucket.s3.{r}.{main}"),
            Form::new(Always, "prod-{r}-starport-layer-bucket.s3.dualstack.{r}.{main}"),
        ],
        ..table(Service::Ecr, "ecr", "Amazon ECR image layers", "com.amazonaws.{r}.s3")
    },
    Row {
        key: "ecr-api",
        forms: &[
            Form::new(Always, "api.ecr.{r}.{main}"),
            Form::new(Always, "ecr.{r}.{dual}"),
            Form::new(Vpce, "vpce-{id}.api.ecr.{r}.vpce.{main}"),
        ],
        ..table(Service::Ecr, "ecr", "Amazon ECR API", "com.amazonaws.{r}.ecr.api")
    },
    Row {
        key: "ecr-dkr",
        alpn: &["h2", "http/1.1"],
        forms: &[
            Form::new(Account, "{account}.dkr.ecr.{r}.{main}"),
            Form::new(Account, "{account}.dkr-ecr.{r}.{on}"),
            Form::new(Vpce, "vpce-{id}.dkr.ecr.{r}.vpce.{main}"),
        ],
        ..table(Service::Ecr, "ecr", "Amazon ECR registry", "com.amazonaws.{r}.ecr.dkr")
    },
    Row {
        tls: TLS12_ONLY,
        forms: &[
            Form::new(PathStyle, "s3.{r}.{main}"),
            Form::new(PathStyle, "s3.dualstack.{r}.{main}"),
            Form::new(Bucket, "{bucket}.s3.{r}.{main}"),
            Form::new(Bucket, "{bucket}.s3.dualstack.{r}.{main}"),
            Form::new(Hosts, "{id}-{account}.s3-accesspoint.{r}.{main}"),
            Form::new(Hosts, "{id}-{account}.s3-accesspoint.dualstack.{r}.{main}"),
            Form::new(Hosts, "s3-accesspoint.{r}.{main}"),
            Form::new(Hosts, "{account}.s3-control.{r}.{main}"),
            Form::new(Hosts, "{account}.s3-control.dualstack.{r}.{main}"),
            Form::new(Hosts, "s3-control.{r}.{main}"),
            Form::new(Vpce, "{any}.vpce-{id}.s3.{r}.vpce.{main}"),
            Form::new(Vpce, "vpce-{id}.s3.{r}.vpce.{main}"),
        ],
        ..table(Service::S3, "s3", "Amazon S3", "com.amazonaws.{r}.s3")
    },
    Row {
        partitions: &[Partition::Commercial, Partition::GovCloud, Partition::EuropeanSovereign],
        ..regional!(Service::Greengrass, "greengrass", "AWS IoT Greengrass control plane")
    },
    Row {
        forms: &[
            Form::new(Always, "logs.{r}.{main}"),
            Form::new(Always, "logs.{r}.{dual}"),
            Form::new(Always, "stream-logs.{r}.{main}"),
            Form::new(Always, "stream-logs.{r}.{dual}"),
            Form::new(Vpce, "vpce-{id}.logs.{r}.vpce.{main}"),
        ],
        ..table(Service::Logs, "logs", "Amazon CloudWatch Logs", "com.amazonaws.{r}.logs")
    },
    regional!(Service::SecretsManager, "secretsmanager", "AWS Secrets Manager"),
    regional!(Service::Sts, "sts", "AWS STS"),
    regional!(Service::Kms, "kms", "AWS KMS"),
    regional!(Service::Ssm, "ssm", "AWS Systems Manager"),
    regional!(Service::SsmMessages, "ssmmessages", "AWS Systems Manager Session Manager"),
    regional!(Service::Ec2Messages, "ec2messages", "AWS Systems Manager messages"),
    regional!(Service::Monitoring, "monitoring", "Amazon CloudWatch metrics"),
];

/// The key of the row of ECR's layer bucket, whose addresses are those of the S3 endpoint.
pub(in crate::policy) const LAYERS: &str = "ecr-layers";

/// What nearly all rows have: HTTPS on port 443, in every partition.
const fn table(
    service: Service,
    name: &'static str,
    title: &'static str,
    endpoint: &'static str,
) -> Row {
    Row {
        key: name,
        title,
        access: Access::Table(Table { service, name }),
        endpoint,
        endpoint_cn: None,
        ports: &[443],
        alpn: &["http/1.1"],
        tls: SINCE_TLS12,
        partitions: Partition::ALL,
        forms: &[],
    }
}

/// A service whose table, names and VPC endpoint service all have the same word.
macro_rules! regional {
    ($service:expr, $word:literal, $title:literal) => {
        Row {
            forms: &[
                Form::new(Always, concat!($word, ".{r}.{main}")),
                Form::new(Always, concat!($word, ".{r}.{dual}")),
                Form::new(Vpce, concat!("vpce-{id}.", $word, ".{r}.vpce.{main}")),
            ],
            ..table($service, $word, $title, concat!("com.amazonaws.{r}.", $word))
        }
    };
}
use regional;

/// MQTT on 8883 and 443, HTTPS on 8443 and 443.
const IOT_DATA_PORTS: &[u16] = &[443, 8443, 8883];

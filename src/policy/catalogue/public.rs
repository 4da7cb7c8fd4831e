//! Names that no `[endpoint.*]` table of the catalogue can allow, each with what to do instead.

use super::demand::SINCE_TLS12;
use super::{Access, Form, Partition, Regions, Row, Usage};

/// Names behind a VPC endpoint of their own, for which there is no table.
pub(super) const OWN_ENDPOINT: &[Row] = &[
    own(
        "iot-fips",
        "AWS IoT control plane (FIPS)",
        "com.amazonaws.{r}.iot-fips.api",
        FIPS_OWN,
        &[seen("iot-fips.{r}.{main}"), seen("iot-fips.{r}.{dual}")],
    ),
    own(
        "iot-tunneling-api-fips",
        "AWS IoT secure tunneling (API, FIPS)",
        "com.amazonaws.{r}.iot-fips.tunneling.api",
        FIPS_OWN,
        &[seen("api.tunneling.iot-fips.{r}.{main}"), seen("api.iot-tunneling-fips.{r}.{dual}")],
    ),
    own(
        "iot-tunneling-data-fips",
        "AWS IoT secure tunneling (device side, FIPS)",
        "com.amazonaws.{r}.iot-fips.tunneling.data",
        FIPS_OWN,
        &[seen("data.tunneling.iot-fips.{r}.{main}")],
    ),
    own(
        "sts-fips",
        "AWS STS (FIPS)",
        "com.amazonaws.{r}.sts-fips",
        FIPS_OWN,
        &[seen("sts-fips.{r}.{main}"), seen("sts-fips.{r}.{dual}")],
    ),
    own(
        "kms-fips",
        "AWS KMS (FIPS)",
        "com.amazonaws.{r}.kms-fips",
        FIPS_OWN,
        &[seen("kms-fips.{r}.{main}"), seen("kms-fips.{r}.{dual}")],
    ),
    own(
        "s3-global-accesspoint",
        "Amazon S3 multi-region access point",
        "com.amazonaws.s3-global.accesspoint",
        "A multi-region access point has a VPC endpoint of its own \
         (com.amazonaws.s3-global.accesspoint): list the name under `hosts` of a table of its own, \
         or use the regional bucket.",
        &[seen("{any}.accesspoint.s3-global.{main}")],
    ),
];

/// Names on public addresses only, in the order in which they are tried.
pub(super) const PUBLIC_ONLY: &[Row] = &[
    Row {
        ports: &[443, 8443],
        ..public(
            "greengrass-ats",
            "AWS IoT Greengrass data plane",
            "Set `greengrassDataPlaneEndpoint: iotdata` in the Greengrass nucleus (2.7.0 or \
             newer): it then uses the IoT data endpoint.",
            &[
                seen("greengrass-ats.iot.{r}.{main}"),
                seen("greengrass.ats.iot.{r}.{main}"),
                seen("greengrass.iot.{r}.{main}"),
            ],
        )
    },
    public(
        "iot-generic",
        "AWS IoT data, generic name",
        "Use this account's own name: `aws iot describe-endpoint --endpoint-type iot:Data-ATS`.",
        &[
            seen("data-ats.iot.{r}.{main}"),
            seen("data.ats.iot.{r}.{main}"),
            seen("data.iot.{r}.{main}"),
            seen("data-ats.iot.{r}.{dual}"),
        ],
    ),
    Row {
        ports: &[443, 8443],
        ..public(
            "iot-jobs",
            "AWS IoT jobs over HTTP",
            "Use the MQTT job topics `$aws/things/<thing>/jobs/…` on the IoT data endpoint.",
            &[seen("{prefix}.jobs.iot.{r}.{main}")],
        )
    },
    public(
        "iot-fleethub",
        "AWS IoT Fleet Hub",
        "Fleet Hub is an application for browsers; no device needs it.",
        &[seen("{any}.fleethub.iot.{r}.{main}"), seen("fleethub.iot.{r}.{main}")],
    ),
    Row {
        partitions: &[Partition::China, Partition::GovCloud],
        ..public(
            "iot-credentials-public",
            "AWS IoT credentials provider",
            "AWS has no VPC endpoint for the credentials provider in China and GovCloud: give \
             the device credentials in another way.",
            &[seen("{prefix}.credentials.iot.{r}.{main}")],
        )
    },
    Row {
        partitions: &[Partition::China],
        ..public(
            "greengrass-china",
            "AWS IoT Greengrass control plane",
            "AWS has no VPC endpoint for Greengrass in China: provision cores by hand, so that they \
             need no control plane.",
            &[seen("greengrass.{r}.{main}"), seen("greengrass.{r}.{dual}")],
        )
    },
    public(
        "iot-vpce",
        "AWS IoT, name of one VPC endpoint",
        "AWS IoT does not answer to `vpce-…` names: use the account's own name (`aws iot \
         describe-endpoint`) with a private hosted zone for it.",
        &[
            vpce("vpce-{id}.data.iot.{r}.vpce.{main}"),
            vpce("vpce-{id}.credentials.iot.{r}.vpce.{main}"),
            vpce("vpce-{id}.iot.data.{r}.vpce.{main}"),
            vpce("vpce-{id}.iot.credentials.{r}.vpce.{main}"),
        ],
    ),
    public(
        "iot-data-fips",
        "AWS IoT data or credentials, FIPS name",
        "AWS IoT has no VPC endpoint for these FIPS names: switch FIPS endpoints off in the client \
         (`AWS_USE_FIPS_ENDPOINT=false`) and use the account's own name (`aws iot \
         describe-endpoint`).",
        &[seen("{any}.iot-fips.{r}.{main}")],
    ),
    public(
        "fips",
        "AWS, FIPS name",
        "Switch FIPS endpoints off in the client (`AWS_USE_FIPS_ENDPOINT=false`) and use the plain \
         name; if your VPC endpoint does list the FIPS name, add it to `hosts`.",
        &[
            seen("{bucket}.s3-fips.{r}.{main}"),
            seen("{bucket}.s3-fips.dualstack.{r}.{main}"),
            seen("s3-fips.dualstack.{r}.{main}"),
            seen("{any}.s3-accesspoint-fips.dualstack.{r}.{main}"),
            seen("{any}.s3-control-fips.dualstack.{r}.{main}"),
            seen("{account}.dkr.ecr-fips.{r}.{main}"),
            seen("{account}.dkr-ecr-fips.{r}.{on}"),
            seen("{any}.{id}-fips.{r}.{main}"),
            seen("{id}-fips.{r}.{main}"),
            seen("{id}-fips.{r}.{dual}"),
        ],
    ),
    public(
        "s3-global",
        "Amazon S3, global name",
        "Set `s3EndpointType: REGIONAL` in the Greengrass nucleus (2.11.3 or newer); elsewhere use \
         the regional name `<bucket>.s3.<region>.amazonaws.com`.",
        &[
            seen("s3.{main}"),
            seen("s3-external-1.{main}"),
            seen("{bucket}.s3.{main}"),
            seen("{bucket}.s3-external-1.{main}"),
        ],
    ),
    public(
        "s3-website",
        "Amazon S3 website",
        "S3 websites have no VPC endpoint: fetch the objects from \
         `<bucket>.s3.<region>.amazonaws.com`.",
        &[seen("{bucket}.s3-website.{r}.{main}"), seen("{bucket}.s3-website-{r}.{main}")],
    ),
    public(
        "s3-dash",
        "Amazon S3, old name with a hyphen",
        "Write a dot in place of the hyphen: `s3.<region>`, not `s3-<region>`.",
        &[seen("s3-{r}.{main}"), seen("{bucket}.s3-{r}.{main}")],
    ),
    public(
        "s3-accelerate",
        "Amazon S3 transfer acceleration",
        "Switch transfer acceleration off in the client (`use_accelerate_endpoint = false`).",
        &[
            seen("s3-accelerate.{main}"),
            seen("{bucket}.s3-accelerate.{main}"),
            seen("s3-accelerate.dualstack.{main}"),
            seen("{bucket}.s3-accelerate.dualstack.{main}"),
        ],
    ),
    public(
        "s3-express",
        "Amazon S3 Express One Zone",
        "Directory buckets are not behind the S3 interface endpoint: use a general purpose bucket.",
        &[
            seen("{bucket}.s3express-{id}.{r}.{main}"),
            seen("s3express-{id}.{r}.{main}"),
            seen("{bucket}.s3express-{id}.dualstack.{r}.{main}"),
        ],
    ),
    public(
        "s3-outposts",
        "Amazon S3 on Outposts",
        "S3 on Outposts is not behind the S3 interface endpoint: use a bucket of the region.",
        &[seen("s3-outposts.{r}.{main}"), seen("{any}.s3-outposts.{r}.{main}")],
    ),
    public(
        "s3-object-lambda",
        "Amazon S3 Object Lambda",
        "Object Lambda is not behind the S3 interface endpoint: use the bucket or an access point.",
        &[seen("s3-object-lambda.{r}.{main}"), seen("{any}.s3-object-lambda.{r}.{main}")],
    ),
    public(
        "sts-global",
        "AWS STS, global name",
        "Use the regional name: set `AWS_STS_REGIONAL_ENDPOINTS=regional` in the client.",
        &[seen("sts.{main}")],
    ),
    public(
        "iam",
        "AWS IAM",
        "Devices do not need IAM: provision Greengrass cores by hand, not with the installer's \
         automatic provisioning.",
        &[seen("iam.{main}")],
    ),
    public(
        "ecr-public",
        "Amazon ECR Public",
        "Copy the image into a private ECR repository of this account and region.",
        &[
            seen("public.ecr.aws"),
            seen("{any}.public.ecr.aws"),
            seen("api.ecr-public.{r}.{main}"),
            seen("ecr-public.{r}.{dual}"),
        ],
    ),
    public(
        "docker-hub",
        "Docker Hub",
        "Copy the image into a private ECR repository of this account and region.",
        &[seen("docker.io"), seen("{any}.docker.io"), seen("docker.com"), seen("{any}.docker.com")],
    ),
    public(
        "greengrass-installer",
        "AWS IoT Greengrass installer",
        "Download the installer elsewhere, and bring it to the device or into a bucket of your own.",
        &[seen("d2s8p88vqu9w66.cloudfront.net")],
    ),
    public(
        "cloudfront",
        "Amazon CloudFront",
        "CloudFront is public only: copy the file into a bucket of your own.",
        &[seen("{any}.cloudfront.net")],
    ),
];

/// Names that look like others' when those others are left out; tried last.
pub(super) const LEGACY: &[Row] = &[
    public(
        "iot-beijing",
        "AWS IoT data, mistyped",
        "In cn-north-1 the name has a dot before `ats`: `<prefix>.ats.iot.cn-north-1…`.",
        &[Form { regions: Regions::Only("cn-north-1"), ..seen("{prefix}-ats.iot.{r}.{main}") }],
    ),
    public(
        "iot-not-beijing",
        "AWS IoT data, mistyped",
        "Only in cn-north-1 the name has a dot before `ats`; elsewhere it is \
         `<prefix>-ats.iot.<region>…`.",
        &[Form { regions: Regions::Except("cn-north-1"), ..seen("{prefix}.ats.iot.{r}.{main}") }],
    ),
    public(
        "iot-sample-data",
        "AWS IoT data, a name that only samples have",
        "AWS's own samples are wrong here: the name is `<prefix>-ats.iot.<region>…`, without \
         `data` (`aws iot describe-endpoint --endpoint-type iot:Data-ATS`).",
        &[seen("{prefix}.data.iot.{r}.{main}")],
    ),
    public(
        "iot-sample-api",
        "AWS IoT control plane, a name that only samples have",
        "AWS's own samples are wrong here: the name is `iot.<region>…`, without a prefix.",
        &[seen("{prefix}.api.iot.{r}.{main}")],
    ),
    public(
        "iot-legacy",
        "AWS IoT data, old name with VeriSign certificates",
        "Use the iot:Data-ATS name (`aws iot describe-endpoint --endpoint-type iot:Data-ATS`) and \
         install the Amazon root certificates on the device.",
        &[seen("{prefix}.iot.{r}.{main}")],
    ),
];

const FIPS_OWN: &str = "FIPS names of this service have a VPC endpoint of their own: list the name \
                        under `hosts` of a table of its own, or switch FIPS endpoints off in the \
                        client.";

const fn seen(pattern: &'static str) -> Form {
    Form::new(Usage::Hosts, pattern)
}

const fn vpce(pattern: &'static str) -> Form {
    Form::new(Usage::Vpce, pattern)
}

const fn public(
    key: &'static str,
    title: &'static str,
    remedy: &'static str,
    forms: &'static [Form],
) -> Row {
    Row {
        key,
        title,
        access: Access::PublicOnly(remedy),
        endpoint: "",
        endpoint_cn: None,
        ports: &[443],
        alpn: &[],
        tls: SINCE_TLS12,
        partitions: Partition::ALL,
        forms,
    }
}

const fn own(
    key: &'static str,
    title: &'static str,
    endpoint: &'static str,
    remedy: &'static str,
    forms: &'static [Form],
) -> Row {
    Row { endpoint, access: Access::OwnEndpoint(remedy), ..public(key, title, "", forms) }
}

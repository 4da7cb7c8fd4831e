//! The name forms of AWS's that devices use, and a place in each partition to write them for.
//!
//! Written here anew, not with the catalogue's own forms.

use By::{Hosts, Table};

/// A region, and the domains of its partition.
pub(crate) struct Place {
    pub(crate) region: &'static str,
    main: &'static str,
    dual: &'static str,
    /// Dual-stack ECR registries; empty where there are none.
    on: &'static str,
    /// What stands in front of the name of IoT data's endpoint service.
    service: &'static str,
    /// The account's names of IoT.
    data: &'static str,
    credentials: &'static str,
}

/// What makes a name an allowed one.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum By {
    /// The table with its usual keys.
    Table,
    /// `hosts` of the table.
    Hosts,
}
impl Place {
    /// Fills a form in; `None` where the partition has no such names, or no endpoint for them.
    pub(crate) fn write(&self, form: &str) -> Option<String> {
        if form.contains("{on}") && self.on.is_empty()
            || form == "{credentials}" && self.credentials.is_empty()
            || form.starts_with("{greengrass}") && self.region.starts_with("cn-")
        {
            return None;
        }
        let text = form
            .replace("{greengrass}", "greengrass")
            .replace("{data}", self.data)
            .replace("{credentials}", self.credentials)
            .replace("{cn}", self.service)
            .replace("{r}", self.region)
            .replace("{main}", self.main)
            .replace("{dual}", self.dual)
            .replace("{on}", self.on);
        Some(text.replace("{vpce}", "vpce-0123456789abcdef0-a1b2c3d4"))
    }
}

/// The private names of a place: name, table, VPC endpoint service, and what makes it allowed.
pub(crate) fn private(place: &Place) -> impl Iterator<Item = (String, &'static str, String, By)> {
    PRIVATE.iter().filter_map(|(form, table, service, by)| {
        Some((place.write(form)?, *table, place.write(service)?, *by))
    })
}

/// Form of the name, table, form of the VPC endpoint service, and what makes it allowed.
pub(crate) const PRIVATE: &[(&str, &str, &str, By)] = &[
    ("{data}", "iot-data", "{cn}com.amazonaws.{r}.iot.data", Hosts),
    ("mqtt.augsburg.example", "iot-data", "{cn}com.amazonaws.{r}.iot.data", Hosts),
    ("{credentials}", "iot-credentials", "com.amazonaws.{r}.iot.credentials", Hosts),
    ("iot.{r}.{main}", "iot-control", "com.amazonaws.{r}.iot.api", Table),
    ("iot.{r}.{dual}", "iot-control", "com.amazonaws.{r}.iot.api", Table),
    ("{vpce}.api.iot.{r}.vpce.{main}", "iot-control", "com.amazonaws.{r}.iot.api", Hosts),
    ("api.tunneling.iot.{r}.{main}", "iot-tunneling", "com.amazonaws.{r}.iot.tunneling.api", Table),
    ("api.iot-tunneling.{r}.{dual}", "iot-tunneling", "com.amazonaws.{r}.iot.tunneling.api", Table),
    (
        "data.tunneling.iot.{r}.{main}",
        "iot-tunneling",
        "com.amazonaws.{r}.iot.tunneling.data",
        Table,
    ),
    ("s3.{r}.{main}", "s3", "com.amazonaws.{r}.s3", Table),
    ("s3.dualstack.{r}.{main}", "s3", "com.amazonaws.{r}.s3", Table),
    ("augsburg-artifacts.s3.{r}.{main}", "s3", "com.amazonaws.{r}.s3", Table),
    ("augsburg-artifacts.s3.dualstack.{r}.{main}", "s3", "com.amazonaws.{r}.s3", Table),
    ("parts.line-4.augsburg.s3.{r}.{main}", "s3", "com.amazonaws.{r}.s3", Table),
    ("line-4-a1b2c3d4-s3alias.s3.{r}.{main}", "s3", "com.amazonaws.{r}.s3", Table),
    ("line-4-123456789012.s3-accesspoint.{r}.{main}", "s3", "com.amazonaws.{r}.s3", Hosts),
    (
        "line-4-123456789012.s3-accesspoint.dualstack.{r}.{main}",
        "s3",
        "com.amazonaws.{r}.s3",
        Hosts,
    ),
    ("123456789012.s3-control.{r}.{main}", "s3", "com.amazonaws.{r}.s3", Hosts),
    ("123456789012.s3-control.dualstack.{r}.{main}", "s3", "com.amazonaws.{r}.s3", Hosts),
    ("bucket.{vpce}.s3.{r}.vpce.{main}", "s3", "com.amazonaws.{r}.s3", Hosts),
    ("bucket.{vpce}-{r}a.s3.{r}.vpce.{main}", "s3", "com.amazonaws.{r}.s3", Hosts),
    ("accesspoint.{vpce}.s3.{r}.vpce.{main}", "s3", "com.amazonaws.{r}.s3", Hosts),
    ("control.{vpce}.s3.{r}.vpce.{main}", "s3", "com.amazonaws.{r}.s3", Hosts),
    ("augsburg-artifacts.bucket.{vpce}.s3.{r}.vpce.{main}", "s3", "com.amazonaws.{r}.s3", Hosts),
    ("api.ecr.{r}.{main}", "ecr", "com.amazonaws.{r}.ecr.api", Table),
    ("ecr.{r}.{dual}", "ecr", "com.amazonaws.{r}.ecr.api", Table),
    ("{vpce}.api.ecr.{r}.vpce.{main}", "ecr", "com.amazonaws.{r}.ecr.api", Hosts),
    ("123456789012.dkr.ecr.{r}.{main}", "ecr", "com.amazonaws.{r}.ecr.dkr", Table),
    ("123456789012.dkr-ecr.{r}.{on}", "ecr", "com.amazonaws.{r}.ecr.dkr", Table),
    ("prod-{r}-starport-layer-bucket.s3.{r}.{main}", "ecr", "com.amazonaws.{r}.s3", Table),
    ("{greengrass}.{r}.{main}", "greengrass", "com.amazonaws.{r}.greengrass", Table),
    ("{greengrass}.{r}.{dual}", "greengrass", "com.amazonaws.{r}.greengrass", Table),
    ("logs.{r}.{main}", "logs", "com.amazonaws.{r}.logs", Table),
    ("logs.{r}.{dual}", "logs", "com.amazonaws.{r}.logs", Table),
    ("stream-logs.{r}.{main}", "logs", "com.amazonaws.{r}.logs", Table),
    ("{vpce}-{r}b.logs.{r}.vpce.{main}", "logs", "com.amazonaws.{r}.logs", Hosts),
    ("secretsmanager.{r}.{main}", "secretsmanager", "com.amazonaws.{r}.secretsmanager", Table),
    ("secretsmanager.{r}.{dual}", "secretsmanager", "com.amazonaws.{r}.secretsmanager", Table),
    ("sts.{r}.{main}", "sts", "com.amazonaws.{r}.sts", Table),
    ("sts.{r}.{dual}", "sts", "com.amazonaws.{r}.sts", Table),
    ("kms.{r}.{main}", "kms", "com.amazonaws.{r}.kms", Table),
    ("ssm.{r}.{main}", "ssm", "com.amazonaws.{r}.ssm", Table),
    ("ssmmessages.{r}.{main}", "ssmmessages", "com.amazonaws.{r}.ssmmessages", Table),
    ("ec2messages.{r}.{main}", "ec2messages", "com.amazonaws.{r}.ec2messages", Table),
    ("monitoring.{r}.{main}", "monitoring", "com.amazonaws.{r}.monitoring", Table),
];

/// Names that no table of the catalogue allows, and the setting that avoids or allows each.
pub(crate) const PUBLIC_ONLY: &[(&str, &str)] = &[
    ("greengrass-ats.iot.{r}.{main}", "`greengrassDataPlaneEndpoint: iotdata`"),
    ("z9y8x7w6v5u4t3.iot.{r}.{main}", "`aws iot describe-endpoint --endpoint-type iot:Data-ATS`"),
    ("data-ats.iot.{r}.{main}", "`aws iot describe-endpoint --endpoint-type iot:Data-ATS`"),
    ("data.iot.{r}.{main}", "`aws iot describe-endpoint --endpoint-type iot:Data-ATS`"),
    ("data-ats.iot.{r}.{dual}", "`aws iot describe-endpoint --endpoint-type iot:Data-ATS`"),
    ("z9y8x7w6v5u4t3-ats.data.iot.{r}.{main}", "`<prefix>-ats.iot.<region>…`"),
    ("z9y8x7w6v5u4t3.api.iot.{r}.{main}", "`iot.<region>…`"),
    ("z9y8x7w6v5u4t3.jobs.iot.{r}.{main}", "`$aws/things/<thing>/jobs/…`"),
    ("data.jobs.iot.{r}.{main}", "`$aws/things/<thing>/jobs/…`"),
    ("api.fleethub.iot.{r}.{main}", "no device needs it"),
    ("{vpce}.data.iot.{r}.vpce.{main}", "private hosted zone"),
    ("{vpce}.credentials.iot.{r}.vpce.{main}", "private hosted zone"),
    ("data.iot-fips.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("data.credentials.iot-fips.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("greengrass-fips.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("logs-fips.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("secretsmanager-fips.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("ecr-fips.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("ecr-fips.{r}.{dual}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("api.ecr-fips.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("123456789012.dkr.ecr-fips.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("123456789012.dkr-ecr-fips.{r}.{on}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("augsburg-artifacts.s3-fips.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("augsburg-artifacts.s3-fips.dualstack.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("line-4-123456789012.s3-accesspoint-fips.{r}.{main}", "`AWS_USE_FIPS_ENDPOINT=false`"),
    ("s3.{main}", "`s3EndpointType: REGIONAL`"),
    ("augsburg-artifacts.s3.{main}", "`s3EndpointType: REGIONAL`"),
    ("parts.line-4.augsburg.s3.{main}", "`s3EndpointType: REGIONAL`"),
    ("s3-{r}.{main}", "`s3.<region>`"),
    ("augsburg-artifacts.s3-{r}.{main}", "`s3.<region>`"),
    ("augsburg.s3-website.{r}.{main}", "`<bucket>.s3.<region>.amazonaws.com`"),
    ("augsburg.s3-website-{r}.{main}", "`<bucket>.s3.<region>.amazonaws.com`"),
    ("augsburg.s3-accelerate.{main}", "`use_accelerate_endpoint = false`"),
    ("augsburg.s3-accelerate.dualstack.{main}", "`use_accelerate_endpoint = false`"),
    ("parts--use1-az4--x-s3.s3express-use1-az4.{r}.{main}", "use a general purpose bucket"),
    ("s3express-control.{r}.{main}", "use a general purpose bucket"),
    ("ap-123456789012.op-01ac5d28a6a23.s3-outposts.{r}.{main}", "use a bucket of the region"),
    ("ol-123456789012.s3-object-lambda.{r}.{main}", "use the bucket or an access point"),
    ("sts.{main}", "`AWS_STS_REGIONAL_ENDPOINTS=regional`"),
    ("iam.{main}", "provision Greengrass cores by hand"),
    ("public.ecr.aws", "private ECR repository"),
    ("api.ecr-public.{r}.{main}", "private ECR repository"),
    ("registry-1.docker.io", "private ECR repository"),
    ("auth.docker.io", "private ECR repository"),
    ("production.cloudflare.docker.com", "private ECR repository"),
];

/// Names behind an endpoint of their own, and that endpoint's service.
pub(crate) const OWN_ENDPOINT: &[(&str, &str)] = &[
    ("iot-fips.{r}.{main}", "com.amazonaws.{r}.iot-fips.api"),
    ("iot-fips.{r}.{dual}", "com.amazonaws.{r}.iot-fips.api"),
    ("api.tunneling.iot-fips.{r}.{main}", "com.amazonaws.{r}.iot-fips.tunneling.api"),
    ("data.tunneling.iot-fips.{r}.{main}", "com.amazonaws.{r}.iot-fips.tunneling.data"),
    ("sts-fips.{r}.{main}", "com.amazonaws.{r}.sts-fips"),
    ("kms-fips.{r}.{main}", "com.amazonaws.{r}.kms-fips"),
    ("line4.mrap.accesspoint.s3-global.{main}", "com.amazonaws.s3-global.accesspoint"),
];

/// The names of a site, one in each partition.
pub(crate) const PLACES: [Place; 6] = [
    Place { region: "eu-central-1", ..COMMERCIAL },
    Place { region: "us-east-1", ..COMMERCIAL },
    Place { region: "us-gov-west-1", credentials: "", ..COMMERCIAL },
    // Beijing alone writes a dot.
    Place { region: "cn-north-1", data: "a1b2c3d4e5f6g7.ats.iot.{r}.{main}", ..CHINA },
    Place { region: "cn-northwest-1", ..CHINA },
    Place {
        region: "eusc-de-east-1",
        main: "amazonaws.eu",
        dual: "api.amazonwebservices.eu",
        on: "",
        ..COMMERCIAL
    },
];

const COMMERCIAL: Place = Place {
    region: "",
    main: "amazonaws.com",
    dual: "api.aws",
    on: "on.aws",
    service: "",
    data: "a1b2c3d4e5f6g7-ats.iot.{r}.{main}",
    credentials: "c1d2e3f4g5h6i7.credentials.iot.{r}.{main}",
};
const CHINA: Place = Place {
    main: "amazonaws.com.cn",
    dual: "api.amazonwebservices.com.cn",
    on: "on.amazonwebservices.com.cn",
    service: "cn.",
    credentials: "",
    ..COMMERCIAL
};

//! AWS partitions: which region lies in which, and under which domains its names are.

/// One AWS partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partition {
    /// `aws`
    Commercial,
    /// `aws-cn`
    China,
    /// `aws-us-gov`
    GovCloud,
    /// `aws-eusc`
    EuropeanSovereign,
}

impl Partition {
    /// All of them.
    pub(super) const ALL: &'static [Self] =
        &[Self::Commercial, Self::China, Self::GovCloud, Self::EuropeanSovereign];

    /// The partition of a region, by the region's prefix; `None` where the text is no region of a
    /// partition that the catalogue knows.
    pub(crate) fn of_region(region: &str) -> Option<Self> {
        // Air-gapped partitions have domains of their own and no PrivateLink facts to go by.
        if !is_region(region) || region.contains("-iso") {
            return None;
        }
        Some(match region {
            r if r.starts_with("cn-") => Self::China,
            r if r.starts_with("us-gov-") => Self::GovCloud,
            r if r.starts_with("eusc-") => Self::EuropeanSovereign,
            _ => Self::Commercial,
        })
    }
}

/// A family of domains, of which each partition has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    /// `{main}`
    Main,
    /// `{dual}`: dual-stack names.
    Dual,
    /// `{on}`: dual-stack ECR registries.
    On,
}

impl Domain {
    pub(super) const ALL: &'static [Self] = &[Self::Main, Self::Dual, Self::On];

    /// The domain in a partition, where it has one.
    pub(super) const fn of(self, partition: Partition) -> Option<&'static str> {
        use Partition::{China, Commercial, EuropeanSovereign, GovCloud};
        match (self, partition) {
            (Self::Main, Commercial | GovCloud) => Some("amazonaws.com"),
            (Self::Main, China) => Some("amazonaws.com.cn"),
            (Self::Main, EuropeanSovereign) => Some("amazonaws.eu"),
            (Self::Dual, Commercial | GovCloud) => Some("api.aws"),
            (Self::Dual, China) => Some("api.amazonwebservices.com.cn"),
            (Self::Dual, EuropeanSovereign) => Some("api.amazonwebservices.eu"),
            (Self::On, Commercial | GovCloud) => Some("on.aws"),
            (Self::On, China) => Some("on.amazonwebservices.com.cn"),
            (Self::On, EuropeanSovereign) => None,
        }
    }
}

/// Whether a text is written as a region is: `eu-central-1`, `us-gov-west-1`, `eusc-de-east-1`.
fn is_region(text: &str) -> bool {
    let Some((area, number)) = text.rsplit_once('-') else { return false };
    let mut words = area.split('-');
    let first_fits =
        words.next().is_some_and(|word| (2..=4).contains(&word.len()) && is_word(word));
    let mut rest = 0;
    let rest_fits = words.inspect(|_| rest += 1).all(is_word);
    let number_fits = (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    first_fits && rest_fits && rest > 0 && number_fits
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_lies_in_one_partition() {
        for (region, partition) in [
            ("eu-central-1", Some(Partition::Commercial)),
            ("ap-southeast-5", Some(Partition::Commercial)),
            ("cn-north-1", Some(Partition::China)),
            ("us-gov-west-1", Some(Partition::GovCloud)),
            ("eusc-de-east-1", Some(Partition::EuropeanSovereign)),
            ("us-iso-east-1", None),
            ("dualstack", None),
            ("eu-central", None),
            ("eu-1", None),
            ("eu-central-x", None),
            ("-central-1", None),
            ("1-2-3", None),
            ("", None),
        ] {
            assert_eq!(Partition::of_region(region), partition, "{region}");
        }
    }
}

//! Addresses that stand for names, for devices that send no server name.
//!
//! Each listed name has its own address in a range that no network uses, and keeps it over reloads
//! and, as far as the list is the same, restarts. No packet with such an address leaves the box: it is
//! in no network that a socket may reach, and the gate resolves the name it stands for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use sha2::{Digest as _, Sha256};

use crate::name::ServerName;
use crate::policy::ExactName;

/// The addresses of a site's names.
#[derive(Debug)]
pub struct Synthetic {
    range: Ipv4Net,
    by_name: HashMap<ServerName, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, ServerName>,
}

impl Synthetic {
    /// Gives each name an address; one that it had before stays. Names beyond the range have none.
    pub fn new(range: Ipv4Net, names: &[ExactName], before: Option<&Self>) -> Self {
        let mut table = Self { range, by_name: HashMap::new(), by_address: HashMap::new() };
        let mut names: Vec<&ServerName> = names.iter().map(|exact| &exact.name).collect();
        // Their order decides where two names want the same address.
        names.sort();
        names.dedup();
        let before = before.filter(|before| before.range == range);
        let kept = names.iter().filter_map(|name| {
            let address = before?.by_name.get(*name)?;
            Some((ServerName::clone(name), *address))
        });
        for (name, address) in kept {
            table.put(name, address);
        }
        for name in names {
            if !table.by_name.contains_key(name)
                && let Some(address) = table.free(name)
            {
                table.put(name.clone(), address);
            }
        }
        table
    }

    /// The address that stands for a name.
    pub fn address_of(&self, name: &ServerName) -> Option<Ipv4Addr> {
        self.by_name.get(name).copied()
    }

    /// The name that an address stands for.
    pub fn name_of(&self, address: IpAddr) -> Option<&ServerName> {
        let IpAddr::V4(address) = address.to_canonical() else { return None };
        self.by_address.get(&address)
    }

    fn put(&mut self, name: ServerName, address: Ipv4Addr) {
        self.by_address.insert(address, name.clone());
        self.by_name.insert(name, address);
    }

    /// The first free address from the one that the name's hash points to.
    fn free(&self, name: &ServerName) -> Option<Ipv4Addr> {
        // Without the first and the last, which some devices take for the network and for everybody.
        let first = self.range.network().to_bits().checked_add(1)?;
        let room = self.range.broadcast().to_bits().checked_sub(first)?;
        let digest = Sha256::digest(name.as_str());
        let start = u32::from_be_bytes(*digest.first_chunk()?);
        let candidates = (0..room).map(|step| {
            let offset = (u64::from(start) + u64::from(step)) % u64::from(room);
            Ipv4Addr::from_bits(first.saturating_add(u32::try_from(offset).unwrap_or_default()))
        });
        { candidates }.find(|address| !self.by_address.contains_key(address))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::{EndpointRule, Offered};

    fn names(numbers: std::ops::Range<u32>) -> Vec<ExactName> {
        let endpoint = Arc::new(EndpointRule {
            id: "historian".into(),
            service: "historian".into(),
            networks: Box::default(),
        });
        numbers
            .map(|number| ExactName {
                name: format!("n{number}.example").parse().expect("a name"),
                endpoint: Arc::clone(&endpoint),
                offered: Offered::Always,
                ports: [443].into(),
            })
            .collect()
    }

    #[test]
    fn every_name_has_an_address_of_its_own_and_keeps_it() {
        let range: Ipv4Net = "198.18.0.0/22".parse().expect("a network");
        let few = names(0..500);
        let table = Synthetic::new(range, &few, None);
        for exact in &few {
            let address = table.address_of(&exact.name).expect("room");
            assert!(range.contains(&address));
            assert_eq!(table.name_of(address.into()), Some(&exact.name));
            assert!(address != range.network() && address != range.broadcast());
        }
        let more = names(0..900);
        let later = Synthetic::new(range, &more, Some(&table));
        for exact in &few {
            assert_eq!(later.address_of(&exact.name), table.address_of(&exact.name));
        }
        assert_eq!(later.by_address.len(), 900);
        let again = Synthetic::new(range, &few, None);
        assert_eq!(again.by_name, table.by_name, "a restart changes nothing");
        let all = Synthetic::new(range, &names(0..2_000), None);
        assert_eq!(all.by_address.len(), 1_022, "as many as there is room for");
    }
}

//! The gate beside somebody else's connection tracking.

use sluicegate::lab::inside;
use sluicegate::lab::services::IOT_DATA;

use super::gate::*;

/// A host firewall as most boxes with one have it, which switches connection tracking on; of the
/// gate it only knows the mark of what is intercepted.
const HOST_FIREWALL: &str = "table inet host {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state invalid drop
        ct state established,related accept
        iifname lo accept
        meta mark 0x51c00001 accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
    chain output {
        type filter hook output priority 0; policy accept;
        ct state invalid drop
    }
}";

#[test]
fn flows_and_walls_hold_with_and_without_connection_tracking() {
    inside::test("tracking::flows_and_walls_hold_with_and_without_connection_tracking", || {
        let lab = lab();
        let daemon = start(&lab);
        let tracked = || {
            let count = run(lab.edge(), "cat", &["/proc/sys/net/netfilter/nf_conntrack_count"]);
            count.trim().parse::<u64>().unwrap()
        };
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        assert_all_refused(&lab, Gate::Running, "without connection tracking");
        assert_eq!(tracked(), 0, "the gate's own rules need none");

        nft(&lab, HOST_FIREWALL);
        for _ in 0..10 {
            assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        }
        assert!(tracked() >= 20, "both legs of each flow");
        assert_all_refused(&lab, Gate::Running, "with connection tracking");
        let status = daemon.status_json().unwrap();
        let shown = list(&status["headroom"]).iter().find(|item| item["what"] == "conntrack");
        assert!(shown.unwrap()["used"].as_u64() >= Some(20), "{status}");
        assert_eq!(status["healthy"], true, "{status}");
    });
}

//! The VPN templates are what strongSwan and bird take.

use std::path::Path;

use sluicegate::lab::inside;

use super::gate::*;
use super::tunnels::ipsec_lab;

const VPN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/appliance/vpn");

#[test]
fn what_is_rendered_is_read_by_the_programs_it_is_for() {
    inside::test("templates::what_is_rendered_is_read_by_the_programs_it_is_for", || {
        let lab = ipsec_lab();
        let out = lab.directory().join("vpn");
        let (render, out) = (format!("{VPN}/render"), out.to_str().unwrap());
        run(lab.edge(), &render, &[&format!("{VPN}/parameters.example"), out]);
        run(lab.edge(), "bird", &["-p", "-c", &format!("{out}/bird.conf")]);
        // Another daemon's connections, then those of the templates.
        let uri = format!("unix://{}/aws1.vici", lab.directory().display());
        let file = format!("{out}/swanctl.conf");
        let load = ["20", "swanctl", "--load-all", "--noprompt", "--file", &file, "--uri", &uri];
        let said = run(lab.edge(), "timeout", &load);
        for connection in ["aws1", "aws2"] {
            assert!(said.contains(&format!("loaded connection '{connection}'")), "{said}");
            assert!(said.contains(&format!("loaded ike secret 'ike-{connection}'")), "{said}");
        }
        // A parameter that is missing or strange is no configuration.
        for wrong in ["GATEWAY_ID=203.0.113.7\n", "KEY_1=a|b\n", "KEY_1=\n"] {
            let file = write_config(&lab, "wrong", wrong);
            let output = lab.edge().command(&render, &[&file, out]).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{wrong}: {output:?}");
        }
        assert!(Path::new(out).join("network/30-xfrm101.network").exists());
    });
}

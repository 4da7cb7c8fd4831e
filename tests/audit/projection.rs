//! The OCSF 1.3.0 form of records, as Security Lake takes it.

use std::process::Command;

use serde_json::Value;
use sluicegate::audit::{FlowEnd, LearntFacts, TrafficFacts};
use sluicegate::reason::Reason;

use crate::schema::problems;
use crate::support::{allowed, device, dial, dialled, records, start, wait};

#[test]
fn every_flow_record_fits_the_closed_schema_of_1_3() {
    let directory = tempfile::tempdir().unwrap();
    let audit = start(directory.path(), 8);
    let mut flow = allowed(&audit);
    wait(flow.open()).unwrap();
    flow.set_dial(dial());
    flow.report(TrafficFacts { up: 1, down: 1, spliced: 2 });
    flow.close(FlowEnd::PolicyWithdrawn, TrafficFacts { up: 1, down: 2, spliced: 3 });
    let mut flow = allowed(&audit);
    flow.set_learnt(LearntFacts { reason: Reason::NameNotAllowed, remedy: None });
    wait(flow.open()).unwrap();
    flow.fail(Reason::EndpointUnreachable, None);
    allowed(&audit).refuse(Reason::NameNotAllowed, None, None, Some(112));
    let flow = audit.reserve().unwrap().begin(device(), dialled());
    flow.refuse(Reason::HelloTimeout, None, None, None);
    audit.count_unrecorded();
    audit.close();
    let stored: Vec<Value> = records(directory.path());
    let stored: Vec<&Value> = stored.iter().filter(|r| r["class_uid"] == 4001).collect();
    let projected = export(directory.path(), "flow");
    assert_eq!((stored.len(), projected.len()), (8, 8));
    for (stored, projected) in stored.into_iter().zip(&projected) {
        assert_eq!(problems(projected), Vec::<String>::new(), "{projected}");
        assert_eq!(projected["unmapped"]["is_alert"], stored["is_alert"]);
        assert_eq!(projected["unmapped"]["policy"], stored["policy"]);
        let info = &stored["connection_info"];
        assert_eq!(projected["unmapped"]["community_uid"], info["community_uid"]);
        assert_eq!(projected["unmapped"]["chain"], stored["unmapped"]["chain"]);
        for name in ["app_protocol_name", "cumulative_traffic"] {
            assert_eq!(projected["unmapped"].get(name), stored.get(name));
        }
        let observed = stored["action_id"] == 3;
        assert_eq!(projected["action_id"] == 99, observed);
        assert_eq!(projected["unmapped"]["action"] == "Observed", observed);
        assert_eq!(projected["action"], stored["action"]);
    }
    assert!(projected.iter().any(|record| record["action_id"] == 99));
}

pub(crate) fn export(directory: &std::path::Path, kind: &str) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command
        .args(["audit", "export", "--format", "ocsf-1.3", "--type", kind, "--dir"])
        .arg(directory);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

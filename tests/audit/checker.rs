//! The schema's checker is checked.

use serde_json::Value;

use crate::schema::problems;

#[test]
fn the_checker_finds_each_kind_of_fault() {
    let good = crate::support::one_record();
    assert_eq!(problems(&good), Vec::<String>::new());
    let mut faults: Vec<(&str, Value)> = Vec::new();
    faults.push(("/time", Value::from("now")));
    faults.push(("/class_uid", Value::from(4002)));
    faults.push(("/severity_id", Value::from(7)));
    faults.push(("/src_endpoint/port", Value::from(-1)));
    faults.push(("/metadata/uid", Value::from("short")));
    faults.push(("/unmapped/chain", serde_json::json!({ "id": "site/0001", "seq": 1 })));
    faults.push(("/device", serde_json::json!({ "surprise": true })));
    for (pointer, value) in faults {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("the member is there") = value;
        assert_ne!(problems(&bad), Vec::<String>::new(), "{pointer}");
    }
}

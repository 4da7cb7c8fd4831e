//! A checker for the part of JSON Schema that the project's own schema uses.
//!
//! A keyword that it does not know is an error, so that no rule of the schema is silently ignored.

use std::sync::LazyLock;

use serde_json::Value;

/// What is wrong with a record, one sentence each; empty when it fits the project's schema.
pub(crate) fn problems(record: &Value) -> Vec<String> {
    let root = match (record["class_uid"].as_u64(), record["metadata"]["version"].as_str()) {
        (Some(4003), Some("1.3.0")) => &OF_DNS_1_3,
        (Some(4003), _) => &OF_DNS,
        (_, Some("1.3.0")) => &OF_1_3,
        (Some(6002), _) => &OF_THE_BOX,
        _ => &OF_FLOWS,
    };
    let mut found = Vec::new();
    check(root, root, record, "", &mut found);
    found
}

static OF_FLOWS: LazyLock<Value> =
    LazyLock::new(|| read(include_str!("../schema/network_activity.schema.json")));
static OF_1_3: LazyLock<Value> =
    LazyLock::new(|| read(include_str!("../schema/network_activity_1_3.schema.json")));
static OF_DNS: LazyLock<Value> =
    LazyLock::new(|| read(include_str!("../schema/dns_activity.schema.json")));
static OF_DNS_1_3: LazyLock<Value> =
    LazyLock::new(|| read(include_str!("../schema/dns_activity_1_3.schema.json")));
static OF_THE_BOX: LazyLock<Value> =
    LazyLock::new(|| read(include_str!("../schema/application_lifecycle.schema.json")));

fn read(schema: &str) -> Value {
    serde_json::from_str(schema).expect("the schema is JSON")
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let fits = match keyword.as_str() {
            "title" | "$defs" | "properties" => true,
            "$ref" => {
                let pointer =
                    rule.as_str().expect("a reference is a string").trim_start_matches('#');
                let target = root.pointer(pointer).expect("the reference leads somewhere");
                check(root, target, value, at, found);
                true
            }
            "type" => kind(value, rule.as_str().expect("one type")),
            "const" => value == rule,
            "enum" => rule.as_array().expect("a list").contains(value),
            "minimum" => value.as_u64() >= rule.as_u64(),
            "minLength" => value.as_str().map(str::len) >= rule.as_u64().map(|n| n as usize),
            "required" => {
                let missing = |name: &&Value| value.get(name.as_str().expect("a name")).is_none();
                rule.as_array().expect("a list").iter().find(missing).is_none()
            }
            "additionalProperties" => {
                assert_eq!(rule, &Value::Bool(false), "the schema is closed");
                members(root, schema, value, at, found);
                true
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}[{index}]"), found);
                }
                true
            }
            other => panic!("the checker does not know the keyword {other}"),
        };
        if !fits {
            found.push(format!("{at}: {value} breaks {keyword} {rule}"));
        }
    }
}

fn members(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (name, member) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match schema["properties"].get(name) {
            Some(schema) => check(root, schema, member, &at, found),
            None => found.push(format!("{at} is not in the schema")),
        }
    }
}

fn kind(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        other => panic!("the checker does not know the type {other}"),
    }
}

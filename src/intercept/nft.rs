//! The gate's table in the kernel: apply, read back, compare, remove.
//!
//! Speaks to the kernel through `nft -j` by the `nftables` crate. Reads only the gate's own table:
//! a foreign rule that a library does not know must not matter, and other tables are nobody's
//! business here.

#![expect(clippy::indexing_slicing, reason = "a missing key of a JSON value is null, not a panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nftables::helper::{DEFAULT_ARGS, NftablesError, apply_ruleset_raw, get_current_ruleset_raw};
use nftables::schema::NfListObject;
use serde_json::{Value, json};

use super::ruleset::{Plan, TABLE, own_table};
use super::tally::{self, Generation};
use super::words::{Command, Object};

/// What went wrong with nftables, in one sentence with what to do.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// There is no `nft` program.
    #[error("cannot run nft: {0}; install the package `nftables`")]
    Missing(std::io::Error),
    /// The kernel refused for want of `CAP_NET_ADMIN`.
    #[error("nft may not change rules; run as root or with CAP_NET_ADMIN")]
    NotPermitted,
    /// Anything else that nft says.
    #[error("nft failed while {hint}: {stderr}")]
    Failed {
        /// What it was doing.
        hint: &'static str,
        /// What it said.
        stderr: String,
    },
}

/// What a comparison of the kernel's table with a plan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The kernel holds exactly the plan.
    Same,
    /// There is no table of the gate.
    Absent,
    /// The table differs: lines that are missing (`-`) and lines that should not be there (`+`).
    Different(Vec<String>),
}

/// Whether there is a table of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// There is.
    Present,
    /// There is none.
    Absent,
}

/// Makes the table a plan in one transaction. What a gate's table has counted stays; any other table
/// of the name is replaced.
///
/// # Errors
/// nft's own words; nothing was changed then.
pub fn apply(plan: &Plan) -> Result<(), NftError> {
    let amended = run(&plan.amendment(), "amending the ruleset");
    if amended.is_ok() && verify(plan)? == Verified::Same {
        return Ok(());
    }
    run(&plan.replacement(), "applying the ruleset")
}

/// Removes the table; fine when there is none.
///
/// # Errors
/// nft's own words.
pub fn clear() -> Result<(), NftError> {
    let table = || Object::Known(NfListObject::Table(own_table()));
    run(&[Command::Add(table()), Command::Delete(table())], "removing the ruleset")
}

/// Compares the kernel's table with a plan.
///
/// # Errors
/// nft cannot be run or may not read.
pub fn verify(plan: &Plan) -> Result<Verified, NftError> {
    let Some(listed) = list()? else { return Ok(Verified::Absent) };
    let wanted = plan.objects().into_iter().filter_map(|object| serde_json::to_value(object).ok());
    let wanted = canonical_lines(wanted.collect());
    let found = canonical_lines(listed);
    let mut differences = Vec::new();
    for line in wanted.iter().filter(|line| !found.contains(line)) {
        differences.push(format!("- {line}"));
    }
    for line in found.iter().filter(|line| !wanted.contains(line)) {
        differences.push(format!("+ {line}"));
    }
    if differences.is_empty() && wanted != found {
        differences.push("+ the rules of a chain are in another order".to_owned());
    }
    Ok(if differences.is_empty() { Verified::Same } else { Verified::Different(differences) })
}

/// Whether the kernel has a table of the gate, whatever is in it.
///
/// # Errors
/// nft cannot be run or may not read.
pub fn present() -> Result<Presence, NftError> {
    Ok(if list()?.is_some() { Presence::Present } else { Presence::Absent })
}

/// The packets that each counter of the table has seen.
///
/// # Errors
/// nft cannot be run or may not read.
pub fn counters() -> Result<BTreeMap<String, u64>, NftError> {
    let listed = ask(&["list", "counters", "table", "inet", TABLE], "listing the counters")?;
    Ok(packets(listed).filter(|(name, _)| !tally::is_rest(name)).collect())
}

/// Reads a counter and sets it to zero in one step.
pub(super) fn take_counter(name: &str) -> Result<u64, NftError> {
    let reset = ask(&["reset", "counter", "inet", TABLE, name], "resetting a counter")?;
    Ok(packets(reset).map(|(_, packets)| packets).sum())
}

/// Which generation refused packets are counted into.
pub(super) fn generation() -> Result<Generation, NftError> {
    let chain = ask(&["list", "chain", "inet", TABLE, "refuse"], "listing a chain")?;
    let in_b = chain.into_iter().flatten().any(|object| {
        let statements = object["rule"]["expr"].as_array().into_iter().flatten();
        { statements }.any(|statement| statement["jump"]["target"] == Generation::B.chain())
    });
    Ok(if in_b { Generation::B } else { Generation::A })
}

fn packets(objects: Option<Vec<Value>>) -> impl Iterator<Item = (String, u64)> {
    objects.unwrap_or_default().into_iter().filter_map(|object| {
        let counter = &object["counter"];
        Some((counter["name"].as_str()?.to_owned(), counter["packets"].as_u64()?))
    })
}

/// Whether nft is there and may work.
///
/// # Errors
/// It is missing, or the process lacks `CAP_NET_ADMIN`.
pub fn probe() -> Result<(), NftError> {
    match get_current_ruleset_raw(None::<&str>, ["list", "tables"]) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(error, "listing tables")),
    }
}

/// Runs a transaction.
pub(super) fn run(commands: &[Command], hint: &'static str) -> Result<(), NftError> {
    let transaction = json!({ "nftables": commands }).to_string();
    apply_ruleset_raw(&transaction, None::<&str>, DEFAULT_ARGS.iter().copied())
        .map(drop)
        .map_err(|error| explain(error, hint))
}

/// The table's objects as nft lists them; `None` when there is no such table.
fn list() -> Result<Option<Vec<Value>>, NftError> {
    ask(&["list", "table", "inet", TABLE], "listing the table")
}

/// The same with numbers in place of the names of protocols.
pub(super) fn list_numbers() -> Result<Option<Vec<Value>>, NftError> {
    ask(&["-n", "list", "table", "inet", TABLE], "listing the table")
}

/// What nft answers; `None` when there is no such thing.
fn ask(words: &[&str], hint: &'static str) -> Result<Option<Vec<Value>>, NftError> {
    let listed = get_current_ruleset_raw(None::<&str>, words.iter().copied());
    let text = match listed {
        Ok(text) => text,
        Err(NftablesError::NftFailed { stderr, .. }) if stderr.contains("No such file") => {
            return Ok(None);
        }
        Err(error) => return Err(explain(error, hint)),
    };
    let document: Value = serde_json::from_str(&text)
        .map_err(|error| explain(NftablesError::NftInvalidJson(error), hint))?;
    let objects = document["nftables"].as_array().cloned().unwrap_or_default();
    Ok(Some(objects.into_iter().filter(|object| object.get("metainfo").is_none()).collect()))
}

/// The objects as text, sorted but for the rules of one chain, whose order is their meaning.
fn canonical_lines(objects: Vec<Value>) -> Vec<String> {
    let mut keyed: Vec<(Option<String>, String)> = objects
        .into_iter()
        .map(|object| {
            let chain = object["rule"]["chain"].as_str().map(str::to_owned);
            (chain, canonical_line(object))
        })
        .collect();
    keyed.sort_by(|(a, a_line), (b, b_line)| match (a, b) {
        (None, None) => a_line.cmp(b_line),
        _ => a.cmp(b),
    });
    keyed.into_iter().map(|(_, line)| line).collect()
}

/// One object as text that is equal for equal rules: without handles and counts, keys in order,
/// members of sets in order, a list of one like its member (nft 1.1 prints single flags so).
fn canonical_line(mut object: Value) -> String {
    if let Some(inner) = object.as_object_mut().and_then(|o| o.values_mut().next()) {
        if let Some(fields) = inner.as_object_mut() {
            for volatile in ["handle", "packets", "bytes", "index"] {
                fields.remove(volatile);
            }
            if fields.get("name").and_then(Value::as_str).is_some_and(tally::is_filled_by_packets) {
                // Its content is what passed; whether nft shows the flag depends on its version.
                fields.remove("elem");
                fields.remove("flags");
            }
            if fields.get("chain").is_some_and(|chain| chain == "refuse") {
                either_generation(fields.get_mut("expr"));
            }
            number_protocols(fields.get_mut("expr"));
        }
        sort_lists(inner);
    }
    let mut line = String::new();
    // Writing to a String cannot fail; serde_json maps are ordered by key.
    let _ = write!(line, "{object}");
    line
}

/// Which generation the packets are counted into is no difference.
fn either_generation(statements: Option<&mut Value>) {
    for statement in statements.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(target) = statement.pointer_mut("/jump/target")
            && *target == Generation::B.chain()
        {
            *target = Generation::A.chain().into();
        }
    }
}

/// Protocols by their numbers: nft shows the names of `/etc/protocols`, and not every box has that file.
fn number_protocols(statements: Option<&mut Value>) {
    for statement in statements.and_then(Value::as_array_mut).into_iter().flatten() {
        if statement.pointer("/match/left/meta/key").is_none_or(|key| key != "l4proto") {
            continue;
        }
        let Some(right) = statement.pointer_mut("/match/right") else { continue };
        match right.get_mut("set").and_then(Value::as_array_mut) {
            Some(members) => members.iter_mut().for_each(number_protocol),
            None => number_protocol(right),
        }
    }
}

fn number_protocol(protocol: &mut Value) {
    let named = PROTOCOLS.iter().find(|(name, _)| protocol == name);
    if let Some((_, number)) = named {
        *protocol = (*number).into();
    }
}

fn sort_lists(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                // The order of statements is the meaning of a rule.
                let ordered = key == "expr";
                sort_lists(field);
                if let (false, Value::Array(members)) = (ordered, &mut *field) {
                    members.sort_by_key(Value::to_string);
                    if let [single] = members.as_slice() {
                        *field = single.clone();
                    }
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(sort_lists),
        _ => {}
    }
}

fn explain(error: NftablesError, hint: &'static str) -> NftError {
    match error {
        NftablesError::NftExecution { inner, .. }
            if inner.kind() == std::io::ErrorKind::NotFound =>
        {
            NftError::Missing(inner)
        }
        NftablesError::NftExecution { inner, .. } => {
            NftError::Failed { hint, stderr: inner.to_string() }
        }
        NftablesError::NftFailed { stderr, .. }
            if stderr.contains("Operation not permitted") || stderr.contains("must be root") =>
        {
            NftError::NotPermitted
        }
        NftablesError::NftFailed { stderr, .. } => {
            NftError::Failed { hint, stderr: stderr.trim().replace('\n', " ") }
        }
        other => NftError::Failed { hint, stderr: other.to_string() },
    }
}

/// Those that the rules name, with their numbers (IANA, Assigned Internet Protocol Numbers).
const PROTOCOLS: [(&str, u8); 3] = [("icmp", 1), ("tcp", 6), ("udp", 17)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_the_same_by_name_and_by_number() {
        let rule = |right: Value| {
            canonical_line(json!({ "rule": { "chain": "refuse", "expr": [
                { "match": { "op": "==", "left": { "meta": { "key": "l4proto" } }, "right": right } },
                { "counter": "tcp_port_blocked" },
            ] } }))
        };
        assert_eq!(rule(json!("tcp")), rule(json!(6)));
        assert_eq!(rule(json!({ "set": ["tcp", "udp"] })), rule(json!({ "set": [17, 6] })));
        assert_ne!(rule(json!("tcp")), rule(json!(17)));
        assert_ne!(rule(json!({ "set": ["tcp", "udp"] })), rule(json!({ "set": [17, 1] })));
    }
}

//! The ruleset as text in nft(8) syntax, for people and for `nft -f`.
//!
//! Renders the very objects that are applied, so the text cannot say anything else than the kernel
//! is told.

use std::fmt::Write as _;

use nftables::expr::{Expression, FibFlag, FibResult, NamedExpression, Payload, SetItem};
use nftables::schema::{Chain, NfListObject, Rule, Set, SetFlag, SetTypeValue};
use nftables::stmt::{Counter, Operator, RejectType, Statement};
use serde::Serialize;

use super::ruleset::{Plan, TABLE};
use super::words::Object;

/// A plan as a file for `nft -f`: replaces the table in one transaction.
pub fn text(plan: &Plan) -> String {
    let objects = plan.objects();
    let mut out =
        format!("table inet {TABLE}\ndelete table inet {TABLE}\n\ntable inet {TABLE} {{\n");
    let mut known = Vec::new();
    for object in &objects {
        match object {
            Object::Known(NfListObject::Counter(counter)) => {
                let _ = writeln!(out, "\tcounter {} {{\n\t}}\n", counter.name);
            }
            Object::Known(NfListObject::Set(set)) => out.push_str(&set_text(set)),
            Object::Known(object) => known.push(object),
            Object::Counting(set) => out.push_str(&set.text()),
        }
    }
    for object in &known {
        let NfListObject::Chain(chain) = object else { continue };
        let _ = writeln!(out, "\tchain {} {{", chain.name);
        out.push_str(&hook_text(chain));
        for rule in known.iter().filter_map(|object| match object {
            NfListObject::Rule(rule) if rule.chain == chain.name => Some(rule),
            _ => None,
        }) {
            let _ = writeln!(out, "\t\t{}", rule_text(rule));
        }
        out.push_str("\t}\n\n");
    }
    out.truncate(out.trim_end().len());
    out.push_str("\n}\n");
    out
}

fn set_text(set: &Set<'_>) -> String {
    let mut out = format!("\tset {} {{\n", set.name);
    if let SetTypeValue::Single(kind) = &set.set_type {
        let _ = writeln!(out, "\t\ttype {}", word(kind));
    }
    if set.flags.as_ref().is_some_and(|flags| flags.contains(&SetFlag::Interval)) {
        out.push_str("\t\tflags interval\n");
    }
    if let Some(elements) = &set.elem {
        let elements: Vec<String> = elements.iter().map(expression).collect();
        let _ = writeln!(out, "\t\telements = {{ {} }}", elements.join(", "));
    }
    out.push_str("\t}\n\n");
    out
}

fn hook_text(chain: &Chain<'_>) -> String {
    let (Some(kind), Some(hook), Some(priority), Some(policy)) =
        (&chain._type, &chain.hook, &chain.prio, &chain.policy)
    else {
        return String::new();
    };
    format!(
        "\t\ttype {} hook {} priority {priority}; policy {};\n",
        word(kind),
        word(hook),
        word(policy)
    )
}

fn rule_text(rule: &Rule<'_>) -> String {
    rule.expr.iter().map(statement).collect::<Vec<_>>().join(" ")
}

fn statement(statement: &Statement<'_>) -> String {
    match statement {
        Statement::Accept(_) => "accept".to_owned(),
        Statement::Drop(_) => "drop".to_owned(),
        Statement::Return(_) => "return".to_owned(),
        Statement::Set(set) => format!("add {} {{ {} }}", set.set, expression(&set.elem)),
        Statement::Jump(target) => format!("jump {}", target.target),
        Statement::Match(matching) => {
            let left = expression(&matching.left);
            let right = expression(&matching.right);
            match (&matching.left, &matching.right, matching.op) {
                (Expression::Named(NamedExpression::Fib(_)), Expression::Boolean(false), _) => {
                    format!("{left} missing")
                }
                (_, _, Operator::NEQ) => format!("{left} != {right}"),
                _ => format!("{left} {right}"),
            }
        }
        Statement::Mangle(mangle) => {
            format!("{} set {}", expression(&mangle.key), expression(&mangle.value))
        }
        Statement::Counter(Counter::Named(name)) => format!("counter name {name}"),
        Statement::TProxy(tproxy) => {
            let family = tproxy.family.as_deref().unwrap_or_default();
            let address = tproxy.addr.as_deref().unwrap_or_default();
            match family {
                "ip6" => format!("tproxy ip6 to [{address}]:{}", tproxy.port),
                _ => format!("tproxy {family} to {address}:{}", tproxy.port),
            }
        }
        Statement::Reject(Some(reject)) => match (&reject._type, &reject.expr) {
            (Some(RejectType::TCPReset), _) => "reject with tcp reset".to_owned(),
            (Some(kind), Some(code)) => format!("reject with {} {}", word(kind), word(code)),
            _ => "reject".to_owned(),
        },
        other => format!("# {other:?}"),
    }
}

fn expression(value: &Expression<'_>) -> String {
    match value {
        Expression::String(text) if text.starts_with('@') || is_bare(text) => text.to_string(),
        Expression::String(text) => format!("\"{text}\""),
        Expression::Number(number) if *number > 0xffff => format!("{number:#010x}"),
        Expression::Number(number) => number.to_string(),
        Expression::Boolean(truth) => truth.to_string(),
        Expression::Named(named) => named_expression(named),
        other => format!("# {other:?}"),
    }
}

fn named_expression(named: &NamedExpression<'_>) -> String {
    match named {
        NamedExpression::Meta(meta) => match word(&meta.key).as_str() {
            key @ ("iifname" | "oifname") => key.to_owned(),
            key => format!("meta {key}"),
        },
        NamedExpression::Payload(Payload::PayloadField(field)) => {
            format!("{} {}", field.protocol, field.field)
        }
        NamedExpression::Fib(fib) => {
            let of = if fib.flags.contains(&FibFlag::Saddr) { "saddr . iif" } else { "daddr" };
            let result = if fib.result == FibResult::Oif { "oif" } else { "type" };
            format!("fib {of} {result}")
        }
        NamedExpression::Socket(socket) => format!("socket {}", word(&socket.key)),
        NamedExpression::Prefix(prefix) => format!("{}/{}", expression(&prefix.addr), prefix.len),
        NamedExpression::Concat(parts) => {
            parts.iter().map(expression).collect::<Vec<_>>().join(" . ")
        }
        NamedExpression::Set(items) => {
            let items: Vec<String> = items
                .iter()
                .filter_map(|item| match item {
                    SetItem::Element(element) => Some(expression(element)),
                    _ => None,
                })
                .collect();
            format!("{{ {} }}", items.join(", "))
        }
        other => format!("# {other:?}"),
    }
}

/// Words and addresses that nft reads without quotes. Interface names always get them.
fn is_bare(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok() || KEYWORDS.contains(&text)
}

/// The word that the JSON interface has for a value is the word of the language, too.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

const KEYWORDS: [&str; 12] = [
    "tcp",
    "icmp",
    "ipv6",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "nd-router-solicit",
    "nd-neighbor-solicit",
    "nd-neighbor-advert",
    "udp",
    "destination-unreachable",
];

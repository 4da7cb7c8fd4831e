//! Every metric family, and what of the report it shows.

use std::fmt;

use super::{Families, Labels, number, one, truth, word};
use crate::admin::http::HttpStatus;
use crate::admin::report::Report;
use crate::reason::{Reason, Stage};

pub(super) fn write(to: &mut Families<'_>, report: &Report, http: HttpStatus) -> fmt::Result {
    the_box(to, report)?;
    flows(to, report)?;
    bytes(to, report)?;
    tunnels(to, report)?;
    names(to, report)?;
    dials(to, report)?;
    rules(to, report)?;
    audit(to, report)?;
    admin(to, http)
}

fn the_box(to: &mut Families<'_>, report: &Report) -> fmt::Result {
    let build = vec![("version", report.version), ("site", report.site.as_str())];
    to.gauges(("build_info", "The program and its site; always 1"), [(build, 1.0)])?;
    to.gauge(("uptime_seconds", "Time since the start"), number(report.uptime_seconds))?;
    to.gauge(
        ("healthy", "Whether `sluicegate status` finds nothing wrong"),
        truth(report.healthy),
    )?;
    let mut codes: Vec<&str> = report.problems.iter().map(|of| of.code.as_str()).collect();
    codes.sort_unstable();
    let mut problems: Vec<(Labels<'_>, f64)> = Vec::new();
    for code in codes {
        match problems.last_mut().filter(|(labels, _)| labels == &one("code", code)) {
            Some((_, count)) => *count += 1.0,
            None => problems.push((one("code", code), 1.0)),
        }
    }
    to.gauges(
        ("problems", "What is wrong now, by the code that `sluicegate status` says"),
        problems,
    )?;
    let threads = report.threads;
    let count = |count: usize| number(count as u64);
    let rows = [("configured", threads.all), ("working", threads.working)];
    let rows = rows.map(|(state, threads)| (one("state", state), count(threads)));
    to.gauges(("data_threads", "Data threads"), rows)?;
    let limits = &report.headroom;
    let used = limits.iter().map(|limit| (one("limit", limit.what), number(limit.used)));
    to.gauges(("limit_used", "How much of a limit of the box is used"), used)?;
    let most = limits.iter().map(|limit| (one("limit", limit.what), number(limit.most)));
    to.gauges(("limit_max", "The limit itself"), most)?;
    let head =
        ("listen_overflows", "Connections that the kernel dropped because they came too fast");
    to.counter(head, report.listen_overflows)
}

fn flows(to: &mut Families<'_>, report: &Report) -> fmt::Result {
    let flows = &report.flows;
    let row =
        |verdict, reason, stage| vec![("verdict", verdict), ("reason", reason), ("stage", stage)];
    let by_rules = flows.allowed_total.saturating_sub(flows.learnt_total);
    let mut rows =
        vec![(row("allow", "", ""), by_rules), (row("learn", "", ""), flows.learnt_total)];
    // Also those without any, so that a rate sees the first one.
    for reason in Reason::ALL.iter().filter(|reason| reason.stage() != Stage::Packet) {
        let count = flows.denied_by_reason.get(reason.code()).copied().unwrap_or_default();
        rows.push((row("deny", reason.code(), reason.stage().as_str()), count));
    }
    to.counters(("flows", "Flows since the start by verdict and reason"), rows)?;
    to.gauge(("flows_live", "Flows that live now"), number(flows.live))?;
    let states = &report.states;
    let rows = [("hello", states.hello), ("dial", states.dial), ("relay", states.relay)];
    let rows = rows.map(|(state, count)| (one("state", state), number(count)));
    to.gauges(("flows_state", "Live flows by what they are at"), rows)?;
    to.gauge(
        ("flows_half_closed", "Connected flows that have one direction over"),
        number(states.half_closed),
    )?;
    to.latencies(
        ("set_up_seconds", "How long each step of the set-up of flows took"),
        &flows.set_up,
    )
}

fn bytes(to: &mut Families<'_>, report: &Report) -> fmt::Result {
    let relay = &report.relay;
    let row = |direction, way| vec![("direction", direction), ("way", way)];
    let down = |all: u64, up: u64| all.saturating_sub(up);
    let rows = [
        (row("up", "copied"), relay.copied_up),
        (row("up", "spliced"), relay.spliced_up),
        (row("down", "copied"), down(relay.copied, relay.copied_up)),
        (row("down", "spliced"), down(relay.spliced, relay.spliced_up)),
    ];
    let head = (
        "relayed_bytes",
        "Bytes moved, up (device to endpoint) or down, copied or spliced inside the kernel",
    );
    to.counters(head, rows)?;
    to.gauge(("pipes_in_use", "Pipes that flows hold"), number(relay.pipes_in_use))?;
    to.counter(("pipes_created", "Pipes opened"), relay.pipes_created)?;
    to.counter(
        ("pipe_fallbacks", "Reads that were copied because there was no pipe"),
        relay.pipe_fallbacks,
    )?;
    let rows = [
        ("to_splice", relay.promotions),
        ("to_copy", relay.demotions),
        ("splice_refused", relay.refused),
    ];
    let rows = rows.map(|(change, count)| (one("change", change), count));
    to.counters(("relay_changes", "Directions that changed how they are moved"), rows)
}

fn tunnels(to: &mut Families<'_>, report: &Report) -> fmt::Result {
    let tunnels = &report.tunnels;
    let of = |name| one("interface", name);
    let up = tunnels.iter().map(|t| (of(t.interface.as_str()), truth(t.up)));
    to.gauges(("tunnel_up", "Whether new flows may go by the tunnel"), up)?;
    let preferred = tunnels.iter().map(|t| (of(t.interface.as_str()), truth(t.preferred)));
    to.gauges(("tunnel_preferred", "Whether new flows try the tunnel first"), preferred)?;
    let since = tunnels.iter().map(|t| (of(t.interface.as_str()), number(t.since_seconds)));
    to.gauges(("tunnel_state_age_seconds", "How long the tunnel has been as it is"), since)?;
    let latency =
        tunnels.iter().filter_map(|t| Some((of(t.interface.as_str()), t.latency_ms? / 1e3)));
    to.gauges(
        ("tunnel_latency_seconds", "How long the last answer through the tunnel took"),
        latency,
    )
}

fn names(to: &mut Families<'_>, report: &Report) -> fmt::Result {
    let addresses: Vec<String> = report.resolvers.iter().map(|r| word(&r.address)).collect();
    let resolvers = || addresses.iter().map(String::as_str).zip(&report.resolvers);
    let up = resolvers().map(|(address, r)| (one("resolver", address), truth(r.healthy)));
    to.gauges(("resolver_up", "Whether the resolver answered when it was last asked"), up)?;
    let rows = resolvers().flat_map(|(address, r)| {
        let row = |outcome| vec![("resolver", address), ("outcome", outcome)];
        [(row("answered"), r.answers), (row("failed"), r.failures)]
    });
    to.counters(("resolver_questions", "Questions to the resolver by what came of them"), rows)?;
    let endpoints = &report.endpoints;
    let of =
        |e: &'_ crate::admin::report::EndpointStatus| (e.endpoint.to_string(), e.name.to_string());
    let labels: Vec<(String, String)> = endpoints.iter().map(of).collect();
    let rows = || {
        let labels = labels
            .iter()
            .map(|(table, name)| vec![("endpoint", table.as_str()), ("name", name.as_str())]);
        labels.zip(endpoints)
    };
    let usable = rows().map(|(labels, e)| (labels, truth(e.reason.is_none())));
    to.gauges(
        ("endpoint_usable", "Whether the name has a private answer that flows may use"),
        usable,
    )?;
    let required = rows().map(|(labels, e)| (labels, truth(e.required)));
    to.gauges(
        ("endpoint_required", "Whether it is a problem that a name is not usable"),
        required,
    )?;
    let count = rows().map(|(labels, e)| (labels, number(e.addresses.len() as u64)));
    to.gauges(("endpoint_addresses", "Network interfaces in the name's answer"), count)?;
    let age = rows().filter_map(|(labels, e)| Some((labels, number(e.age_seconds?))));
    to.gauges(("endpoint_answer_age_seconds", "How old the name's answer is"), age)?;
    let last_good = rows().map(|(labels, e)| (labels, truth(e.last_good)));
    to.gauges(
        ("endpoint_last_good", "Whether an old answer serves because no resolver answers"),
        last_good,
    )?;
    let Some(dns) = &report.dns else { return Ok(()) };
    let rows = [
        ("answered", dns.answered_total),
        ("forwarded", dns.forwarded_total),
        ("refused", dns.refused_total),
        ("failed", dns.failed_total),
        ("limited", dns.limited_total),
        ("malformed", dns.malformed_total),
        ("dropped", dns.dropped_total),
    ];
    let rows = rows.map(|(outcome, count)| (one("outcome", outcome), count));
    to.counters(("dns_questions", "Devices' DNS questions by what came of them"), rows)
}

fn dials(to: &mut Families<'_>, report: &Report) -> fmt::Result {
    let all = || report.dials.iter().map(|(table, dials)| (one("endpoint", table), dials));
    let count = |count: usize| number(count as u64);
    let now = all().map(|(labels, dials)| (labels, count(dials.dialling)));
    to.gauges(("dials", "Connections to an endpoint that are being set up"), now)?;
    let queued = all().map(|(labels, dials)| (labels, count(dials.queued)));
    to.gauges(("dials_queued", "Flows that wait for their turn to connect"), queued)?;
    let waited = all().map(|(labels, dials)| (labels, dials.queued_total));
    to.counters(("dials_waited", "Flows that had to wait for their turn"), waited)?;
    let refused = all().map(|(labels, dials)| (labels, dials.refused_total));
    to.counters(("dials_refused", "Flows whose turn would not have come in time"), refused)
}

fn rules(to: &mut Families<'_>, report: &Report) -> fmt::Result {
    let rules = &report.rules;
    to.gauge(
        ("rules_intact", "Whether the kernel's rules are as they should be"),
        truth(rules.intact),
    )?;
    to.counter(
        ("rules_restored", "How often somebody's damage was repaired"),
        rules.restored_total,
    )?;
    let packets = rules.packets.iter().map(|(name, count)| (one("counter", name), *count));
    to.counters(("packets", "Packets that the rules stopped, by counter"), packets)?;
    let refused = report.policy.refused_reload.is_some();
    to.gauge(("reload_refused", "Whether the last reload was refused"), truth(refused))
}

fn audit(to: &mut Families<'_>, report: &Report) -> fmt::Result {
    let audit = &report.audit;
    to.counter(("audit_records", "Durable records, since the log began"), audit.seq)?;
    to.gauge(("audit_waiting_records", "Records on their way to the disk"), number(audit.waiting))?;
    to.gauge(
        ("audit_lag_seconds", "How long the oldest record on its way to the disk has been"),
        audit.lag_seconds,
    )?;
    to.counter(
        ("audit_lost_records", "Records that could not be written; must be 0"),
        audit.lost_total,
    )?;
    to.counter(
        ("audit_unrecorded_flows", "Flows refused because they could not be recorded"),
        audit.unrecorded_total,
    )?;
    to.gauge(
        ("audit_unshipped_records", "Records that are on this box alone"),
        number(audit.unshipped),
    )?;
    let writable = audit.failure.is_none() && !audit.full;
    to.gauge(("audit_writable", "Whether new flows can be recorded"), truth(writable))?;
    to.gauge(("audit_used_bytes", "Size of the log's directory"), number(audit.used_bytes))?;
    to.gauge(("audit_quota_bytes", "What it may hold"), number(audit.quota_bytes))
}

fn admin(to: &mut Families<'_>, http: HttpStatus) -> fmt::Result {
    to.gauge(("admin_connections", "Connections to this listener"), number(http.connections))?;
    to.gauge(("admin_streams", "Browsers that watch the status page"), number(http.streams))?;
    let rows = [
        ("too_many", http.too_many_total),
        ("not_permitted", http.not_permitted_total),
        ("from_devices", http.from_devices_total),
    ];
    let rows = rows.map(|(why, count)| (one("why", why), count));
    to.counters(("admin_refused", "Connections and requests that were turned away here"), rows)
}

//! The peers' configurations: each allows one name, resolves it by the lab's resolver, and relays.

use std::path::Path;

use super::super::stage::{NAME, PEER_PORT, PORT};
use crate::plan::Subject;
use sluicegate::lab::topology::ZONES;

/// HAProxy's, in the mode of this subject.
pub(crate) fn haproxy(subject: Subject) -> String {
    let (global, options) = match subject {
        Subject::HaproxyAuto => ("", "    option splice-auto\n"),
        Subject::HaproxySplice => (
            "    tune.pipesize 262144\n",
            "    option splice-request\n    option splice-response\n",
        ),
        _ => ("    nosplice\n", ""),
    };
    let resolver = resolver();
    format!(
        "global
    maxconn 9600
    maxpipes 128
{global}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
{options}
resolvers vpc
    nameserver zone {resolver}:53
    hold valid 60s

frontend devices
    bind 127.0.0.1:{PEER_PORT} transparent
    tcp-request inspect-delay 5s
    acl allowed req.ssl_sni -i {NAME}
    tcp-request content reject if {{ req.ssl_hello_type 1 }} !allowed
    tcp-request content do-resolve(sess.private,vpc,ipv4) req.ssl_sni if allowed
    tcp-request content set-dst var(sess.private) if allowed
    tcp-request content accept if allowed
    default_backend endpoint

backend endpoint
    server endpoint 0.0.0.0:{PORT}
"
    )
}

/// nginx's, with its files in this directory.
pub(crate) fn nginx(directory: &Path) -> String {
    let directory = directory.display();
    let resolver = resolver();
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
user root root;
worker_processes 2;
worker_rlimit_nofile 20000;
pid {directory}/nginx.pid;
error_log stderr error;
events {{
    worker_connections 19000;
}}
stream {{
    resolver {resolver} ipv6=off valid=60s;
    map $ssl_preread_server_name $private {{
        {NAME} {NAME}:{PORT};
        default \"\";
    }}
    server {{
        listen 127.0.0.1:{PEER_PORT} reuseport backlog=65535;
        listen {BOX_LAN}:{PEER_PORT} reuseport backlog=65535;
        ssl_preread on;
        tcp_nodelay on;
        proxy_timeout 1h;
        proxy_pass $private;
    }}
}}
",
        BOX_LAN = sluicegate::lab::topology::BOX_LAN,
    )
}

/// sniproxy's.
pub(crate) fn sniproxy(directory: &Path) -> String {
    let directory = directory.display();
    let resolver = resolver();
    let name = NAME.replace('.', "\\\\.");
    format!(
        "pidfile {directory}/sniproxy.pid
resolver {{
    nameserver {resolver}
    mode ipv4_only
}}
error_log {{
    filename {directory}/sniproxy.log
    priority error
}}
listener 0.0.0.0:{PEER_PORT} {{
    protocol tls
    table names
}}
table names {{
    ^{name}$ *:{PORT}
}}
"
    )
}

fn resolver() -> String {
    ZONES.first().map(|zone| zone.resolver().to_string()).unwrap_or_default()
}

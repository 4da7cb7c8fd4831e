//! Hellos of real clients, caught on loopback: OpenSSL and curl in the versions of this machine, the
//! TLS stacks of most Linux devices. The refused ones must show the alert in their own log.
//!
//! Needs the programs `openssl` (3.x) and `curl`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure, as it should be"
)]

use std::process::{Output, Stdio};
use std::time::Duration;

use sluicegate::hello::alert::alert_for;
use sluicegate::hello::{Hello, HelloReader, Progress, Refusal};
use sluicegate::reason::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// No client lives longer, whatever happens.
const LIFETIME: Duration = Duration::from_secs(30);

/// A client that waits for an answer to its hello.
struct Caught {
    /// Killed when dropped.
    client: Child,
    stream: TcpStream,
    hello: Vec<u8>,
    answer: Progress,
}

impl Caught {
    /// Starts the program with `PORT` in its arguments replaced, and reads its hello.
    async fn from(program: &str, arguments: &[&str]) -> Self {
        timeout(LIFETIME, Self::catch(program, arguments)).await.expect("a hello in time")
    }

    async fn catch(program: &str, arguments: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut client = Command::new(program)
            .args(arguments.iter().map(|argument| argument.replace("PORT", &port)))
            .env("OPENSSL_CONF", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs the program {program}: {error}"));
        let mut stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            status = client.wait() => panic!("{program} {arguments:?} ended first: {status:?}"),
        };
        let mut reader = HelloReader::new();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{program} {arguments:?} closed the connection");
            let answer = reader.push(&buffer[..count]);
            if answer != Progress::Incomplete {
                let hello = reader.into_raw();
                return Self { client, stream, hello, answer };
            }
        }
    }

    fn hello(&self) -> &Hello {
        self.same_however_cut();
        match &self.answer {
            Progress::Hello(hello) => hello,
            other => panic!("expected a hello, got {other:?}"),
        }
    }

    fn refusal(&self) -> &Refusal {
        self.same_however_cut();
        match &self.answer {
            Progress::Refused(refusal) => refusal,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    fn same_however_cut(&self) {
        let mut reader = HelloReader::new();
        let (last, rest) = self.hello.split_last().unwrap();
        for byte in rest {
            assert_eq!(reader.push(&[*byte]), Progress::Incomplete);
        }
        assert_eq!(reader.push(&[*last]), self.answer);
    }

    /// Refuses the client, and returns what it logged.
    async fn refuse(mut self, reason: Reason, version: u16) -> String {
        let alert = alert_for(reason, Some(version)).expect("an alert");
        self.stream.write_all(&alert.record).await.unwrap();
        self.stream.shutdown().await.unwrap();
        let ended = timeout(LIFETIME, self.client.wait_with_output()).await;
        let Output { stdout, stderr, .. } = ended.expect("an end in time").unwrap();
        [String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)].concat()
    }
}

const NAME: &str = "device.example.com";

async fn openssl(arguments: &[&str]) -> Caught {
    Caught::from("openssl", &[&["s_client", "-connect", "127.0.0.1:PORT"], arguments].concat())
        .await
}

async fn curl(arguments: &[&str]) -> Caught {
    let fixed = ["-q", "-sS", "--noproxy", "*", "--max-time", "20"];
    Caught::from("curl", &[&fixed[..], arguments].concat()).await
}

#[tokio::test]
async fn openssl_in_each_version() {
    let cases: [(&str, u16, &str); 4] = [
        ("-tls1", 0x0301, "t10d"),
        ("-tls1_1", 0x0302, "t11d"),
        ("-tls1_2", 0x0303, "t12d"),
        ("-tls1_3", 0x0304, "t13d"),
    ];
    for (flag, version, ja4) in cases {
        let caught = openssl(&[flag, "-cipher", "ALL:@SECLEVEL=0", "-servername", NAME]).await;
        let hello = caught.hello();
        assert_eq!((hello.name.as_str(), hello.facts.highest_version()), (NAME, version));
        assert!(hello.facts.ja4.starts_with(ja4), "{}", hello.facts.ja4);
        assert_eq!(hello.facts.bytes, caught.hello.len());
        assert_eq!(hello.facts.notes, Vec::<String>::new());
    }
}

#[tokio::test]
async fn openssl_with_alpn() {
    let caught = openssl(&["-servername", NAME, "-alpn", "x-amzn-mqtt-ca,http/1.1"]).await;
    let facts = &caught.hello().facts;
    let alpn: Vec<&[u8]> = facts.alpn.iter().map(|name| &**name).collect();
    assert_eq!(alpn, [&b"x-amzn-mqtt-ca"[..], b"http/1.1"]);
    assert_eq!(facts.ja4.get(8..10), Some("xa"));
}

#[tokio::test]
async fn openssl_with_names_that_are_none() {
    let cases: [(&[&str], Reason); 3] = [
        (&["-noservername"], Reason::NameMissing),
        (&["-servername", "10.0.0.1"], Reason::NameIsAddress),
        (&["-servername", "press_3.example.com"], Reason::NameMalformed),
    ];
    for (arguments, reason) in cases {
        let caught = openssl(arguments).await;
        let refusal = caught.refusal();
        assert_eq!(refusal.reason, reason);
        assert_eq!(refusal.facts.as_ref().unwrap().highest_version(), 0x0304);
    }
    let caught = openssl(&["-servername", "Device.Example.COM"]).await;
    let hello = caught.hello();
    assert_eq!(hello.name.as_str(), NAME);
    assert!(hello.facts.notes[0].contains("Device.Example.COM"));
}

#[tokio::test]
async fn curl_as_devices_use_it() {
    let resolve = format!("{NAME}:PORT:127.0.0.1");
    let address = format!("https://{NAME}:PORT/");
    let named = ["--resolve", &resolve, &address];
    let caught = curl(&named).await;
    let hello = caught.hello();
    assert_eq!(hello.name.as_str(), NAME);
    assert!(hello.facts.ja4.starts_with("t13d") && hello.facts.ja4.contains("h2_"));

    let caught = curl(&[&["--tls-max", "1.2", "--http1.1"], &named[..]].concat()).await;
    let facts = &caught.hello().facts;
    assert_eq!(facts.highest_version(), 0x0303);
    assert_eq!(facts.alpn, [Box::from(&b"http/1.1"[..])]);

    let caught = curl(&["https://127.0.0.1:PORT/"]).await;
    assert_eq!(caught.refusal().reason, Reason::NameMissing);
    let caught = curl(&["http://127.0.0.1:PORT/"]).await;
    assert_eq!(
        caught.refusal_of_something_else().detail,
        "the first bytes look like HTTP without TLS"
    );
}

impl Caught {
    fn refusal_of_something_else(&self) -> &Refusal {
        let Progress::Refused(refusal) = &self.answer else { panic!("{:?}", self.answer) };
        assert_eq!(refusal.reason, Reason::NotTls);
        assert_eq!(refusal.first_bytes, self.hello[..16]);
        refusal
    }
}

#[tokio::test]
async fn refused_clients_log_the_alert() {
    for (flag, version) in [("-tls1", 0x0301), ("-tls1_2", 0x0303), ("-tls1_3", 0x0303)] {
        let with = [flag, "-cipher", "ALL:@SECLEVEL=0", "-servername", NAME];
        for (reason, words) in [
            (Reason::NameMissing, "alert number 112"),
            (Reason::NameNotAllowed, "alert number 49"),
            (Reason::HelloMalformed, "alert number 40"),
        ] {
            let log = openssl(&with).await.refuse(reason, version).await;
            assert!(log.contains(words), "{flag} {reason}: {log}");
        }
    }
    let log = curl(&["https://127.0.0.1:PORT/"]).await.refuse(Reason::NameMissing, 0x0303).await;
    assert!(log.contains("unrecognized name"), "{log}");
}

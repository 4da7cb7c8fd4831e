//! The resolvers: two Route 53 inbound endpoints in the VPC, and a public one.
//!
//! A name of the private zone has its private addresses; another one that the public knows has its
//! public addresses, as a real inbound endpoint answers when the private hosted zone is missing;
//! everything else does not exist. The zone can be changed while it is served.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use super::error::LabError;
use super::services::listen;

/// What the resolvers know, and what they were asked.
#[derive(Debug)]
pub struct Zone {
    state: Mutex<State>,
}

/// One question that reached a resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asked.
    pub from: IpAddr,
    /// Which resolver was asked.
    pub resolver: IpAddr,
    /// The name, lower case, without the last dot.
    pub name: String,
    /// The record type, for example `A`.
    pub kind: String,
}

/// How resolvers answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As they should.
    #[default]
    Answering,
    /// SERVFAIL to every question.
    Failing,
}

impl Zone {
    /// A zone in which nothing exists.
    pub(crate) fn new() -> Self {
        let state = State {
            private: BTreeMap::new(),
            public: BTreeMap::new(),
            time_to_live: Duration::from_secs(2),
            mood: Mood::Answering,
            questions: Vec::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Gives a name these addresses in the private zone; none make it exist without addresses.
    pub fn set_private(&self, name: &str, addresses: &[Ipv4Addr]) {
        self.state().private.insert(name.to_owned(), addresses.to_vec());
    }

    /// Takes a name out of the private zone: from now on its public addresses are the answer.
    pub fn remove_private(&self, name: &str) {
        self.state().private.remove(name);
    }

    /// Gives a name public addresses.
    pub fn set_public(&self, name: &str, v4: Ipv4Addr, v6: Ipv6Addr) {
        self.state().public.insert(name.to_owned(), (v4, v6));
    }

    /// How long answers may be kept, in whole seconds (at first 2).
    pub fn set_time_to_live(&self, time: Duration) {
        self.state().time_to_live = time;
    }

    /// How all resolvers answer from now on.
    pub fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// Every question so far, in the order in which they came.
    pub fn questions(&self) -> Vec<Question> {
        self.state().questions.clone()
    }

    /// How many questions were asked so far.
    pub fn question_count(&self) -> usize {
        self.state().questions.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of the zone's halves a resolver sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// As from within the VPC.
    Vpc,
    /// As from anywhere.
    Public,
}

/// Starts a resolver on UDP and TCP port 53 of `address`, in the calling thread's namespace.
/// It runs until the runtime ends.
pub(crate) fn start(zone: &Arc<Zone>, view: View, address: IpAddr) -> Result<(), LabError> {
    let at = SocketAddr::new(address, 53);
    let cannot = |what: &str| format!("{what} {at}");
    let udp = std::net::UdpSocket::bind(at)
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            tokio::net::UdpSocket::from_std(socket)
        })
        .map_err(LabError::io(cannot("open UDP")))?;
    let mut server = Server::new(Resolver { zone: Arc::clone(zone), view, address });
    server.register_socket(udp);
    server.register_listener(listen(at)?, Duration::from_secs(10), 16);
    tokio::task::spawn_local(async move {
        if let Err(error) = server.block_until_done().await {
            tracing::error!(%at, %error, "the lab's resolver ended");
        }
    });
    Ok(())
}

#[derive(Debug)]
struct State {
    private: BTreeMap<String, Vec<Ipv4Addr>>,
    public: BTreeMap<String, (Ipv4Addr, Ipv6Addr)>,
    time_to_live: Duration,
    mood: Mood,
    questions: Vec<Question>,
}

struct Resolver {
    zone: Arc<Zone>,
    view: View,
    address: IpAddr,
}

impl Resolver {
    /// The addresses of a name, of either family; `None` when there is no such name.
    fn addresses(&self, state: &State, name: &str) -> Option<Vec<IpAddr>> {
        let private = state.private.get(name).filter(|_| self.view == View::Vpc);
        private.map(|list| list.iter().copied().map(IpAddr::from).collect()).or_else(|| {
            state.public.get(name).map(|(v4, v6)| vec![IpAddr::from(*v4), IpAddr::from(*v6)])
        })
    }

    fn answer(&self, request: &Request) -> (ResponseCode, Vec<Record>) {
        let Ok(info) = request.request_info() else {
            return (ResponseCode::FormErr, Vec::new());
        };
        let owner = info.query.original().name().clone();
        let name = info.query.name().to_string().trim_end_matches('.').to_owned();
        let kind = info.query.query_type();
        let mut state = self.zone.state();
        state.questions.push(Question {
            from: info.src.ip(),
            resolver: self.address,
            name: name.clone(),
            kind: kind.to_string(),
        });
        if state.mood == Mood::Failing {
            return (ResponseCode::ServFail, Vec::new());
        }
        let Some(addresses) = self.addresses(&state, &name) else {
            return (ResponseCode::NXDomain, Vec::new());
        };
        let seconds = u32::try_from(state.time_to_live.as_secs()).unwrap_or(u32::MAX);
        let data = addresses.into_iter().filter_map(|address| match (address, kind) {
            (IpAddr::V4(address), RecordType::A) => Some(RData::A(A(address))),
            (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(AAAA(address))),
            _ => None,
        });
        let records = data.map(|data| Record::from_rdata(owner.clone(), seconds, data)).collect();
        (ResponseCode::NoError, records)
    }
}

impl RequestHandler for Resolver {
    // The signature that `async_trait` makes of `async fn handle_request`, written out.
    fn handle_request<'this, 'request, 'future, R, T>(
        &'this self,
        request: &'request Request,
        mut response_handle: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'future>>
    where
        'this: 'future,
        'request: 'future,
        Self: 'future,
        R: ResponseHandler + 'future,
        T: Time + 'future,
    {
        Box::pin(async move {
            let (code, records) = self.answer(request);
            let mut metadata = Metadata::response_from_request(&request.metadata);
            metadata.response_code = code;
            metadata.recursion_available = true;
            let response = MessageResponseBuilder::from_message_request(request).build(
                metadata,
                &records,
                [],
                [],
                [],
            );
            let sent = response_handle.send_response(response).await;
            sent.unwrap_or_else(|_| Header { metadata, counts: HeaderCounts::default() }.into())
        })
    }
}

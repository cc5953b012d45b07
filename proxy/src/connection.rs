//! One client: requests in, responses out in the same order.
//!
//! Produce requests that follow each other are answered at the same time, each polled once before the next one is
//! read, so what they do before their first wait happens in wire order. Everything else runs alone, as in Kafka.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, Ready, ready};
use futures_util::stream::{FuturesOrdered, unfold};
use futures_util::{FutureExt, StreamExt, poll};
use krocket_protocol::ApiKey;
use krocket_stack::{BoxFuture, Connection, Handler};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::Limits;
use crate::budget::Budget;
use crate::quota::{Enforcer, Mute};
use crate::reader::{ReadError, Reader};
use crate::requests::RequestLog;
use crate::sasl::{Sasl, Session, enter};
use crate::service::{Answered, Call, CallError};
use crate::stream::Stream;
use crate::writer::{WriteError, Writer};

/// Bytes of requests that may wait behind the one that runs: enough to notice that a client with a long poll left.
const WAITING_BYTES: usize = 64 << 10;
/// How long a client may take to close its side once we have closed ours.
const LINGER: Duration = Duration::from_millis(500);

/// Why a connection ended, if not by the client's or our own choice.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What every connection of a listener shares.
pub(crate) struct Shared {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) budget: Arc<Budget>,
    /// Places of clients that have not proved who they are.
    pub(crate) strangers: Arc<Semaphore>,
    pub(crate) drain: CancellationToken,
    pub(crate) sasl: Option<Arc<Sasl>>,
    pub(crate) quotas: Option<Arc<Enforcer>>,
    pub(crate) requests: Arc<RequestLog>,
}

/// Serves one client until it leaves, errs, idles, or the listener drains.
pub(crate) async fn serve(stream: Stream, connection: Arc<Connection>, shared: &Shared) -> Result<(), ConnectionError> {
    let (source, sink) = stream.split();
    let mut reader = Reader::new(source, shared.limits.clone(), shared.budget.clone());
    let mut writer = Writer::new(sink, shared.limits.send_timeout);
    let ended = talk(&mut reader, &mut writer, connection, shared).await;
    let refused = matches!(ended, Err(ConnectionError::Call(_) | ConnectionError::Read(ReadError::Length { .. })));
    if refused || ended.is_ok() {
        writer.close().await;
    }
    if refused || matches!(ended, Ok(End::Drain)) {
        // Closing with unread bytes would reset the connection and take the last responses with it.
        let _ = timeout(LINGER, reader.discard()).await;
    }
    ended.map(drop)
}

/// How it ended, when it was not by an error.
async fn talk(
    reader: &mut Reader,
    writer: &mut Writer,
    connection: Arc<Connection>,
    shared: &Shared,
) -> Result<End, ConnectionError> {
    let limits = &shared.limits;
    let session = shared.sasl.clone().map(|sasl| Arc::new(Session::new(sasl)));
    if let Some(session) = &session {
        let _stranger = shared.strangers.try_acquire().map_err(|_| CallError::Crowded)?;
        let entered = Box::pin(enter(session, &connection, reader, writer, shared));
        let Some(entered) = shared.drain.run_until_cancelled(entered).await else { return Ok(End::Drain) };
        if !entered? {
            return Ok(End::Left);
        }
    }
    let mut frames = pin!(unfold(reader, async |reader: &mut Reader| {
        reader.next().await.transpose().map(|frame| (frame, reader))
    }));
    let mut pipeline = Pipeline::new(shared, session);
    let mut drain = pin!(shared.drain.cancelled());
    let mut idle = pin!(sleep(limits.idle));
    let mut active = Instant::now();
    let mut end: Option<Result<End, ConnectionError>> = None;
    let mut mute = Mute::default();

    loop {
        if end.is_some() {
            // Nothing more is read in any case.
            mute.end();
        }
        if !writer.is_full() && !mute.is_on() {
            pipeline.start().await;
        }
        if pipeline.is_empty()
            && writer.is_empty()
            && let Some(end) = end
        {
            return end;
        }
        tokio::select! {
            biased;
            sent = writer.flush(), if !writer.is_empty() => match sent {
                Ok(()) => active = Instant::now(),
                Err(_) if matches!(end, Some(Ok(End::Left))) => return Ok(End::Left),
                Err(error) => return Err(error.into()),
            },
            Some(answer) = pipeline.running.next(), if !writer.is_full() => {
                let mut answer = Some(answer);
                // What is answered at the same time is sent with one call.
                while let Some(next) = answer {
                    match next {
                        Ok(Answered { frame, throttle }) => {
                            writer.push(frame.unwrap_or_default());
                            if let Some(throttle) = throttle {
                                mute.begin(throttle);
                            }
                        }
                        Err(mut error) => {
                            if let CallError::Refused { answer, .. } = &mut error {
                                writer.push(std::mem::take(answer));
                            }
                            // What was answered before is still the client's.
                            let _ = writer.flush().await;
                            return Err(error.into());
                        }
                    }
                    answer = if writer.is_full() { None } else { pipeline.running.next().now_or_never().flatten() };
                }
            }
            frame = frames.next(), if end.is_none() && !mute.is_on() && pipeline.waiting_bytes < WAITING_BYTES => match frame {
                Some(Ok(frame)) => {
                    active = Instant::now();
                    match Call::new(frame, &connection) {
                        Ok(call) => pipeline.push(call),
                        Err(error) => end = Some(Err(error.into())),
                    }
                }
                Some(Err(error)) => {
                    pipeline.cancel(&[ApiKey::Fetch]);
                    end = Some(Err(error.into()));
                }
                None => {
                    pipeline.cancel(&[ApiKey::Fetch]);
                    end = Some(Ok(End::Left));
                }
            },
            () = mute.over(), if mute.is_on() => {}
            () = drain.as_mut(), if end.is_none() => {
                pipeline.cancel(&[ApiKey::Fetch, ApiKey::JoinGroup, ApiKey::SyncGroup]);
                end = Some(Ok(End::Drain));
            }
            () = idle.as_mut(), if end.is_none() && pipeline.is_empty() && writer.is_empty() => {
                if active.elapsed() >= limits.idle {
                    tracing::debug!(peer = %connection.peer, "closed an idle connection");
                    end = Some(Ok(End::Idle));
                }
                idle.as_mut().reset(active + limits.idle);
            }
        }
    }
}

/// Why nothing more is read. What was started before is finished all the same: dropping a request halfway is not safe.
enum End {
    /// The client closed its side.
    Left,
    /// The listener drains.
    Drain,
    /// No request for too long.
    Idle,
}

type Answer = Result<Answered, CallError>;
type Running = Either<Ready<Answer>, BoxFuture<'static, Answer>>;

/// One connection's requests between the reader and the writer.
struct Pipeline<'a> {
    shared: &'a Shared,
    session: Option<Arc<Session>>,
    running: FuturesOrdered<Running>,
    /// The API of what runs: several requests only of Produce.
    kind: ApiKey,
    waiting: VecDeque<Call>,
    waiting_bytes: usize,
    /// APIs that nobody waits for any more.
    cancelled: &'static [ApiKey],
}

impl<'a> Pipeline<'a> {
    fn new(shared: &'a Shared, session: Option<Arc<Session>>) -> Self {
        Pipeline {
            shared,
            session,
            running: FuturesOrdered::new(),
            kind: ApiKey::ApiVersions,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            cancelled: &[],
        }
    }

    fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    fn push(&mut self, call: Call) {
        self.waiting_bytes += call.size;
        self.waiting.push_back(call);
    }

    /// Starts what may run now and polls each once.
    async fn start(&mut self) {
        while let Some(next) = self.waiting.front()
            && self.may_run(next.head.api)
        {
            let call = self.waiting.pop_front().expect("it has a front");
            self.waiting_bytes -= call.size;
            if self.cancelled.contains(&call.head.api) {
                continue;
            }
            self.kind = call.head.api;
            let shared = self.shared;
            let asked = shared.requests.begin(&call.head, call.size);
            let answer = call.answer(shared.handler.clone(), self.session.clone(), shared.quotas.clone(), asked);
            let mut answer: BoxFuture<'static, Answer> = Box::pin(answer);
            self.running.push_back(match poll!(&mut answer) {
                Poll::Ready(answer) => Either::Left(ready(answer)),
                Poll::Pending => Either::Right(answer),
            });
        }
    }

    fn may_run(&self, api: ApiKey) -> bool {
        self.running.is_empty()
            || (api == ApiKey::Produce
                && self.kind == ApiKey::Produce
                && self.running.len() < self.shared.limits.pipelined_produces)
    }

    /// Drops requests that only wait for something to happen.
    fn cancel(&mut self, apis: &'static [ApiKey]) {
        self.cancelled = apis;
        if apis.contains(&self.kind) {
            self.running = FuturesOrdered::new();
        }
    }
}

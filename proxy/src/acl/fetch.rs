//! Fetch: Read on each topic.
//!
//! A request with topics that may not be read gets no session, so that every one of them says so again.

use kafka_protocol::messages::FetchRequest;
use krocket_protocol::ErrorCode;
use krocket_protocol::fetch::{FetchPartition, FetchResponse, FetchTopic};
use krocket_stack::security::Operation::Read;
use krocket_stack::{Body, Error, Handler, Request, Response};

use super::sessions::Session;
use super::{Ask, Authorizer};

const NO_SESSION: i32 = 0;
/// Ends a session, or none is wanted.
const FINAL_EPOCH: i32 = -1;

pub(super) async fn call(
    layer: &Authorizer,
    ask: &Ask<'_>,
    request: Request,
    next: &dyn Handler,
) -> Result<Response, Error> {
    let (head, mut message) = request.into_message::<FetchRequest>()?;
    let session = Session::Fetch(message.session_id);
    let incremental = message.session_id != NO_SESSION && message.session_epoch > 0;
    if incremental && !layer.0.sessions.goes_on(&session, ask) {
        return Ok(begin_anew());
    }
    let mut denied = Vec::new();
    message.topics.retain(|topic| {
        let allowed = ask.either(Read, &topic.topic, topic.topic_id);
        if !allowed {
            let partitions = topic.partitions.iter().map(|asked| refused(asked.partition)).collect();
            denied.push(FetchTopic { name: topic.topic.0.clone(), id: topic.topic_id, partitions });
        }
        allowed
    });
    if !denied.is_empty() {
        if incremental {
            layer.0.sessions.ended(&session);
            return Ok(begin_anew());
        }
        message.session_epoch = FINAL_EPOCH;
        message.forgotten_topics_data.clear();
    }
    let mut response = match message.topics.is_empty() && !denied.is_empty() {
        true => FetchResponse::default(),
        false => match next.call(Request::new(head, message)).await? {
            Response::Body(body) => body.into_fetch()?,
            Response::None => return Ok(Response::None),
        },
    };
    // A long poll may have outlived a permission.
    if layer.acls().version() != ask.version() {
        recheck(layer, ask, &mut response);
    }
    if response.session_id != NO_SESSION {
        layer.0.sessions.begun(Session::Fetch(response.session_id), ask);
    }
    response.topics.extend(denied);
    Ok(Response::Body(Body::Fetch(response)))
}

/// The client drops its session and names all of its partitions.
fn begin_anew() -> Response {
    let error_code = ErrorCode::FetchSessionIdNotFound.code();
    Response::Body(Body::Fetch(FetchResponse { error_code, ..FetchResponse::default() }))
}

fn refused(index: i32) -> FetchPartition {
    FetchPartition::error(index, ErrorCode::TopicAuthorizationFailed.code())
}

fn recheck(layer: &Authorizer, ask: &Ask<'_>, response: &mut FetchResponse) {
    let now = layer.ask(ask.connection());
    for topic in &mut response.topics {
        if !now.either(Read, &topic.name, topic.id) {
            topic.partitions.iter_mut().for_each(|partition| *partition = refused(partition.index));
        }
    }
}

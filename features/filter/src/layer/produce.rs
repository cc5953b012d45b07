//! Produce: views have no log to append to.

use krocket_protocol::ErrorCode;
use krocket_stack::{Error, Handler, Refusal, Request, Response};

use crate::registry::Shared;

pub(super) async fn call(shared: &Shared, request: Request, next: &dyn Handler) -> Result<Response, Error> {
    let (head, mut produce) = request.into_produce()?;
    let views = shared.all();
    for topic in &mut produce.topics {
        let Some(view) = views.find(&topic.name, topic.id) else { continue };
        for partition in topic.partitions.iter_mut().filter(|partition| partition.refused.is_none()) {
            let message = format!("'{}' is a view of '{}': produce to that topic", view.name, view.source);
            partition.refused = Some(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
    }
    next.call(Request::from_produce(head, produce)).await
}

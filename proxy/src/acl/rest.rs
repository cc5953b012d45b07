//! How a request goes on once it is decided about.

use std::any::Any;

use kafka_protocol::protocol::Decodable;
use krocket_protocol::ErrorCode;
use krocket_stack::{Error, Handler, Head, Message, Request, Response};

/// The next handler's answer to what is left of a request; an empty one where nothing is.
pub(super) async fn ask_rest<R: Decodable + Default + Any + Send>(
    head: Head,
    message: impl Message,
    next: &dyn Handler,
    nothing_left: bool,
) -> Result<R, Error> {
    if nothing_left {
        return Ok(R::default());
    }
    let version = head.version;
    next.call(Request::new(head, message)).await?.into_message(version)
}

/// Leaves those items in a request that `check` lets through. What `refuse` makes of the others is for the response; true
/// where items were asked for and none is left.
pub(super) fn sift<T, R>(
    items: &mut Vec<T>,
    check: impl Fn(&T) -> Result<(), ErrorCode>,
    refuse: impl Fn(&T, i16) -> R,
) -> (Vec<R>, bool) {
    let mut denied = Vec::new();
    items.retain(|item| match check(item) {
        Ok(()) => true,
        Err(code) => {
            denied.push(refuse(item, code.code()));
            false
        }
    });
    let nothing_left = items.is_empty() && !denied.is_empty();
    (denied, nothing_left)
}

/// A request that is answered as a whole or not at all.
pub(super) async fn whole<M, R>(
    request: Request,
    next: &dyn Handler,
    check: impl FnOnce(&M) -> Result<(), ErrorCode>,
    refuse: impl FnOnce(M, i16) -> R,
) -> Result<Response, Error>
where
    M: Decodable + Message,
    R: Message,
{
    let (head, message) = request.into_message::<M>()?;
    match check(&message) {
        Ok(()) => next.call(Request::new(head, message)).await,
        Err(code) => Ok(Response::new(refuse(message, code.code()))),
    }
}

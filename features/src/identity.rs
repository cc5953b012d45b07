//! The layer that does nothing: what it costs to be in the stack, and proof that passing through decodes nothing.

use krocket_protocol::ApiKey;
use krocket_stack::{BoxFuture, Error, Handler, Layer, Request, Response};

/// Wants every request and hands each on as it came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity;

impl Layer for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn wants(&self, _api: ApiKey) -> bool {
        true
    }

    fn call<'a>(&'a self, request: Request, next: &'a dyn Handler) -> BoxFuture<'a, Result<Response, Error>> {
        next.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use bytes::Bytes;
    use krocket_stack::{Body, Connection, Head, Stack};

    /// Answers with the request's own bytes.
    struct Echo;

    impl Handler for Echo {
        fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Error>> {
            Box::pin(async move { Ok(Response::Body(request.body)) })
        }
    }

    #[tokio::test]
    async fn untouched_bytes_pass_undecoded_and_uncopied() {
        let stack = Stack::new(Arc::new(Echo)).layer(Identity).layer(Identity).build();
        // Not a Produce request: decoding it would fail.
        let bytes = Bytes::from_static(b"\xff\xff not a message \xff\xff");
        let head = Head {
            api: ApiKey::Produce,
            version: 9,
            client_id: None,
            connection: Arc::new(Connection::internal("test")),
        };

        let response = stack.call(Request { head, body: Body::Raw(bytes.clone()) }).await;

        let Ok(Response::Body(Body::Raw(answer))) = response else { panic!("the body was decoded") };
        assert_eq!((answer.as_ptr(), answer.len()), (bytes.as_ptr(), bytes.len()));
    }
}

//! A broker on a folder of its own, asked as a client asks: every request and answer goes through its bytes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable};
use krocket_protocol::{ApiKey, ErrorCode, StrBytes};
use krocket_stack::{Body, Connection, Error, Handler, Head, Request, Response};
use tempfile::TempDir;

use crate::{Broker, Settings};

/// A broker and its folder.
pub(crate) struct TestBroker {
    pub(crate) broker: Arc<Broker>,
    dir: TempDir,
    settings: Settings,
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        TestBroker::with(&[]).await
    }

    /// With these broker configs in its file.
    pub(crate) async fn with(configs: &[(&str, &str)]) -> Self {
        let configs: BTreeMap<_, _> =
            configs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        TestBroker::settings(Settings { node_id: 7, configs, ..Settings::default() }).await
    }

    pub(crate) async fn settings(settings: Settings) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        TestBroker { broker: open(dir.path(), &settings).await, dir, settings }
    }

    /// Stops it and starts it again on the same folder.
    pub(crate) async fn restart(self) -> Self {
        let TestBroker { broker, dir, settings } = self;
        // The log's own threads may hold it for a moment.
        let closing = tokio::task::spawn_blocking(move || {
            broker.log.close().expect("closed");
            let last = Arc::downgrade(&broker);
            drop(broker);
            last
        });
        let last = closing.await.expect("no panic");
        assert_eq!(last.strong_count(), 0, "somebody still holds the broker");
        TestBroker { broker: open(dir.path(), &settings).await, dir, settings }
    }

    /// Asks and gets the answer.
    pub(crate) async fn ask<M, R>(&self, api: ApiKey, version: i16, request: M) -> R
    where
        M: Encodable,
        R: Decodable,
    {
        self.try_ask(api, version, request).await.expect("an answer")
    }

    /// Asks and gets the answer, or what ends the connection.
    pub(crate) async fn try_ask<M, R>(&self, api: ApiKey, version: i16, request: M) -> Result<R, Error>
    where
        M: Encodable,
        R: Decodable,
    {
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).expect("a request of this version");
        let connection = Arc::new(Connection { id: 1, ..Connection::internal("test") });
        let head = Head { api, version, client_id: None, connection };
        let request = Request { head, body: Body::Raw(bytes.freeze()) };
        let Response::Body(body) = self.broker.call(request).await? else { panic!("no answer") };
        let mut bytes = body.encode(version).expect("an answer of this version").buffer.freeze();
        let response = R::decode(&mut bytes, version).expect("its own bytes");
        assert!(bytes.is_empty(), "{} bytes after the answer", bytes.len());
        Ok(response)
    }
}

async fn open(dir: &Path, settings: &Settings) -> Arc<Broker> {
    let (dir, settings) = (dir.to_owned(), settings.clone());
    let opening = tokio::task::spawn_blocking(move || Broker::open(&dir, settings));
    opening.await.expect("no panic").expect("a broker")
}

/// A topic name field.
pub(crate) fn topic(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

/// A string field.
pub(crate) fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// The test broker's own id.
pub(crate) const NODE: BrokerId = BrokerId(7);

/// What a code is called; `None` for success.
pub(crate) fn error(code: i16) -> Option<ErrorCode> {
    (code != 0).then(|| ErrorCode::try_from_code(code).expect("a known code"))
}

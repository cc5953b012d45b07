//! The views there are, as the topics' configs say.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use krocket_config::rules::Live;
use krocket_stack::ledger::{TopicInfo, tables};
use krocket_stack::{Connection, Handler, Ledger, LedgerError};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::expression::Expression;
use crate::row::Progress;
use crate::view::{AUTO, FILTER, Part, SOURCE, View};

/// What the layer, the workers and the HTTP endpoints share.
pub(crate) struct Shared {
    pub(crate) ledger: Arc<dyn Ledger>,
    /// Below the layer.
    pub(crate) next: Arc<dyn Handler>,
    pub(crate) rules: Live,
    pub(crate) connection: Arc<Connection>,
    all: ArcSwap<All>,
    refreshing: Mutex<()>,
    /// Told when the set of views changed.
    pub(crate) changed: Notify,
}

/// All views at some moment.
#[derive(Debug, Default)]
pub(crate) struct All {
    pub(crate) by_name: HashMap<String, Arc<View>>,
    pub(crate) by_id: HashMap<Uuid, Arc<View>>,
}

impl All {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(crate) fn name(&self, name: &str) -> Option<&Arc<View>> {
        self.by_name.get(name)
    }

    /// As a request names it: by id where there is one.
    pub(crate) fn find(&self, name: &str, id: Uuid) -> Option<&Arc<View>> {
        if id.is_nil() { self.by_name.get(name) } else { self.by_id.get(&id) }
    }
}

/// What a topic's configs say: its source and its filter. `None` for an ordinary topic.
pub(crate) fn configured(ledger: &dyn Ledger, topic: &str) -> Option<(String, String)> {
    let source = ledger.topic_config(topic, SOURCE).filter(|source| !source.is_empty())?;
    Some((source, ledger.topic_config(topic, FILTER).unwrap_or_default()))
}

impl Shared {
    pub(crate) fn new(ledger: Arc<dyn Ledger>, next: Arc<dyn Handler>, rules: Live) -> Self {
        let shared = Shared {
            ledger,
            next,
            rules,
            connection: Arc::new(Connection::internal("krocket")),
            all: ArcSwap::default(),
            refreshing: Mutex::default(),
            changed: Notify::new(),
        };
        shared.refresh();
        shared
    }

    pub(crate) fn all(&self) -> Arc<All> {
        self.all.load_full()
    }

    /// Reads the topics again. Views that did not change stay the same object, with their state.
    pub(crate) fn refresh(&self) {
        let _one = self.refreshing.lock();
        let old = self.all();
        let mut new = All::default();
        let mut changed = false;
        for topic in self.ledger.topics() {
            let Some((source, text)) = configured(&*self.ledger, &topic.name) else { continue };
            let view = self.view(&topic, source, text);
            let view = match old.name(&topic.name) {
                Some(old) if old.same(&view) => old.clone(),
                _ => {
                    changed = true;
                    Arc::new(view)
                }
            };
            new.by_name.insert(topic.name.to_string(), view.clone());
            new.by_id.insert(topic.id, view);
        }
        changed |= new.by_name.len() != old.by_name.len();
        if !changed {
            return;
        }
        let new = Arc::new(new);
        self.all.store(new.clone());
        for (name, view) in &old.by_name {
            if !new.name(name).is_some_and(|now| Arc::ptr_eq(now, view)) {
                view.replaced.cancel();
            }
        }
        self.changed.notify_one();
    }

    fn view(&self, topic: &TopicInfo, source: String, text: String) -> View {
        let found = self.ledger.topic(&source);
        let pairs = found.iter().flat_map(|found| topic.partitions.iter().zip(&found.partitions));
        let part = |(id, source): (&u32, &u32)| Arc::new(Part::new(*id, self.stored(*id, *source, &text), *source));
        View {
            partitions: pairs.map(part).collect(),
            name: topic.name.clone(),
            id: topic.id,
            source_id: found.as_ref().map(|found| found.id),
            source: source.into(),
            filter: Expression::parse(&text),
            text,
            auto: self.ledger.topic_config(&topic.name, AUTO).as_deref() == Some("true"),
            replaced: CancellationToken::new(),
        }
    }

    /// What is indexed of a partition, if it is of this source and this filter.
    fn stored(&self, id: u32, source: u32, text: &str) -> Option<Progress> {
        let value = match self.ledger.get(tables::VIEWS, &id.to_be_bytes()) {
            Ok(value) => value?,
            Err(error) => {
                tracing::error!(%error, "the progress of a view cannot be read: it is indexed again");
                return None;
            }
        };
        let (progress, filter) = Progress::decode(&value)?;
        (progress.source == source && filter == text.as_bytes()).then_some(progress)
    }

    /// Runs what may block on the disk.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let ledger = self.ledger.clone();
        let done = tokio::task::spawn_blocking(move || work(&*ledger)).await;
        done.map_err(|_| LedgerError("a worker ended early".to_owned()))?
    }
}

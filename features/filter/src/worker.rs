//! What runs beside the layer: an indexing task per view, and the reconciling of topics with the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use krocket_protocol::ErrorCode;
use krocket_stack::ledger::tables;
use krocket_stack::{LedgerError, Row};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::index::{rows_of, step};
use crate::metrics::METRICS;
use crate::registry::{Shared, configured};
use crate::view::View;

/// After an error, before the next try.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let indexing = index_all(shared.clone(), stop.clone());
    let reconciling = reconcile(shared, stop);
    tokio::join!(indexing, reconciling);
}

/// Follows topics and rules.
async fn reconcile(shared: Arc<Shared>, stop: CancellationToken) {
    let mut rules = shared.rules.subscribe();
    let mut told = HashMap::new();
    loop {
        // Asked for before the topics are read, so no change is missed.
        let topics = shared.ledger.topics_changed();
        shared.refresh();
        shared.grow().await;
        configure(&shared, &mut told).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = topics => {}
            changed = rules.changed() => if changed.is_err() { stop.cancelled().await },
        }
    }
}

/// Makes the configured views what the configuration says. `told` are the complaints that were logged already.
async fn configure(shared: &Shared, told: &mut HashMap<String, String>) {
    for view in &shared.rules.get().views {
        let done = match (shared.ledger.topic(&view.name), configured(&*shared.ledger, &view.name)) {
            (None, _) => shared.create(&*shared.next, &view.name, &view.source, &view.filter, false).await,
            (Some(_), None) => Err(crate::define::Refused {
                code: ErrorCode::TopicAlreadyExists,
                message: "there is an ordinary topic of that name".to_owned(),
            }),
            (Some(_), Some((source, filter))) => {
                let auto = shared.all().name(&view.name).is_some_and(|view| view.auto);
                match source == view.source && filter == view.filter && !auto {
                    true => Ok(()),
                    false => shared.alter(&view.name, &view.source, &view.filter).await,
                }
            }
        };
        match done {
            Ok(()) => drop(told.remove(&view.name)),
            Err(why) if told.get(&view.name) == Some(&why.message) => {}
            Err(why) => {
                tracing::warn!(view = view.name, source = view.source, %why, "a configured view cannot be made");
                told.insert(view.name.clone(), why.message);
            }
        }
    }
}

/// Keeps one task per view.
async fn index_all(shared: Arc<Shared>, stop: CancellationToken) {
    let mut tasks: HashMap<Uuid, (Arc<View>, JoinHandle<()>)> = HashMap::new();
    loop {
        let all = shared.all();
        let gone: Vec<Uuid> = tasks
            .iter()
            .filter(|(id, (view, _))| !all.by_id.get(*id).is_some_and(|now| Arc::ptr_eq(now, view)))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let Some((view, task)) = tasks.remove(&id) else { continue };
            view.replaced.cancel();
            if let Err(error) = task.await {
                tracing::error!(%error, view = %view.name, "the indexing of a view ended early");
            }
            if !all.by_id.contains_key(&id) {
                METRICS.forget(&view.name);
            }
        }
        if let Err(error) = forget_rows(&shared).await {
            tracing::error!(%error, "the index of deleted views could not be removed");
        }
        for (id, view) in &all.by_id {
            if !tasks.contains_key(id) && view.filter.is_ok() {
                let task = tokio::spawn(index(shared.clone(), view.clone(), stop.clone()));
                tasks.insert(*id, (view.clone(), task));
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = shared.changed.notified() => {}
        }
    }
    for (_, (view, task)) in tasks {
        if let Err(error) = task.await {
            tracing::error!(%error, view = %view.name, "the indexing of a view ended early");
        }
    }
}

/// Removes what was derived for views that are no more.
async fn forget_rows(shared: &Arc<Shared>) -> Result<(), LedgerError> {
    let all = shared.all();
    let known = |id: u32| all.by_id.values().any(|view| view.partitions.iter().any(|part| part.id == id));
    let mut stored = Vec::new();
    shared.ledger.scan(tables::VIEWS, &[], &mut |key, _| {
        stored.extend(key.try_into().ok().map(u32::from_be_bytes));
        true
    })?;
    for id in stored.into_iter().filter(|id| !known(*id)) {
        let removed = shared.blocking(move |ledger| {
            loop {
                let (mut rows, more) = rows_of(ledger, id, i64::MAX)?;
                if !more {
                    rows.push(Row::delete(tables::VIEWS, id.to_be_bytes()));
                }
                ledger.derive(rows)?;
                if !more {
                    return Ok(());
                }
            }
        });
        removed.await?;
    }
    Ok(())
}

/// Follows the sources of one view's partitions.
async fn index(shared: Arc<Shared>, view: Arc<View>, stop: CancellationToken) {
    let ids: Vec<u32> = view.partitions.iter().map(|part| part.source).collect();
    let mut watching = shared.ledger.watch(&ids);
    loop {
        let ended = || stop.is_cancelled() || view.replaced.is_cancelled();
        let mut failed = false;
        let mut busy = true;
        while busy && !ended() {
            let worked = shared.blocking({
                let view = view.clone();
                move |ledger| {
                    let Ok(filter) = &view.filter else { return Ok(false) };
                    let mut busy = false;
                    for part in &view.partitions {
                        busy |= step(ledger, &view, filter, part)?;
                    }
                    let lag = |part: &crate::view::Part| {
                        let next = part.state.borrow().progress.next;
                        ledger.partition(part.source).map_or(0, |source| (source.end - next).max(0))
                    };
                    let lag = view.partitions.iter().map(|part| lag(part)).sum();
                    METRICS.lag.with_label_values(&[view.name.as_str()]).set(lag);
                    Ok(busy)
                }
            });
            busy = worked.await.unwrap_or_else(|error| {
                tracing::error!(%error, view = %view.name, "a view cannot be indexed");
                failed = true;
                false
            });
        }
        if ended() {
            return;
        }
        let changed = watching.changed();
        let wake = async {
            if failed {
                tokio::time::sleep(RETRY).await;
            } else {
                changed.await;
            }
        };
        let ended = select(Box::pin(stop.cancelled()), Box::pin(view.replaced.cancelled()));
        if let Either::Right(_) = select(Box::pin(wake), ended).await {
            return;
        }
    }
}

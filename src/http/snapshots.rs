//! /v1/snapshots: the log's files as they are at one moment, for `krocket backup`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use krocket_broker::Broker;
use krocket_broker::log::Log;
use krocket_features::http::{ErrorBody, Problem};
use krocket_protocol::chunk::FileSlice;
use krocket_store::{FORMAT_VERSION, Snapshot};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A snapshot that nobody reads from is let go of after this.
const LEASE: Duration = Duration::from_secs(600);
/// Snapshots at a time: each keeps files open, and the space of those that are cleaned away meanwhile.
const MAX_SNAPSHOTS: usize = 4;
/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// The endpoints, for the broker's log.
pub fn routes(broker: &Broker) -> OpenApiRouter {
    let held = Held { log: broker.log.clone(), cluster_id: broker.cluster_id.as_str().into(), held: Arc::default() };
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(file)).routes(routes!(release)).with_state(held)
}

#[derive(Clone)]
struct Held {
    log: Log,
    cluster_id: Arc<str>,
    held: Arc<Mutex<HashMap<String, Lease>>>,
}

struct Lease {
    snapshot: Arc<Snapshot>,
    used: Instant,
}

/// The log up to a position. Its files can be read until it is released, or ten minutes after the last read.
#[derive(Serialize, ToSchema)]
struct SnapshotView {
    /// Names it in the other calls.
    id: String,
    /// Version of what is in the files.
    format: u32,
    /// The log's id, hexadecimal.
    log_id: String,
    /// Which history of the log this is: another one after a backup was restored.
    lineage: String,
    /// The cluster's id.
    cluster_id: String,
    /// When it was taken, epoch ms.
    created_ms: i64,
    /// Everything before this position of the log is in it.
    position: u64,
    /// In order.
    files: Vec<FileView>,
}

/// A segment file.
#[derive(Serialize, ToSchema)]
struct FileView {
    /// Its name.
    name: String,
    /// Bytes from its start that belong to the snapshot. They never change while the name and the lineage are the same.
    len: u64,
}

/// Syncs the log and takes hold of its files.
#[utoipa::path(
    post, path = "/v1/snapshots", tag = "snapshots",
    responses((status = 201, body = SnapshotView), (status = 409, body = ErrorBody))
)]
async fn create(State(held): State<Held>) -> Result<(StatusCode, Json<SnapshotView>), Problem> {
    let log = held.log.clone();
    let taken = tokio::task::spawn_blocking(move || log.snapshot()).await;
    let snapshot = taken.map_err(|error| error.to_string()).and_then(|taken| taken.map_err(|error| error.to_string()));
    let snapshot = Arc::new(snapshot.map_err(Problem::unavailable)?);
    let id = uuid::Uuid::new_v4().simple().to_string();
    let mut leases = held.held.lock();
    leases.retain(|_, lease| lease.used.elapsed() < LEASE);
    if leases.len() >= MAX_SNAPSHOTS {
        return Err(Problem::conflict(format!("{MAX_SNAPSHOTS} snapshots are held already: release one, or wait")));
    }
    leases.insert(id.clone(), Lease { snapshot: snapshot.clone(), used: Instant::now() });
    let files = snapshot.files.iter().map(|file| FileView { name: file.name.clone(), len: file.len });
    let view = SnapshotView {
        id,
        format: FORMAT_VERSION,
        log_id: format!("{:016x}", snapshot.log_id),
        lineage: snapshot.lineage.clone(),
        cluster_id: held.cluster_id.to_string(),
        created_ms: held.log.clock().now_ms(),
        position: snapshot.end,
        files: files.collect(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Where to begin.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
struct From {
    /// First byte to send [default: 0].
    #[serde(default)]
    offset: u64,
}

/// The bytes of a file, from an offset to its length in the snapshot.
#[utoipa::path(
    get, path = "/v1/snapshots/{id}/files/{name}", tag = "snapshots",
    params(("id" = String, Path, description = "The snapshot"), ("name" = String, Path, description = "The file"), From),
    responses(
        (status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody)
    )
)]
async fn file(
    State(held): State<Held>,
    Path((id, name)): Path<(String, String)>,
    Query(from): Query<From>,
) -> Result<Response, Problem> {
    let snapshot = held.touch(&id).ok_or_else(|| gone(&id))?;
    let found = snapshot.files.iter().find(|file| file.name == name);
    let found = found.ok_or_else(|| Problem::not_found(format!("the snapshot has no file {name}")))?;
    if from.offset > found.len {
        return Err(Problem::bad_request(format!("`offset` is beyond the file's {} bytes", found.len)));
    }
    let (file, len) = (found.file.clone(), found.len);
    let pieces = stream::try_unfold(from.offset, move |offset| {
        let (held, id) = (held.clone(), id.clone());
        let part = usize::try_from(len - offset).unwrap_or(PIECE).min(PIECE);
        let slice = FileSlice { file: file.clone(), offset, len: part };
        async move {
            if part == 0 {
                return Ok(None);
            }
            held.touch(&id);
            let read = tokio::task::spawn_blocking(move || slice.read()).await.map_err(std::io::Error::other)?;
            read.map(|bytes: Bytes| Some((bytes, offset + part as u64)))
        }
    });
    Ok(([(CONTENT_TYPE, "application/octet-stream")], Body::from_stream(pieces)).into_response())
}

/// Lets go of a snapshot.
#[utoipa::path(
    delete, path = "/v1/snapshots/{id}", tag = "snapshots",
    params(("id" = String, Path, description = "The snapshot")),
    responses((status = 204), (status = 404, body = ErrorBody))
)]
async fn release(State(held): State<Held>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    held.held.lock().remove(&id).map(|_| StatusCode::NO_CONTENT).ok_or_else(|| gone(&id))
}

fn gone(id: &str) -> Problem {
    Problem::not_found(format!(
        "there is no snapshot {id}, or it was not read from for {} minutes",
        LEASE.as_secs() / 60
    ))
}

impl Held {
    /// The snapshot, held on to for longer.
    fn touch(&self, id: &str) -> Option<Arc<Snapshot>> {
        let mut leases = self.held.lock();
        leases.retain(|_, lease| lease.used.elapsed() < LEASE);
        let lease = leases.get_mut(id)?;
        lease.used = Instant::now();
        Some(lease.snapshot.clone())
    }
}

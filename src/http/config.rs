//! GET /v1/config

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use krocket_features::http::Problem;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::reload::Current;

pub(super) fn routes(current: Arc<Current>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(config)).with_state(current)
}

/// What holds now.
#[derive(Serialize, ToSchema)]
struct InForce {
    /// The file that is followed; none if krocket was started without.
    file: Option<String>,
    /// When the rules were taken over, epoch ms.
    since_ms: u64,
    /// Changes of the file that were taken over.
    reloads_ok: u64,
    /// Changes of the file that were refused.
    reloads_failed: u64,
    /// Why the file as it is now is refused, with line and caret; none when it is in force.
    error: Option<String>,
    /// Changed sections that need a restart; they are shown as the file has them.
    restart_needed: Vec<&'static str>,
    /// All sections as in the TOML file. `rules`, `views`, `retry` and `names` are what holds now.
    #[schema(value_type = Object)]
    config: serde_json::Value,
}

/// The configuration in force and how its last reload went.
#[utoipa::path(get, path = "/v1/config", tag = "config", responses((status = 200, body = InForce)))]
async fn config(State(current): State<Arc<Current>>) -> Result<Json<InForce>, Problem> {
    let state = current.state();
    let config = serde_json::to_value(&*current.config());
    Ok(Json(InForce {
        file: current.file().map(|file| file.display().to_string()),
        since_ms: state.since_ms,
        reloads_ok: state.taken,
        reloads_failed: state.refused,
        error: state.error,
        restart_needed: state.restart,
        config: config.map_err(|error| Problem::unavailable(error.to_string()))?,
    }))
}

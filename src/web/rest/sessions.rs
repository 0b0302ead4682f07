//! Sessions: who is connected, and ending one.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use serde::Serialize;

use crate::{
    actors::{
        Shared,
        gateway::{self, SessionInfo},
    },
    web::problem::Problem,
};

#[derive(Serialize)]
struct SessionList {
    sessions: Vec<SessionInfo>,
}

/// `GET /sessions`
pub async fn list(shared: Data<Shared>) -> HttpResponse {
    let sessions = gateway::sessions(&shared).await;
    HttpResponse::Ok().json(SessionList { sessions })
}

/// `DELETE /sessions/{session}`
pub async fn delete(shared: Data<Shared>, session: Path<String>) -> Result<HttpResponse, Problem> {
    if gateway::disconnect(&shared, &session).await {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(Problem::not_found("there is no session of that id"))
    }
}

//! Whether the process lives, and whether it can be used.

use actix_web::{HttpResponse, web::Data};
use callboard_protocol::{ErrorCode, error::Refusal};

use super::problem::Problem;
use crate::actors::Shared;

/// `GET /healthz`: the process answers, which is all that a supervisor must know.
pub async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "ok" }))
}

/// `GET /readyz`: every topic that is kept can be used, and no shutdown has begun.
pub async fn readyz(shared: Data<Shared>) -> Result<HttpResponse, Problem> {
    if shared.is_shutting_down() {
        let refusal = Refusal::new(ErrorCode::ShuttingDown, "the broker is shutting down");
        return Err(refusal.into());
    }
    if !shared.is_ready() {
        return Err(Refusal::new(ErrorCode::Overloaded, "the broker is starting").into());
    }
    Ok(HttpResponse::Ok().json(serde_json::json!({ "status": "ready" })))
}

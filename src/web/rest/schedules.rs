//! Records that are to be delivered later: look at them, cancel one.

use actix_web::{
    HttpResponse,
    web::{Data, Path, Query},
};
use serde::Deserialize;

use crate::{
    actors::{
        Shared,
        gateway::{
            self,
            schedules::{self, PAGE_RECORDS_MAX},
        },
    },
    web::problem::Problem,
};

/// Records on a page if it is not said.
const PAGE_RECORDS_DEFAULT: usize = 100;

/// Which part of the list.
#[derive(Deserialize)]
pub struct ListQuery {
    limit: Option<u64>,
    /// As the page before said it.
    next: Option<String>,
}

/// `GET /topics/{topic}/scheduled`
pub async fn list(
    shared: Data<Shared>,
    topic: Path<String>,
    query: Query<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let topic = gateway::topic(&shared, &topic)?;
    let limit = query.limit.map_or(PAGE_RECORDS_DEFAULT, |limit| {
        usize::try_from(limit).unwrap_or(PAGE_RECORDS_MAX)
    });
    let page = schedules::scheduled(&shared, &topic, limit, query.next.as_deref()).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// `DELETE /topics/{topic}/scheduled/{scheduled}`
pub async fn cancel(shared: Data<Shared>, path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (topic, id) = path.into_inner();
    let topic = gateway::topic(&shared, &topic)?;
    if schedules::cancel(&shared, &topic, &id).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(Problem::not_found(
            "nothing is scheduled under that id; it may have been delivered",
        ))
    }
}

//! Topics: list, create, look at, change, delete.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Payload, Query},
};
use callboard_protocol::{ErrorCode, error::Refusal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body::{self, Expect};
use crate::{
    actors::{
        Shared,
        broker::Want,
        directory::list_order,
        gateway::{self, TopicInfo},
    },
    web::problem::Problem,
};

/// Topics on one page of the list.
const PAGE_TOPICS_MAX: usize = 1000;

/// Which part of the list.
#[derive(Deserialize)]
pub struct ListQuery {
    /// As the page before said it.
    next: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct TopicList {
    topics: Vec<TopicInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /topics`
pub async fn list(shared: Data<Shared>, query: Query<ListQuery>) -> HttpResponse {
    let limit = query.limit.unwrap_or(PAGE_TOPICS_MAX).clamp(1, PAGE_TOPICS_MAX);
    let all = shared.directory.all();
    let start = match &query.next {
        None => 0,
        Some(last) => all.partition_point(|topic| list_order(topic.name.as_str()) <= list_order(last)),
    };
    let page = &all[start..];
    let next = (page.len() > limit).then(|| page[limit - 1].name.to_string());
    let topics = page
        .iter()
        .take(limit)
        .map(|topic| gateway::describe(topic))
        .collect();
    HttpResponse::Ok().json(TopicList { topics, next })
}

/// `POST /topics`
pub async fn create(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
) -> Result<HttpResponse, Problem> {
    let body = body::read(&request, payload, Expect::Object).await?;
    let bad = |message: String| Refusal::new(ErrorCode::BadFrame, message);
    let mut fields: Map<String, Value> = serde_json::from_str(body.text())
        .map_err(|error| bad(format!("a topic is a JSON object with a name: {error}")))?;
    let Some(Value::String(name)) = fields.remove("name") else {
        return Err(bad("a topic needs a name, which is a string".into()).into());
    };
    let config = Value::Object(fields).to_string();
    let topic = gateway::topic_or_new(&shared, &name, Want::New { config }).await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/api/v1/topics/{}", topic.name)))
        .json(gateway::describe(&topic)))
}

/// `GET /topics/{topic}`
pub async fn get(shared: Data<Shared>, topic: Path<String>) -> Result<HttpResponse, Problem> {
    let topic = gateway::topic(&shared, &topic)?;
    Ok(HttpResponse::Ok().json(gateway::describe(&topic)))
}

/// `PATCH /topics/{topic}`
pub async fn patch(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
    topic: Path<String>,
) -> Result<HttpResponse, Problem> {
    let body = body::read(&request, payload, Expect::Object).await?;
    let topic = gateway::patch_topic(&shared, &topic, body.text().to_owned()).await?;
    Ok(HttpResponse::Ok().json(gateway::describe(&topic)))
}

/// `DELETE /topics/{topic}`
pub async fn delete(shared: Data<Shared>, topic: Path<String>) -> Result<HttpResponse, Problem> {
    gateway::delete_topic(&shared, &topic).await?;
    Ok(HttpResponse::NoContent().finish())
}

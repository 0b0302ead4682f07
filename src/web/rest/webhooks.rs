//! Webhooks: list, create, look at, enable, disable, delete.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Payload},
};
use callboard_protocol::{ErrorCode, error::Refusal};
use serde::Serialize;
use serde_json::{Map, Value};

use super::body::{self, Expect};
use crate::{
    actors::{
        Shared,
        gateway::webhooks::{self, NewWebhook, WebhookInfo},
        webhook::registry::WebhookRef,
    },
    web::problem::Problem,
};

#[derive(Serialize)]
struct WebhookList {
    webhooks: Vec<WebhookInfo>,
}

fn found(shared: &Shared, id: &str) -> Result<Arc<WebhookRef>, Problem> {
    shared
        .webhooks
        .get(id)
        .ok_or_else(|| Problem::not_found("there is no webhook of that id"))
}

/// `GET /webhooks`
pub async fn list(shared: Data<Shared>) -> HttpResponse {
    let webhooks = webhooks::list(&shared);
    HttpResponse::Ok().json(WebhookList { webhooks })
}

/// `POST /webhooks`
pub async fn create(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
) -> Result<HttpResponse, Problem> {
    let body = body::read(&request, payload, Expect::Object).await?;
    let wish = new_webhook(body.text())?;
    let made = webhooks::create(&shared, wish).await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("/api/v1/webhooks/{}", made.id)))
        .json(made))
}

/// `GET /webhooks/{webhook}`
pub async fn get(shared: Data<Shared>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let webhook = found(&shared, &id)?;
    Ok(HttpResponse::Ok().json(webhooks::describe(&webhook)))
}

/// `DELETE /webhooks/{webhook}`
pub async fn delete(shared: Data<Shared>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let webhook = found(&shared, &id)?;
    webhooks::delete(&shared, &webhook).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /webhooks/{webhook}/enable`
pub async fn enable(shared: Data<Shared>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let webhook = found(&shared, &id)?;
    Ok(HttpResponse::Ok().json(webhooks::enable(&shared, &webhook).await?))
}

/// `POST /webhooks/{webhook}/disable`
pub async fn disable(shared: Data<Shared>, id: Path<String>) -> Result<HttpResponse, Problem> {
    let webhook = found(&shared, &id)?;
    Ok(HttpResponse::Ok().json(webhooks::disable(&shared, &webhook).await?))
}

/// Reads what is asked for. A misspelt field would silently be a default.
fn new_webhook(body: &str) -> Result<NewWebhook, Refusal> {
    let fields: Map<String, Value> = serde_json::from_str(body).map_err(|error| {
        let message = format!("a webhook is a JSON object with topic, group and url: {error}");
        Refusal::new(ErrorCode::BadFrame, message)
    })?;
    let mut wish = NewWebhook::default();
    for (name, value) in fields {
        match name.as_str() {
            "topic" => wish.topic = text(&name, value)?,
            "group" => wish.group = text(&name, value)?,
            "url" => wish.url = text(&name, value)?,
            "secret" => wish.secret = optional(&name, value, text)?,
            "concurrency" => wish.concurrency = optional(&name, value, number)?,
            "timeout_ms" => wish.timeout_ms = optional(&name, value, number)?,
            "format" => wish.format = optional(&name, value, text)?,
            _ => return Err(invalid(format!("a webhook has no field {name}"))),
        }
    }
    for (name, value) in [("topic", &wish.topic), ("group", &wish.group), ("url", &wish.url)] {
        if value.is_empty() {
            return Err(invalid(format!("a webhook needs a {name}")));
        }
    }
    Ok(wish)
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidArgument, message)
}

fn text(name: &str, value: Value) -> Result<String, Refusal> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(invalid(format!("{name} is a string"))),
    }
}

fn number(name: &str, value: Value) -> Result<u64, Refusal> {
    value
        .as_u64()
        .ok_or_else(|| invalid(format!("{name} is a whole number")))
}

fn optional<T>(
    name: &str,
    value: Value,
    read: impl Fn(&str, Value) -> Result<T, Refusal>,
) -> Result<Option<T>, Refusal> {
    if value.is_null() {
        return Ok(None);
    }
    read(name, value).map(Some)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_webhook_are_read_and_others_refused() {
        let wish = new_webhook(
            r#"{"topic":"a","group":"b","url":"c","concurrency":3,"timeout_ms":null,"format":"payload"}"#,
        )
        .unwrap();
        assert_eq!(
            (wish.topic.as_str(), wish.group.as_str(), wish.url.as_str()),
            ("a", "b", "c")
        );
        assert_eq!((wish.concurrency, wish.timeout_ms), (Some(3), None));
        assert_eq!((wish.format.as_deref(), wish.secret), (Some("payload"), None));
        for (body, code) in [
            ("", ErrorCode::BadFrame),
            ("[]", ErrorCode::BadFrame),
            ("{}", ErrorCode::InvalidArgument),
            (r#"{"topic":"a","group":"b"}"#, ErrorCode::InvalidArgument),
            (r#"{"topic":"a","group":"b","url":7}"#, ErrorCode::InvalidArgument),
            (
                r#"{"topic":"a","group":"b","url":"c","retries":7}"#,
                ErrorCode::InvalidArgument,
            ),
            (
                r#"{"topic":"a","group":"b","url":"c","concurrency":"7"}"#,
                ErrorCode::InvalidArgument,
            ),
            (
                r#"{"topic":"a","group":"b","url":"c","timeout_ms":-1}"#,
                ErrorCode::InvalidArgument,
            ),
        ] {
            assert_eq!(new_webhook(body).unwrap_err().code, code, "{body}");
        }
    }
}

//! Exchanges: make, look at, bind, ask where a key leads, publish through, delete.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{Data, Path, Payload, Query},
};
use callboard_protocol::{
    ErrorCode,
    client::{Bind, BindTo, decode_messages, exchange_kind, exchange_name, topic_name},
    error::Refusal,
    name::check_routing_key,
    server::{self, RecordResult, RoutedResult},
};
use serde::{Deserialize, Serialize};

use super::{
    body::{self, Expect},
    messages::{ack_level, json},
};
use crate::{
    actors::{
        Shared,
        append::Asked,
        gateway::exchanges::{
            self, BindingInfo, Creation, ExchangeInfo, NewExchange, Sender, UnroutableInfo,
        },
    },
    web::problem::Problem,
};

#[derive(Serialize)]
struct ExchangeList {
    exchanges: Vec<ExchangeInfo>,
}

#[derive(Serialize)]
struct BindingList {
    bindings: Vec<BindingInfo>,
}

#[derive(Serialize)]
struct UnroutableList {
    unroutable: Vec<UnroutableInfo>,
}

/// The body of a create.
#[derive(Deserialize)]
struct ExchangeFields {
    name: String,
    r#type: String,
    alternate: Option<String>,
}

/// The body of a bind.
#[derive(Deserialize)]
struct BindingFields {
    topic: Option<String>,
    exchange: Option<String>,
    routing_key: Option<String>,
}

/// The key that is asked for; without a word the empty one, as in a frame.
#[derive(Deserialize)]
pub struct RouteQuery {
    #[serde(default)]
    routing_key: String,
}

/// When to answer, and by what to route; what it does not say, the body of a single record may.
#[derive(Deserialize)]
pub struct PublishQuery {
    ack: Option<String>,
    timeout_ms: Option<u64>,
    routing_key: Option<String>,
}

/// `GET /exchanges`
pub async fn list(shared: Data<Shared>) -> HttpResponse {
    let exchanges = exchanges::exchanges(&shared);
    HttpResponse::Ok().json(ExchangeList { exchanges })
}

/// `POST /exchanges`
pub async fn create(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
) -> Result<HttpResponse, Problem> {
    let body = body::read(&request, payload, Expect::Object).await?;
    let fields: ExchangeFields = body.fields("an exchange", &["name", "type", "alternate"])?;
    let new = NewExchange {
        name: exchange_name(&fields.name)?,
        kind: exchange_kind(&fields.r#type)?,
        alternate: fields.alternate.as_deref().map(exchange_name).transpose()?,
    };
    let exchange = exchanges::declare_exchange(&shared, new, Creation::New).await?;
    let location = format!("/api/v1/exchanges/{}", exchange.name);
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, location))
        .json(exchange))
}

/// `GET /exchanges/{exchange}`
pub async fn get(shared: Data<Shared>, exchange: Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(exchanges::exchange(&shared, &exchange)?))
}

/// `DELETE /exchanges/{exchange}`
pub async fn delete(shared: Data<Shared>, exchange: Path<String>) -> Result<HttpResponse, Problem> {
    exchanges::delete_exchange(&shared, &exchange).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /exchanges/{exchange}/bindings`
pub async fn bindings(shared: Data<Shared>, exchange: Path<String>) -> Result<HttpResponse, Problem> {
    let bindings = exchanges::bindings(&shared, &exchange)?;
    Ok(HttpResponse::Ok().json(BindingList { bindings }))
}

/// `POST /exchanges/{exchange}/bindings`
pub async fn bind(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
    exchange: Path<String>,
) -> Result<HttpResponse, Problem> {
    let body = body::read(&request, payload, Expect::Object).await?;
    let fields: BindingFields = body.fields("a binding", &["topic", "exchange", "routing_key"])?;
    // What cannot be the name of an exchange is none that is there.
    exchanges::exchange(&shared, &exchange)?;
    let bind = Bind {
        exchange: exchange_name(&exchange)?,
        to: match (fields.topic, fields.exchange) {
            (Some(topic), None) => BindTo::Topic(topic_name(&topic)?),
            (None, Some(exchange)) => BindTo::Exchange(exchange_name(&exchange)?),
            _ => {
                let message = "a binding leads to a topic or to an exchange, to one of them";
                return Err(Refusal::new(ErrorCode::BadFrame, message).into());
            }
        },
        routing_key: fields.routing_key.unwrap_or_default(),
    };
    Ok(HttpResponse::Created().json(exchanges::bind(&shared, bind).await?))
}

/// `DELETE /exchanges/{exchange}/bindings/{binding}`
pub async fn unbind(shared: Data<Shared>, path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let (exchange, binding) = path.into_inner();
    match exchanges::unbind(&shared, &exchange, &binding).await {
        Ok(()) => Ok(HttpResponse::NoContent().finish()),
        // Here the binding is what the path names.
        Err(refusal) if refusal.code == ErrorCode::InvalidArgument => {
            Err(Problem::new(StatusCode::NOT_FOUND, refusal))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// `GET /exchanges/{exchange}/route`
pub async fn route(
    shared: Data<Shared>,
    exchange: Path<String>,
    query: Query<RouteQuery>,
) -> Result<HttpResponse, Problem> {
    check_routing_key(&query.routing_key).map_err(|error| Problem::invalid(error.to_string()))?;
    let dry_run = exchanges::dry_run(&shared, &exchange, &query.routing_key)?;
    Ok(HttpResponse::Ok().json(dry_run))
}

/// `GET /unroutable`
pub async fn unroutable(shared: Data<Shared>) -> HttpResponse {
    let unroutable = exchanges::unroutable(&shared);
    HttpResponse::Ok().json(UnroutableList { unroutable })
}

/// `POST /exchanges/{exchange}/messages`
pub async fn publish(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
    exchange: Path<String>,
    query: Query<PublishQuery>,
) -> Result<HttpResponse, Problem> {
    let ack = ack_level(query.ack.as_deref())?;
    let body = body::read(&request, payload, Expect::Records).await?;
    let is_one = body.text().trim_start().starts_with('{');
    let posted = decode_messages(body.text())?;
    let asked = Asked {
        ack: ack.or(posted.ack).unwrap_or_default(),
        timeout_ms: query.timeout_ms.or(posted.timeout_ms),
    };
    let said = query.routing_key.as_deref().or(posted.routing_key.as_deref());
    let routing_key = said.unwrap_or_default();
    let sender = sender(&request);
    let mut results =
        exchanges::publish_routed(&shared, &exchange, routing_key, posted.records, (asked, sender)).await?;
    let mut answer = Vec::new();
    if !is_one {
        server::published_routes_many(&mut answer, None, &exchange, &results);
        return Ok(json(answer));
    }
    match results.pop() {
        Some(RoutedResult::Routes(routes)) => {
            // One topic only: the answer is that of a publish to the topic itself.
            if let [route] = &routes[..]
                && let RecordResult::Refused(refusal) = &route.result
            {
                return Err(refusal.clone().into());
            }
            server::published_routes(&mut answer, None, &exchange, &routes);
            Ok(json(answer))
        }
        Some(RoutedResult::Refused(refusal)) => Err(refusal.into()),
        None => Err(Refusal::new(ErrorCode::Internal, "the record has no outcome").into()),
    }
}

/// Who publishes, for whoever asks where unroutable records come from.
fn sender(request: &HttpRequest) -> Sender {
    let client = request.headers().get(header::USER_AGENT);
    let client = client.and_then(|client| client.to_str().ok());
    Sender {
        session: None,
        remote: request.peer_addr().map(|address| address.to_string()),
        client: client.map(|client| client.chars().take(CLIENT_CHARS_MAX).collect()),
    }
}

/// How much of what a client calls itself is kept.
const CLIENT_CHARS_MAX: usize = 128;

//! Server-Sent Events: a topic for anyone who can read lines.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, header},
    web::{Data, Path, Query},
};
use callboard_protocol::client::From;
use futures_util::stream;
use serde::Deserialize;

use super::problem::Problem;
use crate::actors::{
    Shared,
    events::{self, Begin, EventStream, Position},
    gateway::{self, Missing},
};

/// What an EventSource that comes back says by itself.
const LAST_EVENT_ID: &str = "last-event-id";

/// Where to begin.
#[derive(Deserialize)]
pub struct EventsQuery {
    from: Option<String>,
    /// For a page that kept a position: it can not set the header.
    last_event_id: Option<String>,
}

impl EventsQuery {
    fn begin(&self, request: &HttpRequest) -> Result<Begin, Problem> {
        let header = request
            .headers()
            .get(LAST_EVENT_ID)
            .map(|value| value.to_str().unwrap_or("?"));
        // An EventSource sends no empty one; other clients do when they have none yet.
        let last = header
            .or(self.last_event_id.as_deref())
            .filter(|id| !id.is_empty());
        if let Some(id) = last {
            let position = Position::decode(id);
            let detail = "Last-Event-ID is none that this broker gave; leave it out to begin anew";
            return position.map(Begin::At).ok_or_else(|| Problem::invalid(detail));
        }
        let from = self.from.as_deref().unwrap_or("latest");
        let from = match (from, from.split_once(':')) {
            ("latest", _) => From::Latest,
            ("earliest", _) => From::Earliest,
            (_, Some(("last", count))) => match count.parse() {
                Ok(count) => From::Last(count),
                Err(_) => return Err(Problem::invalid("last:N takes a whole number, as last:20")),
            },
            (_, Some(("time", time))) => From::Time(time.to_owned()),
            _ => {
                return Err(Problem::invalid(
                    "from is latest, earliest, last:N or time:RFC3339",
                ));
            }
        };
        Ok(Begin::From(from))
    }
}

/// `GET /topics/{topic}/events`
///
/// A topic that does not exist is created, as a subscription does; but not by who comes back to it, because
/// a topic that was deleted would come back with every page that still follows it.
pub async fn events(
    request: HttpRequest,
    shared: Data<Shared>,
    topic: Path<String>,
    query: Query<EventsQuery>,
) -> Result<HttpResponse, Problem> {
    let begin = query.begin(&request)?;
    let placed = if request.method() == Method::GET {
        let missing = match begin {
            Begin::From(_) => Missing::Create,
            Begin::At(_) => Missing::Refuse,
        };
        let (topic, subscriber) = gateway::place_in(&shared, &topic, missing).await?;
        (topic, Some(subscriber))
    } else {
        // Who only asks for the head does not stay, and a temporary topic must not go with it.
        (gateway::topic(&shared, &topic)?, None)
    };
    let stream = EventStream::open(events::hub_of_this_thread()?, placed, begin).await?;
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        // Proxies that collect answers would hold the events back.
        .insert_header(("x-accel-buffering", "no"))
        .insert_header((header::CACHE_CONTROL, "no-store"));
    if request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let chunks = stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((Ok::<_, actix_web::Error>(chunk), stream))
    });
    Ok(response.streaming(Box::pin(chunks)))
}

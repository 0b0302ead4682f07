//! Records: publish, and read without consuming.
//!
//! Payloads are never built: they go in and come out as the bytes they are.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::ContentType,
    web::{Data, Path, Payload, Query},
};
use callboard_protocol::{
    ErrorCode, Offset, PartitionId, TopicName,
    client::{Ack, decode_messages},
    error::Refusal,
    server::{self, RecordResult, Stored},
    time::parse_rfc3339,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::body::{self, Expect};
use crate::{
    actors::{
        Shared,
        append::Asked,
        broker::Want,
        gateway,
        pages::{self, PageFrom},
    },
    web::problem::Problem,
};

/// When to answer; what it does not say, the body of a single record may.
#[derive(Deserialize)]
pub struct PublishQuery {
    ack: Option<String>,
    timeout_ms: Option<u64>,
}

/// The level of ack that a query names.
pub(super) fn ack_level(text: Option<&str>) -> Result<Option<Ack>, Problem> {
    let level = |text| {
        Ack::parse(text)
            .ok_or_else(|| Problem::invalid("ack is none, accepted, durable, delivered or processed"))
    };
    text.map(level).transpose()
}

#[derive(Serialize)]
struct Published<'a> {
    topic: &'a TopicName,
    partition: PartitionId,
    offset: Offset,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
    durability: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
}

impl<'a> Published<'a> {
    fn new(topic: &'a TopicName, partition: PartitionId, stored: &Stored) -> Self {
        Self {
            topic,
            partition,
            offset: stored.offset,
            duplicate: stored.duplicate,
            durability: stored.durability,
            result: None,
        }
    }
}

/// `POST /topics/{topic}/messages`
pub async fn publish(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
    topic: Path<String>,
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
    let topic = gateway::topic_or_new(&shared, &topic, Want::Auto).await?;
    let mut results = gateway::publish(&shared, &topic, posted.records, asked).await?;
    let mut answer = Vec::new();
    if !is_one {
        server::published_many(&mut answer, None, &topic.name, &results);
        return Ok(json(answer));
    }
    match results.pop() {
        Some(RecordResult::Stored(partition, stored)) => {
            return Ok(HttpResponse::Ok().json(Published::new(&topic.name, partition, &stored)));
        }
        Some(RecordResult::Processed(partition, stored, result)) => {
            let result = serde_json::from_slice(&result).expect("a result was checked when it came");
            return Ok(HttpResponse::Ok().json(Published {
                result: Some(result),
                ..Published::new(&topic.name, partition, &stored)
            }));
        }
        Some(RecordResult::Passed(partition)) => server::passed(&mut answer, None, &topic.name, partition),
        Some(RecordResult::Scheduled(scheduled)) => {
            server::scheduled(&mut answer, None, &topic.name, &scheduled);
        }
        Some(RecordResult::Refused(refusal)) => return Err(refusal.into()),
        None => return Err(Refusal::new(ErrorCode::Internal, "the record has no outcome").into()),
    }
    Ok(json(answer))
}

/// A body that is JSON already.
pub(super) fn json(body: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(body)
}

/// Which records.
#[derive(Deserialize)]
pub struct ReadQuery {
    offset: Option<u64>,
    time: Option<String>,
    last: Option<u64>,
    limit: Option<u64>,
}

impl ReadQuery {
    fn from(&self) -> Result<PageFrom, Problem> {
        match (self.offset, &self.time, self.last) {
            (None, None, None) => Ok(PageFrom::First),
            (Some(offset), None, None) => Ok(PageFrom::Offset(Offset(offset))),
            (None, Some(time), None) => match parse_rfc3339(time) {
                Some(time) => Ok(PageFrom::Time(time)),
                None => Err(Problem::invalid(
                    "time is RFC 3339, as 2026-11-20T08:00:00Z; in a query + is written %2B",
                )),
            },
            (None, None, Some(count)) => Ok(PageFrom::Last(count)),
            _ => Err(Problem::invalid("one of offset, time and last can be given")),
        }
    }

    fn limit(&self) -> u64 {
        // `last` says how many, so it is not cut to what a page has by default.
        pages::page_limit(self.limit.or(self.last))
    }
}

/// `GET /topics/{topic}/partitions/{partition}/messages`
pub async fn read(
    shared: Data<Shared>,
    path: Path<(String, String)>,
    query: Query<ReadQuery>,
) -> Result<HttpResponse, Problem> {
    let (topic, partition) = path.into_inner();
    let (from, limit) = (query.from()?, query.limit());
    let topic = gateway::topic(&shared, &topic)?;
    let id: u32 = partition
        .parse()
        .map_err(|_| Problem::invalid("a partition is a number from 0"))?;
    let id = PartitionId(id);
    let page = pages::read_partition(&shared, &topic, id, from, limit).await?;
    let mut answer = Vec::with_capacity(page.entries.len() + 400);
    server::messages(&mut answer, None, &topic.name, id, page.next_offset);
    answer.extend_from_slice(&page.entries);
    answer.extend_from_slice(b"]}");
    Ok(json(answer))
}

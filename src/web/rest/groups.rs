//! Groups of a topic: look at, seek, redrive, delete.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use callboard_protocol::{ErrorCode, client::decode_seek, error::Refusal, id::SAFE_INTEGER_MAX};
use serde::{Deserialize, Serialize};

use super::body::{self, Expect};
use crate::{
    actors::{
        Shared,
        gateway::{
            self,
            groups::{self, GroupInfo},
        },
    },
    web::problem::Problem,
};

#[derive(Serialize)]
struct GroupList {
    groups: Vec<GroupInfo>,
}

/// How much is moved back.
#[derive(Default, Deserialize)]
struct Redrive {
    limit: Option<u64>,
}

/// A group that is not there is missing at its path, while a session that is no member is in a wrong state:
/// the same code, but not the same status.
fn problem(refusal: Refusal) -> Problem {
    if refusal.code == ErrorCode::NotSubscribed {
        Problem::new(StatusCode::NOT_FOUND, refusal)
    } else {
        refusal.into()
    }
}

/// `GET /topics/{topic}/groups`
pub async fn list(shared: Data<Shared>, topic: Path<String>) -> Result<HttpResponse, Problem> {
    let topic = gateway::topic(&shared, &topic)?;
    let groups = groups::groups(&shared, &topic).await.map_err(problem)?;
    Ok(HttpResponse::Ok().json(GroupList { groups }))
}

/// `GET /topics/{topic}/groups/{group}`
pub async fn get(shared: Data<Shared>, path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let topic = gateway::topic(&shared, &path.0)?;
    let group = groups::group(&shared, &topic, &path.1).await.map_err(problem)?;
    Ok(HttpResponse::Ok().json(group))
}

/// `DELETE /topics/{topic}/groups/{group}`
pub async fn delete(shared: Data<Shared>, path: Path<(String, String)>) -> Result<HttpResponse, Problem> {
    let topic = gateway::topic(&shared, &path.0)?;
    groups::delete_group(&shared, &topic, &path.1)
        .await
        .map_err(problem)?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /topics/{topic}/groups/{group}/offsets`
pub async fn seek(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let body = body::read(&request, payload, Expect::Object).await?;
    let from = decode_seek(body.text())?;
    let topic = gateway::topic(&shared, &path.0)?;
    let group = groups::seek_group(&shared, &topic, &path.1, from)
        .await
        .map_err(problem)?;
    Ok(HttpResponse::Ok().json(group))
}

/// `POST /topics/{topic}/groups/{group}/redrive`
pub async fn redrive(
    request: HttpRequest,
    payload: Payload,
    shared: Data<Shared>,
    path: Path<(String, String)>,
) -> Result<HttpResponse, Problem> {
    let body = body::read(&request, payload, Expect::Object).await?;
    let limit = redrive_limit(body.text())?;
    let topic = gateway::topic(&shared, &path.0)?;
    let redriven = groups::redrive_group(&shared, &topic, &path.1, limit)
        .await
        .map_err(problem)?;
    Ok(HttpResponse::Ok().json(redriven))
}

/// How many dead letters are moved at most; without a word all that are there.
fn redrive_limit(body: &str) -> Result<Option<u64>, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let expected = |error: serde_json::Error| {
        let message = format!("a redrive is an object, perhaps with a limit: {error}");
        Refusal::new(ErrorCode::BadFrame, message)
    };
    // An array would be taken for the fields of the object in their order.
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).map_err(expected)?;
    let Redrive { limit } = Redrive::deserialize(serde_json::Value::from(fields)).map_err(expected)?;
    match limit {
        Some(limit) if !(1..=SAFE_INTEGER_MAX).contains(&limit) => Err(Refusal::new(
            ErrorCode::InvalidArgument,
            "limit is 1 to 2^53-1; without it all dead letters are moved",
        )),
        limit => Ok(limit),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn redrive_without_a_limit_moves_all() {
        for body in ["", " \n", "{}", r#"{"limit":null}"#, r#"{"other":1}"#] {
            assert_eq!(redrive_limit(body).unwrap(), None, "{body}");
        }
        assert_eq!(redrive_limit(r#"{"limit":100}"#).unwrap(), Some(100));
    }

    #[test]
    fn what_is_no_limit_is_refused_with_its_code() {
        for (body, code) in [
            ("[]", ErrorCode::BadFrame),
            ("[5]", ErrorCode::BadFrame),
            ("{", ErrorCode::BadFrame),
            (r#"{"limit":"5"}"#, ErrorCode::BadFrame),
            (r#"{"limit":-1}"#, ErrorCode::BadFrame),
            (r#"{"limit":0}"#, ErrorCode::InvalidArgument),
            (r#"{"limit":9007199254740992}"#, ErrorCode::InvalidArgument),
        ] {
            assert_eq!(redrive_limit(body).unwrap_err().code, code, "{body}");
        }
    }
}

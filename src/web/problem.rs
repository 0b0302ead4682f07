//! Every error of HTTP, as RFC 9457 has it, with the protocol's stable code.

use std::fmt;

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{StatusCode, header},
};
use callboard_protocol::{ErrorCode, Offset, PartitionId, error::Refusal};
use serde::Serialize;

/// What the body of a problem is.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A refusal on its way to an HTTP client.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    refusal: Refusal,
    allow: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_offset: Option<Offset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<PartitionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Offset>,
}

impl Problem {
    /// A problem with another status than its code has by itself.
    #[must_use]
    pub fn new(status: StatusCode, refusal: Refusal) -> Self {
        Self {
            status,
            refusal,
            allow: None,
        }
    }

    /// There is nothing of that name.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        let refusal = Refusal::new(ErrorCode::InvalidArgument, detail);
        Self::new(StatusCode::NOT_FOUND, refusal)
    }

    /// A value that is well formed but not allowed.
    #[must_use]
    pub fn invalid(detail: impl Into<String>) -> Self {
        Refusal::new(ErrorCode::InvalidArgument, detail).into()
    }

    /// The path exists, and `allow` are the methods that it has.
    #[must_use]
    pub fn method_not_allowed(allow: &str) -> Self {
        let refusal = Refusal::new(ErrorCode::InvalidArgument, format!("this path has {allow}"));
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            refusal,
            allow: Some(allow.to_owned()),
        }
    }

    /// The problem as JSON.
    #[must_use]
    pub fn body(&self) -> String {
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.refusal.message,
            code: self.refusal.code.as_str(),
            retryable: self.refusal.code.is_retryable(),
            retry_after_ms: self.refusal.retry_after_ms,
            next_offset: self.refusal.next_offset,
            partition: self.refusal.place.map(|(partition, _)| partition),
            offset: self.refusal.place.map(|(_, offset)| offset),
        };
        serde_json::to_string(&body).expect("strings and numbers always have a JSON form")
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.code.http_status());
        Self::new(status.expect("every code's status is an HTTP status"), refusal)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refusal.fmt(formatter)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status);
        response.content_type(PROBLEM_JSON);
        if let Some(allow) = &self.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        if let Some(retry_after_ms) = self.refusal.retry_after_ms {
            // The header counts in whole seconds; earlier than said would be refused again.
            let seconds = retry_after_ms.div_ceil(1000).max(1);
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        response.body(self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_http_status_of_an_error() {
        for code in ErrorCode::ALL {
            let problem = Problem::from(Refusal::new(*code, "x"));
            assert!(
                problem.status.is_client_error() || problem.status.is_server_error(),
                "{code}"
            );
        }
    }

    #[test]
    fn what_may_be_tried_again_says_when() {
        let response = Problem::from(Refusal::new(ErrorCode::Overloaded, "busy")).error_response();
        assert_eq!(response.status(), 503);
        let after = response.headers().get(header::RETRY_AFTER);
        assert_eq!(after.map(header::HeaderValue::as_bytes), Some(b"1".as_slice()));
        let quiet = Problem::from(Refusal::new(ErrorCode::Conflict, "no")).error_response();
        assert!(!quiet.headers().contains_key(header::RETRY_AFTER));
    }
}

//! What every request and every answer go through: who may ask, and what a browser may do with the answer.
//!
//! Requests that ask for an upgrade never come here; [`super::ws`] holds them to the same rules.

use actix_web::{
    Error, HttpResponse, ResponseError as _,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use callboard_protocol::{ErrorCode, error::Refusal};

use super::{metrics::Telemetry, origin::OriginRules, problem::Problem};

/// What an answer may do in a browser that is no page of ours: nothing.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
/// How long a browser may remember that it may ask; seconds.
const PREFLIGHT_AGE_SECS: &str = "600";

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Checks a request, answers preflights, and completes the answer's headers.
///
/// # Errors
/// Whatever the service behind it did not turn into an answer itself.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let rules = request.app_data::<Data<OriginRules>>();
    let rules = rules.expect("the application is built with its rules").clone();
    let telemetry = request.app_data::<Data<Telemetry>>().cloned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let (mut response, is_served) = match check(&rules, request.headers()) {
        Err(refusal) => {
            let response = Problem::from(refusal).error_response();
            (request.into_response(response).map_into_right_body(), false)
        }
        Ok(()) if is_preflight(&request) => {
            let response = preflight(request.headers());
            (request.into_response(response).map_into_right_body(), true)
        }
        Ok(()) => (next.call(request).await?.map_into_left_body(), true),
    };
    if let Some(telemetry) = telemetry {
        telemetry.count(response.status());
    }
    let headers = response.headers_mut();
    if let Some(origin) = origin.filter(|_| is_served) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("allow, etag, location, retry-after"),
        );
    }
    harden(headers);
    Ok(response)
}

/// Whether this client may ask at all.
fn check(rules: &OriginRules, headers: &HeaderMap) -> Result<(), Refusal> {
    let forbidden = |message: String| Refusal::new(ErrorCode::Forbidden, message);
    // The same headers in the type that the rules know.
    let known: actix_http::header::HeaderMap = [header::HOST, header::ORIGIN]
        .into_iter()
        .flat_map(|name| {
            headers
                .get_all(name.clone())
                .map(move |value| (name.clone(), value.clone()))
        })
        .collect();
    rules
        .check(&known)
        .map_err(|error| forbidden(error.to_string()))?;
    // A page of another site can ask without an Origin, by an image or a script. It can not read the answer,
    // but following a topic may create one.
    let is = |name, value: &str| headers.get(name).is_some_and(|found| found == value);
    if !headers.contains_key(header::ORIGIN) && is(FETCH_SITE, "cross-site") && !is(FETCH_MODE, "navigate") {
        return Err(forbidden("pages of other sites may not load this".into()));
    }
    Ok(())
}

fn is_preflight(request: &ServiceRequest) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(headers: &HeaderMap) -> HttpResponse {
    let mut response = HttpResponse::build(StatusCode::NO_CONTENT);
    response
        .insert_header((
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, HEAD, POST, PATCH, DELETE",
        ))
        .insert_header((
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "content-type, last-event-id, if-none-match",
        ))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE_SECS));
    if headers.contains_key(PRIVATE_NETWORK) {
        // The page's origin is one that was allowed to reach this machine.
        response.insert_header((ALLOW_PRIVATE_NETWORK, "true"));
    }
    response.finish()
}

/// Headers that every answer has unless it says otherwise.
fn harden(headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CONTENT_SECURITY_POLICY, API_POLICY);
    set(header::CACHE_CONTROL, "no-store");
    set(header::VARY, "Origin");
    set(RESOURCE_POLICY, "same-origin");
}

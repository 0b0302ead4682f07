//! The one table of what is served where.
//!
//! [`super::openapi`] is held against it by a test.

use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, ResponseError as _, guard,
    http::{Method, header},
    web::{self, ServiceConfig},
};

use super::{
    assets, health, metrics, openapi,
    problem::Problem,
    rest::{exchanges, groups, messages, schedules, sessions, topics, webhooks},
    sse,
};

/// Puts everything that is served into the application.
pub fn routes(config: &mut ServiceConfig) {
    config
        .app_data(web::QueryConfig::default().error_handler(|error, _| {
            let detail = format!("the query is not understood: {error}");
            Problem::invalid(detail).into()
        }))
        .app_data(web::PathConfig::default().error_handler(|error, _| {
            let detail = format!("the path is not understood: {error}");
            Problem::invalid(detail).into()
        }));
    for endpoint in table() {
        endpoint.register(config);
    }
    config.service(web::resource("/ws").default_service(web::to(not_upgraded)));
    config.default_service(web::to(assets::serve));
}

/// Every endpoint with its methods.
fn table() -> Vec<Endpoint> {
    let topics = "/api/v1/topics";
    let topic = "/api/v1/topics/{topic}";
    vec![
        Endpoint::at("/healthz").on(Method::GET, health::healthz),
        Endpoint::at("/readyz").on(Method::GET, health::readyz),
        Endpoint::at("/metrics").on(Method::GET, metrics::metrics),
        Endpoint::at("/api/v1/openapi.json").on(Method::GET, openapi::openapi),
        Endpoint::at(topics)
            .on(Method::GET, topics::list)
            .on(Method::POST, topics::create),
        Endpoint::at(topic)
            .on(Method::GET, topics::get)
            .on(Method::PATCH, topics::patch)
            .on(Method::DELETE, topics::delete),
        Endpoint::at("/api/v1/topics/{topic}/messages").on(Method::POST, messages::publish),
        Endpoint::at("/api/v1/topics/{topic}/partitions/{partition}/messages")
            .on(Method::GET, messages::read),
        Endpoint::at("/api/v1/topics/{topic}/events").on(Method::GET, sse::events),
        Endpoint::at("/api/v1/topics/{topic}/scheduled").on(Method::GET, schedules::list),
        Endpoint::at("/api/v1/topics/{topic}/scheduled/{scheduled}").on(Method::DELETE, schedules::cancel),
        Endpoint::at("/api/v1/topics/{topic}/groups").on(Method::GET, groups::list),
        Endpoint::at("/api/v1/topics/{topic}/groups/{group}")
            .on(Method::GET, groups::get)
            .on(Method::DELETE, groups::delete),
        Endpoint::at("/api/v1/topics/{topic}/groups/{group}/offsets").on(Method::POST, groups::seek),
        Endpoint::at("/api/v1/topics/{topic}/groups/{group}/redrive").on(Method::POST, groups::redrive),
        Endpoint::at("/api/v1/webhooks")
            .on(Method::GET, webhooks::list)
            .on(Method::POST, webhooks::create),
        Endpoint::at("/api/v1/webhooks/{webhook}")
            .on(Method::GET, webhooks::get)
            .on(Method::DELETE, webhooks::delete),
        Endpoint::at("/api/v1/webhooks/{webhook}/enable").on(Method::POST, webhooks::enable),
        Endpoint::at("/api/v1/webhooks/{webhook}/disable").on(Method::POST, webhooks::disable),
        Endpoint::at("/api/v1/exchanges")
            .on(Method::GET, exchanges::list)
            .on(Method::POST, exchanges::create),
        Endpoint::at("/api/v1/exchanges/{exchange}")
            .on(Method::GET, exchanges::get)
            .on(Method::DELETE, exchanges::delete),
        Endpoint::at("/api/v1/exchanges/{exchange}/bindings")
            .on(Method::GET, exchanges::bindings)
            .on(Method::POST, exchanges::bind),
        Endpoint::at("/api/v1/exchanges/{exchange}/bindings/{binding}").on(Method::DELETE, exchanges::unbind),
        Endpoint::at("/api/v1/exchanges/{exchange}/route").on(Method::GET, exchanges::route),
        Endpoint::at("/api/v1/exchanges/{exchange}/messages").on(Method::POST, exchanges::publish),
        Endpoint::at("/api/v1/unroutable").on(Method::GET, exchanges::unroutable),
        Endpoint::at("/api/v1/sessions").on(Method::GET, sessions::list),
        Endpoint::at("/api/v1/sessions/{session}").on(Method::DELETE, sessions::delete),
    ]
}

/// One path, its methods and their handlers.
struct Endpoint {
    path: &'static str,
    methods: Vec<Method>,
    resource: Resource,
}

impl Endpoint {
    fn at(path: &'static str) -> Self {
        Self {
            path,
            methods: Vec::new(),
            resource: web::resource(path),
        }
    }

    /// Adds a method. What can be got can be asked for without its body as well.
    fn on<H, A>(mut self, method: Method, handler: H) -> Self
    where
        H: Handler<A>,
        A: FromRequest + 'static,
        H::Output: Responder + 'static,
    {
        let route = if method == Method::GET {
            web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
        } else {
            web::route().guard(guard::Method(method.clone()))
        };
        self.resource = self.resource.route(route.to(handler));
        self.methods.push(method);
        self
    }

    fn allow(&self) -> String {
        let mut names = Vec::new();
        for method in &self.methods {
            names.push(method.as_str());
            if *method == Method::GET {
                names.push("HEAD");
            }
        }
        names.push("OPTIONS");
        names.join(", ")
    }

    fn register(self, config: &mut ServiceConfig) {
        let allow = self.allow();
        let other = move |request: HttpRequest| {
            let response = if request.method() == Method::OPTIONS {
                HttpResponse::NoContent()
                    .insert_header((header::ALLOW, allow.as_str()))
                    .finish()
            } else {
                Problem::method_not_allowed(&allow).error_response()
            };
            std::future::ready(response)
        };
        log::trace!("{} has {:?}", self.path, self.methods);
        config.service(self.resource.default_service(web::to(other)));
    }
}

/// Where WebSocket is served, a request came without an upgrade.
async fn not_upgraded() -> HttpResponse {
    let refusal = callboard_protocol::error::Refusal::new(
        callboard_protocol::ErrorCode::InvalidArgument,
        "WebSocket is served here; ask for an upgrade",
    );
    let problem = Problem::new(actix_web::http::StatusCode::UPGRADE_REQUIRED, refusal);
    let mut response = problem.error_response();
    let websocket = header::HeaderValue::from_static("websocket");
    response.headers_mut().insert(header::UPGRADE, websocket);
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn description_has_every_route_and_no_other() {
        let served: BTreeSet<(String, String)> = table()
            .iter()
            .flat_map(|endpoint| {
                let path = endpoint.path.to_owned();
                endpoint
                    .methods
                    .iter()
                    .map(move |method| (path.clone(), method.as_str().to_lowercase()))
            })
            .collect();
        assert_eq!(openapi::described(), served);
    }
}

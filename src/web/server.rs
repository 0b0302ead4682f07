//! The listener: an ordinary actix-web application, with one difference.
//!
//! It is built as `HttpServer` builds itself, plus an upgrade service that takes a WebSocket's socket out of
//! the HTTP stack. actix-web would keep its dispatcher with two buffers for the life of each WebSocket; this
//! way an idle one costs its actor and nothing more.

use std::{io, net::TcpListener, rc::Rc, sync::Arc, time::Duration};

use actix::prelude::*;
use actix_codec::Framed;
use actix_http::{HttpService, Request, h1};
use actix_rt::net::TcpStream;
use actix_server::Server;
use actix_service::{ServiceFactoryExt as _, fn_factory, fn_service, map_config};
use actix_web::{App, dev::AppConfig, middleware::from_fn, web};

use super::{access, metrics::Telemetry, origin::OriginRules, routes, ws};
use crate::actors::{Shared, Worker, broker::RegisterWorker, hub::Hub};

/// A client has this long to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests under way get this long when the server stops.
const STOP_TIMEOUT_SECS: u64 = 2;
/// Connections that wait to be accepted: a thousand clients may come back at once after a restart.
const BACKLOG: u32 = 4096;

/// Starts listening and returns the server, which runs when it is awaited.
///
/// # Errors
/// When the address can not be listened on.
pub fn start(
    shared: Arc<Shared>,
    listener: TcpListener,
    allowed_origins: &[String],
    workers: usize,
) -> io::Result<Server> {
    let listen = listener.local_addr()?;
    let rules = OriginRules::new(listen, allowed_origins);
    let telemetry = web::Data::new(Telemetry::default());
    let server = Server::build()
        .workers(workers)
        .backlog(BACKLOG)
        .disable_signals()
        .shutdown_timeout(STOP_TIMEOUT_SECS)
        .listen("callboard", listener, move || {
            let (shared, rules) = (shared.clone(), rules.clone());
            let app_shared = shared.clone();
            let app_rules = rules.clone();
            let app = App::new()
                .app_data(web::Data::from(app_shared))
                .app_data(web::Data::new(app_rules))
                .app_data(telemetry.clone())
                .configure(routes::routes)
                .wrap(from_fn(access::guard));
            HttpService::build()
                .client_request_timeout(HEAD_TIMEOUT)
                // The builder's own `tcp_nodelay` does nothing for a service of HTTP/1 alone, and a record
                // must never wait for the acknowledgement of the one before.
                .on_connect_ext(|stream: &TcpStream, _| {
                    if let Err(error) = stream.set_nodelay(true) {
                        log::warn!("a socket may hold small messages back: {error}");
                    }
                })
                .upgrade(upgrade_service(shared, rules))
                .h1(map_config(app, move |_| AppConfig::default()))
                .tcp()
        })?
        .run();
    Ok(server)
}

/// One a worker thread: makes the thread's hub, and registers the thread with the broker.
fn upgrade_service(
    shared: Arc<Shared>,
    rules: OriginRules,
) -> impl actix_service::ServiceFactory<
    (Request, Framed<TcpStream, h1::Codec>),
    Config = (),
    Response = (),
    Error = actix_web::Error,
    InitError = (),
> {
    fn_factory(move || {
        let (shared, rules) = (shared.clone(), Rc::new(rules.clone()));
        async move {
            let hub = Hub::start(shared.clone());
            let worker = Worker::new(hub.addr.clone(), Arbiter::current());
            shared.broker().do_send(RegisterWorker(worker));
            Ok(fn_service(
                move |(request, framed): (Request, Framed<TcpStream, h1::Codec>)| {
                    let (hub, rules) = (hub.clone(), rules.clone());
                    async move {
                        ws::upgrade(request, framed, hub, rules).await;
                        Ok(())
                    }
                },
            ))
        }
    })
    .map_init_err(|_: ()| ())
}

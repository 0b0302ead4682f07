//! `callboard serve`: puts a broker together, runs it until it is told to stop, and ends it in order.

use std::{io::Write as _, net::TcpListener, process::ExitCode, sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use crate::{
    actors::{
        Settings, Shared,
        broker::{BrokerActor, Want},
        gateway,
        push::AllowPrivate,
        readers::Readers,
    },
    config::{AutoCreate, Demo, PrivateWebhooks, ServeConfig, StoreKind},
    demo,
    store::{
        Store,
        journal::{JournalOptions, JournalStore},
        memory::MemoryStore,
    },
    web::server,
};

/// Threads that read from disks. More would not make a disk faster, fewer would let one slow read delay all.
const READER_THREADS: usize = 4;
/// After this the process ends whatever still hangs.
const SHUTDOWN_MAX: Duration = Duration::from_millis(4_500);
/// Time for goodbyes to leave the sockets before these are closed.
const GOODBYE_TIME: Duration = Duration::from_millis(300);

/// Why a broker did not start or did not end in order.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot listen on {address}: {reason}; is another program there? give another --listen")]
    Listen {
        address: std::net::SocketAddr,
        reason: std::io::Error,
    },
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// Runs the broker until SIGTERM or SIGINT.
#[must_use]
pub fn run(config: ServeConfig) -> ExitCode {
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("info,actix_server=warn,actix_http=off"),
    )
    .init();
    raise_file_limit();
    match System::new().block_on(serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callboard: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: ServeConfig) -> Result<(), ServeError> {
    // Before the store: a second broker on the same port should say so and touch nothing.
    let listener = TcpListener::bind(config.listen).map_err(|reason| ServeError::Listen {
        address: config.listen,
        reason,
    })?;
    let address = listener.local_addr()?;
    let store = open_store(&config)?;
    let kept = store.topics()?;
    let shared = Arc::new(Shared::new(
        settings(&config),
        store,
        Readers::start(READER_THREADS)?,
    ));
    let workers = config.workers.get();
    let (ready, is_ready) = oneshot::channel();
    BrokerActor::new(shared.clone(), kept, workers, ready).start();
    let mut stop = Stop::listen()?;
    let server = server::start(shared.clone(), listener, &config.allow_origin, workers)?;
    let handle = server.handle();
    let running = actix_rt::spawn(server);
    tokio::select! {
        _ = is_ready => {}
        () = stop.asked() => {}
    }
    announce(&format!(
        "callboard {} is ready: http://{address}",
        env!("CARGO_PKG_VERSION")
    ));
    if config.demo == Demo::On {
        for (name, config) in demo::topics() {
            let want = Want::Declare {
                config: config.to_owned(),
            };
            if let Err(error) = gateway::topic_or_new(&shared, name, want).await {
                log::warn!("the demo takes {name} as it is: {error}");
            }
        }
        actix_rt::spawn(demo::run(address));
    }
    stop.asked().await;
    log::info!("shutting down");
    let ended = tokio::time::timeout(SHUTDOWN_MAX, async {
        gateway::shut_down(&shared).await;
        tokio::time::sleep(GOODBYE_TIME).await;
        handle.stop(false).await;
    });
    if ended.await.is_err() {
        log::error!("something did not end in time and was left");
    }
    drop(running);
    Ok(())
}

fn settings(config: &ServeConfig) -> Settings {
    Settings {
        auto_create: config.auto_create == AutoCreate::On,
        memory_only: config.store == StoreKind::Memory,
        heartbeat_ms: config.heartbeat.as_millis() as u64,
        session_timeout_ms: config.session_timeout.as_millis() as u64,
        member_timeout_ms: config.member_timeout.as_millis() as u64,
        rejoin_grace_ms: config.rejoin_grace.as_millis() as u64,
        temporary_grace_ms: config.temporary_grace.as_millis() as u64,
        revoke_grace_ms: config.revoke_grace.as_millis() as u64,
        webhook_allow_private: match config.private_webhooks {
            PrivateWebhooks::Allowed => AllowPrivate::Yes,
            PrivateWebhooks::Refused => AllowPrivate::No,
        },
    }
}

fn open_store(config: &ServeConfig) -> Result<Arc<dyn Store>, ServeError> {
    Ok(match config.store {
        StoreKind::Memory => Arc::new(MemoryStore::new()),
        StoreKind::Journal => {
            let options = JournalOptions {
                journal_bytes: config.journal_file_bytes,
                ..JournalOptions::default()
            };
            Arc::new(JournalStore::open(&config.data, options)?)
        }
    })
}

/// The one line of data that `serve` prints: where it can be reached.
fn announce(line: &str) {
    let mut output = std::io::stdout().lock();
    // Whoever started it may have closed its end; the broker serves all the same.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// SIGTERM or SIGINT, whichever comes first; remembered once it came.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    came: bool,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            came: false,
        })
    }

    async fn asked(&mut self) {
        if !self.came {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            self.came = true;
        }
    }
}

/// Lets the process have as many sockets as the system allows it.
fn raise_file_limit() {
    // SAFETY: both calls only read and write the struct that they are given.
    unsafe {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
                log::warn!("the limit of open files could not be raised; it stays at what ulimit -n says");
            }
        }
    }
}

//! Calls to HTTP endpoints that others run: webhooks and notices. They have a thread of their own, so that no
//! encryption and no look-up of a name is done where sessions are served.
//!
//! Owns that thread, what may be called from it, and the notices that wait. Webhooks run on it as actors
//! ([`super::webhook`]). Nobody who hands something over waits for an endpoint.

pub mod address;
pub mod client;
pub mod connect;
mod notices;
mod retry_after;
pub mod sign;
pub mod target;

use std::sync::{Arc, PoisonError, RwLock};

use actix::prelude::*;
use bytes::Bytes;

pub use self::{address::AllowPrivate, notices::NoticeCounts, target::check_url};
use self::{
    connect::Connector,
    notices::{Counters, Notice, NoticesActor},
};

/// See the module.
pub struct Push {
    /// Kept, because the thread ends with it.
    arbiter: Arbiter,
    connector: Arc<Connector>,
    notices: RwLock<Addr<NoticesActor>>,
    counters: Arc<Counters>,
}

impl Push {
    /// Starts the thread; called where an actix system runs.
    pub fn start(allow: AllowPrivate) -> Self {
        let arbiter = Arbiter::new();
        let connector = Arc::new(Connector::new(allow));
        let notices = start_notices(&arbiter.handle(), connector.clone());
        Self {
            arbiter,
            connector,
            notices: RwLock::new(notices),
            counters: Arc::default(),
        }
    }

    /// The thread.
    pub fn arbiter(&self) -> ArbiterHandle {
        self.arbiter.handle()
    }

    /// What makes its connections.
    pub fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// Whether addresses that are not public may be called.
    pub fn allow_private(&self) -> AllowPrivate {
        self.connector.allow()
    }

    /// Sends a notice, a JSON object, to a URL that [`check_url`] has let pass. Tried a few times with growing
    /// waits, and then given up; dropped at once if too many wait. Lost with the process.
    pub fn notice(&self, url: &str, correlation_id: &str, body: Bytes) {
        if let Some(notice) = Notice::new(&self.counters, self.allow_private(), (url, correlation_id), body) {
            self.notices_addr().do_send(notice);
        }
    }

    /// What became of the notices.
    pub fn notice_counts(&self) -> NoticeCounts {
        self.counters.counts()
    }

    fn notices_addr(&self) -> Addr<NoticesActor> {
        let known = self.notices.read().unwrap_or_else(PoisonError::into_inner);
        if known.connected() {
            return known.clone();
        }
        drop(known);
        let mut known = self.notices.write().unwrap_or_else(PoisonError::into_inner);
        if !known.connected() {
            log::error!("what sends notices died and is started again");
            *known = start_notices(&self.arbiter.handle(), self.connector.clone());
        }
        known.clone()
    }
}

fn start_notices(arbiter: &ArbiterHandle, connector: Arc<Connector>) -> Addr<NoticesActor> {
    NoticesActor::start_in_arbiter(arbiter, move |_| NoticesActor::new(connector))
}

//! `declare`, `bind` and `unbind`: what a session asks the registry for.
//!
//! Declarations of topics that follow one another are under way together, and so are bindings: each is flushed before
//! it is confirmed, and a flush that many share is as good. Anything else waits until they are answered, because it
//! may need what they make.

use actix::prelude::*;
use callboard_protocol::{
    ErrorCode, FrameId,
    client::{Bind, Declare, DeclareExchange, topic_name},
    error::Refusal,
};

use super::{Flow, SessionActor};
use crate::actors::{
    broker::WhichBinding,
    broker::{GetTopic, Want},
    gateway::exchanges::{self, Creation, NewExchange},
};

/// Most of one session that are under way together.
const TOGETHER_MAX: usize = 256;

/// What a session asks the registry for several times at once. Their order must not matter: they may overtake one
/// another on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// A topic.
    Topic,
    /// A binding.
    Binding,
}

/// Wishes that are under way.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// All are of this kind.
    kind: Option<Wish>,
    count: usize,
    /// A frame waits until there are none.
    is_waited_for: bool,
}

impl Wishes {
    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a frame that asks for `wish`, or for something else, has to wait. If so, it is handled again.
    pub(super) fn hold(&mut self, wish: Option<Wish>) -> bool {
        let is_held = !self.is_empty() && (wish.is_none() || self.kind != wish || self.count >= TOGETHER_MAX);
        self.is_waited_for |= is_held;
        is_held
    }

    fn begin(&mut self, wish: Wish) {
        self.kind = Some(wish);
        self.count += 1;
    }

    /// One is answered; whether a frame waited for that.
    fn end(&mut self) -> bool {
        self.count -= 1;
        self.count == 0 && std::mem::take(&mut self.is_waited_for)
    }
}

impl SessionActor {
    /// Answers a frame with the outcome of something that takes its time; more of its kind go on meanwhile.
    fn answer_wish(
        &mut self,
        wish: Wish,
        id: Option<FrameId>,
        outcome: impl Future<Output = Result<(), Refusal>> + 'static,
        ctx: &mut Context<Self>,
    ) -> Flow {
        self.wishes.begin(wish);
        ctx.spawn(outcome.into_actor(self).map(move |outcome, session, ctx| {
            match outcome {
                Ok(()) => session.ok(id.as_ref()),
                Err(refusal) => session.refuse(id.as_ref(), &refusal),
            };
            if session.wishes.end() {
                session.resume(ctx);
            }
        }));
        Flow::Done
    }

    /// Answers a frame with the outcome of something that takes its time; those behind it wait.
    fn answer_with(
        &self,
        id: Option<FrameId>,
        outcome: impl Future<Output = Result<(), Refusal>> + 'static,
        ctx: &mut Context<Self>,
    ) -> Flow {
        ctx.spawn(outcome.into_actor(self).map(move |outcome, session, ctx| {
            match outcome {
                Ok(()) => session.ok(id.as_ref()),
                Err(refusal) => session.refuse(id.as_ref(), &refusal),
            };
            session.resume(ctx);
        }));
        Flow::Wait
    }

    pub(super) fn declare(&mut self, id: Option<FrameId>, declare: Declare, ctx: &mut Context<Self>) -> Flow {
        let name = match topic_name(&declare.topic) {
            Ok(name) => name,
            Err(refusal) => return self.refuse(id.as_ref(), &refusal),
        };
        let want = Want::Declare {
            config: declare.config,
        };
        let asked = self.hub.shared.broker().send(GetTopic { name, want });
        let outcome = async move {
            let answer = asked.await;
            answer
                .map_err(|error| Refusal::new(ErrorCode::Internal, error.to_string()))?
                .map(drop)
        };
        self.answer_wish(Wish::Topic, id, outcome, ctx)
    }

    pub(super) fn declare_exchange(
        &mut self,
        id: Option<FrameId>,
        declare: DeclareExchange,
        ctx: &mut Context<Self>,
    ) -> Flow {
        let shared = self.hub.shared.clone();
        let new = NewExchange {
            name: declare.exchange,
            kind: declare.kind,
            alternate: declare.alternate,
        };
        let outcome = async move {
            let declared = exchanges::declare_exchange(&shared, new, Creation::Declare).await;
            declared.map(drop)
        };
        self.answer_with(id, outcome, ctx)
    }

    pub(super) fn bind(&mut self, id: Option<FrameId>, bind: Bind, ctx: &mut Context<Self>) -> Flow {
        let shared = self.hub.shared.clone();
        let outcome = async move { exchanges::bind(&shared, bind).await.map(drop) };
        self.answer_wish(Wish::Binding, id, outcome, ctx)
    }

    pub(super) fn unbind(&mut self, id: Option<FrameId>, unbind: Bind, ctx: &mut Context<Self>) -> Flow {
        let shared = self.hub.shared.clone();
        let which = WhichBinding::Rule(unbind);
        let outcome = async move { exchanges::remove_binding(&shared, which).await };
        self.answer_with(id, outcome, ctx)
    }
}

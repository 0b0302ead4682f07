//! `declare`, `bind` and `unbind`: what a session asks the registry for.

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

impl SessionActor {
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
        self.answer_with(id, outcome, ctx)
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
        self.answer_with(id, outcome, ctx)
    }

    pub(super) fn unbind(&mut self, id: Option<FrameId>, unbind: Bind, ctx: &mut Context<Self>) -> Flow {
        let shared = self.hub.shared.clone();
        let which = WhichBinding::Rule(unbind);
        let outcome = async move { exchanges::remove_binding(&shared, which).await };
        self.answer_with(id, outcome, ctx)
    }
}

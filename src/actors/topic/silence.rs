//! Listens whether a topic falls silent, where its configuration asks for it.
//!
//! One timer, which rings when the newest record has become too old; while the topic is silent none runs, and
//! its partitions say when a record comes.

use std::time::Duration;

use actix::prelude::*;
use callboard_core::silence::{News, Silence};
use callboard_protocol::Timestamp;

use super::TopicActor;
use crate::actors::{announce::Event, clock};

/// What a topic that may fall silent has for it.
#[derive(Default)]
pub struct Listening {
    silence: Option<Silence>,
    alarm: Option<SpawnHandle>,
}

/// A partition that was silent has a record.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heard;

impl Handler<Heard> for TopicActor {
    type Result = ();

    fn handle(&mut self, _: Heard, ctx: &mut Self::Context) {
        let now = clock::now();
        let silence = self.listening.silence.as_mut();
        if let Some(News::Back) = silence.and_then(|silence| silence.heard_now(now)) {
            self.shared.announce(Event::SourceBack {
                topic: self.stored.name.to_string(),
            });
            self.listen_on(ctx);
        }
    }
}

impl TopicActor {
    /// Begins or ends to listen, as the configuration has it now.
    pub(super) fn listen(&mut self, ctx: &mut Context<Self>) {
        let now = clock::now();
        match (self.config.silent_after_ms, &mut self.listening.silence) {
            (Some(after_ms), Some(silence)) => silence.set_after(now, after_ms),
            (Some(after_ms), silence) => *silence = Some(Silence::new(now, after_ms)),
            (None, silence) => *silence = None,
        }
        self.await_records();
        self.listen_on(ctx);
    }

    /// Has the partitions tell of the next record while the topic is silent, also those that came meanwhile.
    fn await_records(&self) {
        if self.listening.silence.as_ref().is_some_and(Silence::is_silent) {
            self.parts.iter().for_each(|part| part.shared.hearing.listen());
        }
    }

    fn last_heard(&self) -> Option<Timestamp> {
        let parts = self.parts.iter();
        parts.filter_map(|part| part.shared.hearing.last()).max()
    }

    /// Sets the timer anew.
    fn listen_on(&mut self, ctx: &mut Context<Self>) {
        if let Some(alarm) = self.listening.alarm.take() {
            ctx.cancel_future(alarm);
        }
        let last = self.last_heard();
        let silence = self.listening.silence.as_ref();
        let Some(due) = silence.and_then(|silence| silence.next_timeout(last)) else {
            return;
        };
        // A clock that counts milliseconds may ring just before one has passed.
        let delay = Duration::from_millis(due.since(clock::now()) + 1);
        self.listening.alarm = Some(ctx.run_later(delay, |actor, ctx| {
            actor.listening.alarm = None;
            actor.look_for_silence();
            actor.listen_on(ctx);
        }));
    }

    fn look_for_silence(&mut self) {
        let Some(silence) = &mut self.listening.silence else {
            return;
        };
        // First, so that a record that comes from now on is either seen below or told of.
        self.parts.iter().for_each(|part| part.shared.hearing.listen());
        let heard = self.parts.iter().filter_map(|part| part.shared.hearing.last());
        let last = heard.max();
        if let Some(News::Silent { silent_ms }) = silence.look(clock::now(), last) {
            self.shared.announce(Event::SourceSilent {
                topic: self.stored.name.to_string(),
                silent_ms,
                last_timestamp: last.map(|last| last.0),
            });
        }
    }
}

//! What each frame asks for, and how it is answered.

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use actix::prelude::*;
use callboard_core::subscription::Overflow;
use callboard_protocol::{
    ErrorCode, FrameId, TopicName,
    client::{self, BadFrame, ClientFrame, Credit, Fetch, From, Request, Subscribe, Target, topic_name},
    error::Refusal,
    limits::{FRAME_BYTES_MAX, SUBSCRIPTIONS_MAX},
    name::Pattern,
    server::{self, FollowedTopic, ServerFrame},
};

use super::{Flow, SessionActor, declare::Wish};
use crate::actors::{
    broker::{GetTopic, Want},
    directory::{
        Topic,
        subscribers::{Denied, Role, Subscriber},
    },
    gateway,
    pages::{self, Starts},
    plain::{Following, pump},
};

/// A topic that a frame names.
pub(super) enum Found {
    /// It is there.
    Topic(Arc<Topic>),
    /// It is being created; the frame has to come again.
    Creating,
    /// It is not to be had.
    Denied(Refusal),
}

impl SessionActor {
    /// Handles one frame.
    pub(super) fn frame(&mut self, line: &str, ctx: &mut Context<Self>) -> Flow {
        if line.len() > FRAME_BYTES_MAX {
            self.too_large();
            return Flow::Done;
        }
        // What is declared before it may be what it needs; then it is read as any other and waits.
        if self.wishes.is_empty()
            && let Some(flow) = self.publish_repeated(line, ctx)
        {
            return flow;
        }
        let frame = match ClientFrame::decode(line) {
            Ok(frame) => frame,
            Err(BadFrame { id, refusal }) => return self.refuse(id.as_ref(), &refusal),
        };
        let ClientFrame { id, request } = frame;
        let wish = match &request {
            Request::Declare(_) => Some(Wish::Topic),
            Request::Bind(_) => Some(Wish::Binding),
            _ => None,
        };
        if self.wishes.hold(wish) {
            return Flow::Again;
        }
        let flow = match request {
            Request::Publish(publish) => {
                self.habit.learn(line);
                self.publish(id, publish, ctx)
            }
            Request::Settle(settle) => self.settle(id, settle),
            other => {
                // What was published before it must be on its way before it is looked at.
                self.send_drafts(ctx);
                if self.conn.paused.get() {
                    return Flow::Again;
                }
                match other {
                    Request::Publish(_) | Request::Settle(_) => Flow::Done,
                    Request::Subscribe(subscribe) => self.subscribe(id, *subscribe, ctx),
                    Request::Unsubscribe(target) => self.unsubscribe(id, &target),
                    Request::Credit(credit) => self.credit(id, &credit),
                    Request::Commit(commit) => self.commit(id, commit),
                    Request::Release(release) => self.release(id, release),
                    Request::Fetch(fetch) => self.fetch(id, fetch, ctx),
                    Request::Declare(declare) => self.declare(id, declare, ctx),
                    Request::DeclareExchange(declare) => self.declare_exchange(id, declare, ctx),
                    Request::Bind(bind) => self.bind(id, bind, ctx),
                    Request::Unbind(unbind) => self.unbind(id, unbind, ctx),
                    Request::Ping => {
                        self.conn
                            .reply(|buffer| ServerFrame::Pong { id: id.as_ref() }.push(buffer));
                        Flow::Done
                    }
                }
            }
        };
        self.count(flow)
    }

    /// Counts a frame that was handled.
    pub(super) fn count(&self, flow: Flow) -> Flow {
        if flow != Flow::Again {
            self.conn.received.set(self.conn.received.get() + 1);
        }
        flow
    }

    pub(super) fn refuse(&self, id: Option<&FrameId>, refusal: &Refusal) -> Flow {
        self.conn.reply(|buffer| server::error(buffer, id, refusal, None));
        Flow::Done
    }

    pub(super) fn ok(&self, id: Option<&FrameId>) -> Flow {
        if let Some(id) = id {
            self.conn.reply(|buffer| ServerFrame::Ok { id }.push(buffer));
        }
        Flow::Done
    }

    /// The topic that a frame names, created if need be and allowed.
    pub(super) fn topic_or_new(&mut self, name: &str, ctx: &mut Context<Self>) -> Found {
        // Taken in any case: it is about this frame, and must not meet a later one.
        let denied = self.denied.take();
        if let Some(topic) = self.hub.shared.directory.get(name) {
            return Found::Topic(topic);
        }
        if let Some(refusal) = denied {
            return Found::Denied(refusal);
        }
        match topic_name(name) {
            Ok(name) => self.ask_for(name, ctx),
            Err(refusal) => return Found::Denied(refusal),
        }
        Found::Creating
    }

    /// Asks the registry for a topic, created if need be; the frame comes again when it has answered.
    fn ask_for(&mut self, name: TopicName, ctx: &mut Context<Self>) {
        let asked = self.hub.shared.broker().send(GetTopic {
            name,
            want: Want::Auto,
        });
        ctx.spawn(asked.into_actor(self).map(|answer, session, ctx| {
            match answer {
                // It is in the directory from now on.
                Ok(Ok(_)) => {}
                Ok(Err(refusal)) => session.denied = Some(refusal),
                Err(error) => session.denied = Some(Refusal::new(ErrorCode::Internal, error.to_string())),
            }
            session.resume(ctx);
        }));
    }

    /// The topic that a frame names, created if need be and allowed, with a place among its subscribers.
    ///
    /// # Errors
    /// What the frame comes to without it; if it is refused, that was said.
    pub(super) fn place_in(
        &mut self,
        id: Option<&FrameId>,
        name: &str,
        role: Role,
        ctx: &mut Context<Self>,
    ) -> Result<(Arc<Topic>, Subscriber), Flow> {
        let topic = match self.topic_or_new(name, ctx) {
            Found::Topic(topic) => topic,
            Found::Creating => return Err(Flow::Again),
            Found::Denied(refusal) => return Err(self.refuse(id, &refusal)),
        };
        match Subscriber::new(&topic, role) {
            Ok(subscriber) => Ok((topic, subscriber)),
            Err(Denied::Refused(refusal)) => Err(self.refuse(id, &refusal)),
            Err(Denied::Gone) => {
                // The registry is about to take it out of the directory, and answers when it has.
                self.ask_for(topic.name.clone(), ctx);
                Err(Flow::Again)
            }
        }
    }

    fn subscribe(&mut self, id: Option<FrameId>, subscribe: Subscribe, ctx: &mut Context<Self>) -> Flow {
        if let Some(group) = subscribe.group.clone() {
            return self.subscribe_group(id, subscribe, group, ctx);
        }
        let following = self.conn.following.borrow();
        let refusal = if following.iter().any(|known| *known.target == *subscribe.topic) {
            let message = format!("this session follows {} already", subscribe.topic);
            Some(Refusal::new(ErrorCode::Conflict, message))
        } else if following.len() >= SUBSCRIPTIONS_MAX {
            let message = format!("a session has at most {SUBSCRIPTIONS_MAX} subscriptions");
            Some(Refusal::new(ErrorCode::InvalidArgument, message))
        } else {
            None
        };
        drop(following);
        if let Some(refusal) = refusal {
            return self.refuse(id.as_ref(), &refusal);
        }
        if Pattern::is_pattern(&subscribe.topic) {
            return self.subscribe_pattern(id, subscribe, ctx);
        }
        if matches!(subscribe.from, Some(From::Topics(_))) {
            let refusal = Refusal::new(ErrorCode::InvalidArgument, "from.topics goes with a pattern");
            return self.refuse(id.as_ref(), &refusal);
        }
        let role = if subscribe.exclusive {
            Role::Alone
        } else {
            Role::Plain
        };
        let (topic, subscriber) = match self.place_in(id.as_ref(), &subscribe.topic, role, ctx) {
            Ok(placed) => placed,
            Err(flow) => return flow,
        };
        if let Some(starts) = pages::starts_now(&topic, &subscribe.start()) {
            self.subscribed_topic(id.as_ref(), &subscribe, (&topic, subscriber), &starts);
            return Flow::Done;
        }
        let (asked, from) = (topic.clone(), subscribe.start());
        let starts = self.hub.shared.readers.run(move || pages::starts(&asked, &from));
        ctx.spawn(starts.into_actor(self).map(move |starts, session, ctx| {
            match starts.unwrap_or_else(|_| Err(Refusal::new(ErrorCode::Internal, "the read failed"))) {
                // The hub has told those who followed it by then, and will not tell this one.
                Ok(_) if topic.is_deleted() => {
                    let refusal = Refusal::new(ErrorCode::TopicNotFound, "the topic was deleted");
                    session.refuse(id.as_ref(), &refusal);
                }
                Ok(starts) => {
                    let placed = (&topic, subscriber);
                    let following = session.subscribed_topic(id.as_ref(), &subscribe, placed, &starts);
                    // Those that came while the others were looked at.
                    session.hub.follow_new_parts(&following, &topic);
                }
                Err(refusal) => drop(session.refuse(id.as_ref(), &refusal)),
            }
            session.resume(ctx);
        }));
        Flow::Wait
    }

    fn follow(&self, subscribe: &Subscribe, pattern: Option<Pattern>) -> Rc<Following> {
        let following = Rc::new(Following {
            target: subscribe.topic.as_str().into(),
            pattern,
            pattern_id: std::cell::Cell::default(),
            overflow: match subscribe.overflow {
                client::Overflow::Read => Overflow::Read,
                client::Overflow::Skip => Overflow::Skip,
                client::Overflow::Conflate => Overflow::Conflate,
            },
            credit: std::cell::Cell::new(subscribe.credit),
            group: None,
            parts: std::cell::RefCell::default(),
            subscriber: std::cell::RefCell::default(),
            conn: self.conn.clone(),
            ended: std::cell::Cell::new(false),
        });
        self.conn.following.borrow_mut().push(following.clone());
        following
    }

    fn subscribed_topic(
        &self,
        id: Option<&FrameId>,
        subscribe: &Subscribe,
        (topic, subscriber): (&Arc<Topic>, Subscriber),
        starts: &Starts,
    ) -> Rc<Following> {
        // Before the answer: who publishes because of it comes after us at the partition, so that even a
        // record that is never stored finds this subscription.
        let following = self.follow(subscribe, None);
        following.subscriber.replace(Some(subscriber));
        self.attach(&following, topic, starts);
        if let Some(id) = id {
            let (name, epoch, offsets) = (&topic.name, &topic.epoch, &starts.offsets);
            let recovered = starts.recovered;
            self.conn.reply(|buffer| {
                ServerFrame::SubscribedTopic {
                    id: Some(id),
                    topic: name,
                    epoch,
                    offsets,
                    recovered,
                }
                .push(buffer);
            });
        }
        pump(&self.conn, &self.hub);
        following
    }

    fn attach(&self, following: &Rc<Following>, topic: &Arc<Topic>, starts: &Starts) {
        for part in topic.partitions().iter() {
            if let Some(from) = starts.offsets.get(&part.id) {
                following.attach(&self.hub, topic, part, *from);
            }
        }
    }

    fn subscribe_pattern(
        &mut self,
        id: Option<FrameId>,
        subscribe: Subscribe,
        ctx: &mut Context<Self>,
    ) -> Flow {
        let pattern = match Pattern::parse(&subscribe.topic) {
            Ok(pattern) => pattern,
            Err(error) => {
                let refusal = Refusal::new(ErrorCode::InvalidArgument, error.to_string());
                return self.refuse(id.as_ref(), &refusal);
            }
        };
        let matching = self.hub.shared.directory.matching(&pattern);
        let from = subscribe.start();
        let asked = matching.clone();
        // A disk may have to be asked of any of them.
        let starts = self.hub.shared.readers.run(move || {
            asked
                .iter()
                .map(|topic| pages::starts(topic, &from))
                .collect::<Result<Vec<_>, _>>()
        });
        ctx.spawn(starts.into_actor(self).map(move |starts, session, ctx| {
            match starts.unwrap_or_else(|_| Err(Refusal::new(ErrorCode::Internal, "the read failed"))) {
                Ok(starts) => {
                    session.subscribed_pattern(id.as_ref(), &subscribe, pattern, &matching, &starts)
                }
                Err(refusal) => drop(session.refuse(id.as_ref(), &refusal)),
            }
            session.resume(ctx);
        }));
        Flow::Wait
    }

    fn subscribed_pattern(
        &self,
        id: Option<&FrameId>,
        subscribe: &Subscribe,
        pattern: Pattern,
        matching: &[Arc<Topic>],
        starts: &[Starts],
    ) {
        let is_resume = matches!(subscribe.from, Some(From::Topics(_) | From::Resume(_)));
        let topics: BTreeMap<TopicName, FollowedTopic> = matching
            .iter()
            .zip(starts)
            .map(|(topic, starts)| {
                let recovered = is_resume.then_some(starts.recovered);
                let followed = FollowedTopic {
                    epoch: topic.epoch.clone(),
                    offsets: starts.offsets.clone(),
                    recovered,
                };
                (topic.name.clone(), followed)
            })
            .collect();
        // Before the answer, for the same reason as with a single topic.
        let following = self.follow(subscribe, Some(pattern.clone()));
        for (topic, starts) in matching.iter().zip(starts) {
            if !topic.is_deleted() {
                self.attach(&following, topic, starts);
            }
        }
        if let Some(id) = id {
            let target = &*subscribe.topic;
            self.conn.reply(|buffer| {
                ServerFrame::SubscribedPattern {
                    id: Some(id),
                    topic: target,
                    topics: &topics,
                }
                .push(buffer);
            });
        }
        self.hub.add_pattern(&following);
        // Those that came while the others were looked at.
        for topic in self.hub.shared.directory.matching(&pattern) {
            self.hub.follow_new_parts(&following, &topic);
        }
        pump(&self.conn, &self.hub);
    }

    fn find(&self, target: &Target) -> Option<Rc<Following>> {
        self.conn
            .following
            .borrow()
            .iter()
            .find(|known| *known.target == *target.topic)
            .cloned()
    }

    fn not_subscribed(&self, id: Option<&FrameId>, target: &Target) -> Flow {
        let message = format!("this session does not follow {}", target.topic);
        self.refuse(id, &Refusal::new(ErrorCode::NotSubscribed, message))
    }

    fn unsubscribe(&mut self, id: Option<FrameId>, target: &Target) -> Flow {
        if target.group.is_some() {
            return self.leave_group(id, target);
        }
        let Some(following) = self.find(target) else {
            return self.not_subscribed(id.as_ref(), target);
        };
        self.hub.end(&following);
        self.conn
            .following
            .borrow_mut()
            .retain(|known| !Rc::ptr_eq(known, &following));
        self.ok(id.as_ref())
    }

    fn credit(&mut self, id: Option<FrameId>, credit: &Credit) -> Flow {
        if credit.target.group.is_some() {
            return self.group_credit(id, credit);
        }
        let Some(following) = self.find(&credit.target) else {
            return self.not_subscribed(id.as_ref(), &credit.target);
        };
        following.add_credit(credit.add, &self.hub);
        self.ok(id.as_ref())
    }

    fn fetch(&mut self, id: Option<FrameId>, fetch: Fetch, ctx: &mut Context<Self>) -> Flow {
        let topic = match gateway::topic(&self.hub.shared, &fetch.topic) {
            Ok(topic) => topic,
            Err(refusal) => return self.refuse(id.as_ref(), &refusal),
        };
        let Some(log) = topic
            .partitions()
            .get(fetch.partition.0 as usize)
            .and_then(|part| part.log())
        else {
            let message = format!("{} has no partition {}", topic.name, fetch.partition);
            return self.refuse(
                id.as_ref(),
                &Refusal::new(ErrorCode::PartitionOutOfRange, message),
            );
        };
        let (offset, limit) = (fetch.offset, pages::page_limit(fetch.limit));
        let shared = self.hub.shared.clone();
        let page = async move { pages::fetch_page(&shared.readers, log, offset, limit).await };
        ctx.spawn(page.into_actor(self).map(move |page, session, ctx| {
            match page {
                Ok(page) => session.conn.reply(|buffer| {
                    server::messages(
                        buffer,
                        id.as_ref(),
                        &topic.name,
                        fetch.partition,
                        page.next_offset,
                    );
                    buffer.extend_from_slice(&page.entries);
                    buffer.extend_from_slice(b"]}");
                }),
                Err(refusal) => drop(session.refuse(id.as_ref(), &refusal)),
            }
            session.resume(ctx);
        }));
        Flow::Wait
    }
}

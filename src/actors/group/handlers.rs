//! What the GroupActor does with each message: hands it on, and ends the turn when all that waits is done.

use actix::prelude::*;

use super::*;

impl Handler<Wake> for GroupActor {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        // Before it looks, so that whoever comes after that wakes it again.
        self.group.set_awake();
        self.schedule(ctx);
    }
}

impl Handler<Turn> for GroupActor {
    type Result = ();

    fn handle(&mut self, _: Turn, ctx: &mut Self::Context) {
        self.has_turn = false;
        self.end_turn(ctx);
    }
}

impl Handler<LogEvent> for GroupActor {
    type Result = ();

    fn handle(&mut self, LogEvent(event): LogEvent, ctx: &mut Self::Context) {
        match event {
            CommitEvent::Committed {
                incarnation,
                next_offset,
            } => {
                let answers = self.history.committed(incarnation, next_offset);
                self.answer(answers);
                self.outgoing.send();
                self.let_go();
            }
            CommitEvent::Failed {
                incarnation, error, ..
            } => {
                if self.history.is_of(incarnation) {
                    self.fail(&error, ctx);
                }
            }
        }
    }
}

impl Handler<Join> for GroupActor {
    type Result = ();

    fn handle(&mut self, join: Join, ctx: &mut Self::Context) {
        let what = match self.join(&join) {
            Ok(offsets) => Whats::Joined(offsets),
            Err(refusal) => Whats::Denied(refusal),
        };
        let key = (join.key.member, join.key.index);
        self.outgoing.tell(&join.home, key, what);
        self.schedule(ctx);
    }
}

impl Handler<Leave> for GroupActor {
    type Result = ();

    fn handle(&mut self, leave: Leave, ctx: &mut Self::Context) {
        self.leave(leave);
        self.schedule(ctx);
    }
}

impl Handler<Stopped> for GroupActor {
    type Result = ();

    fn handle(&mut self, Stopped { member, partitions }: Stopped, ctx: &mut Self::Context) {
        if let Kind::Partitioned(own) = &mut self.kind {
            for (partition, out) in partitions {
                own.group.stopped(clock::now(), member, partition, out);
            }
        }
        self.schedule(ctx);
    }
}

impl Handler<Commit> for GroupActor {
    type Result = ();

    fn handle(&mut self, commit: Commit, ctx: &mut Self::Context) {
        self.commit(commit);
        self.schedule(ctx);
    }
}

impl Handler<Release> for GroupActor {
    type Result = ();

    fn handle(&mut self, release: Release, ctx: &mut Self::Context) {
        self.release(release);
        self.schedule(ctx);
    }
}

impl Handler<AddCredit> for GroupActor {
    type Result = ();

    fn handle(&mut self, AddCredit { member, add }: AddCredit, ctx: &mut Self::Context) {
        if let Some(known) = self.members.get_mut(member) {
            known.credit = known.credit.saturating_add(add);
        }
        if let Kind::Shared(work) = &mut self.kind {
            work.group.add_credit(member, add);
        }
        self.schedule(ctx);
    }
}

impl Handler<SetCredit> for GroupActor {
    type Result = ();

    fn handle(&mut self, SetCredit { member, credit }: SetCredit, ctx: &mut Self::Context) {
        if let Some(known) = self.members.get_mut(member) {
            known.credit = credit;
        }
        if let Kind::Shared(work) = &mut self.kind {
            work.group.set_credit(member, credit);
        }
        self.schedule(ctx);
    }
}

impl Handler<Settle> for GroupActor {
    type Result = ();

    fn handle(&mut self, settle: Settle, ctx: &mut Self::Context) {
        self.settle(settle);
        self.schedule(ctx);
    }
}

impl Handler<TopicMoved> for GroupActor {
    type Result = ();

    fn handle(&mut self, _: TopicMoved, ctx: &mut Self::Context) {
        self.take_partitions();
        self.schedule(ctx);
    }
}

impl Handler<Adopt> for GroupActor {
    type Result = ();

    fn handle(&mut self, Adopt(owner): Adopt, _: &mut Self::Context) {
        self.sentinel.group_owner(owner);
    }
}

impl Handler<CloseGroup> for GroupActor {
    type Result = ();

    fn handle(&mut self, CloseGroup(reason): CloseGroup, ctx: &mut Self::Context) {
        self.close(reason, ctx);
    }
}

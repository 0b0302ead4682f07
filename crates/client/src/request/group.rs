//! What a member of a group asks.

use std::time::Duration;

use callboard_protocol::PartitionId;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::value::RawValue;

use super::From;
use crate::frame::{Message, Offsets};

/// How to be a member of a group of either kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemberOptions {
    #[serde(rename = "member", skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Exclusive::is_no")]
    exclusive: Exclusive,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<From>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Exclusive {
    #[default]
    No,
    Yes,
}

impl Exclusive {
    pub(crate) fn is_no(&self) -> bool {
        *self == Self::No
    }
}

impl Serialize for Exclusive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*self == Self::Yes)
    }
}

impl MemberOptions {
    /// Comes back under this name after a lost connection, and in a partitioned group gets its partitions
    /// back; a newer member of the same name takes this one's place.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Wants the group for itself.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = Exclusive::Yes;
        self
    }

    /// Where the group begins in partitions in which it has no position yet; the first record kept if it is
    /// not said.
    #[must_use]
    pub fn from(mut self, from: From) -> Self {
        self.from = Some(from);
        self
    }

    /// Most records that are out, uncommitted or unsettled; the broker's default is 256. At least 1.
    ///
    /// While more than 1024 wait here for their reader, the whole connection waits.
    #[must_use]
    pub fn with_credit(mut self, credit: u64) -> Self {
        self.credit = Some(credit.max(1));
        self
    }
}

/// How to be a member of a shared group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SharedOptions {
    #[serde(flatten)]
    member: MemberOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_ms: Option<u64>,
    #[serde(skip_serializing_if = "Ordering::is_default")]
    ordering: Ordering,
}

/// In which order a shared group hands records out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// As they lie, and again as they come back.
    #[default]
    BestEffort,
    /// Those of one key one after the other.
    Key,
}

impl Ordering {
    fn is_default(&self) -> bool {
        *self == Self::BestEffort
    }
}

impl std::convert::From<MemberOptions> for SharedOptions {
    fn from(member: MemberOptions) -> Self {
        Self {
            member,
            ..Self::default()
        }
    }
}

impl SharedOptions {
    /// How long a record is leased; as the topic says if it is not said.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease_ms = Some(whole_ms(lease));
        self
    }

    /// In which order records come.
    #[must_use]
    pub fn with_ordering(mut self, ordering: Ordering) -> Self {
        self.ordering = ordering;
        self
    }
}

/// A `subscribe` in a group.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Join {
    pub(crate) topic: String,
    pub(crate) group: String,
    #[serde(flatten)]
    pub(crate) how: JoinHow,
}

/// A group's mode, and how to be a member of one of that mode.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub(crate) enum JoinHow {
    Partitioned(MemberOptions),
    Shared(SharedOptions),
}

/// Which membership a frame is about.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Target<'a> {
    pub(crate) topic: &'a str,
    pub(crate) group: &'a str,
}

/// How far a group is committed: the next offset of each partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitTo(pub(crate) Offsets);

impl std::convert::From<Offsets> for CommitTo {
    fn from(offsets: Offsets) -> Self {
        Self(offsets)
    }
}

/// Everything up to this record, and the record.
impl std::convert::From<&Message> for CommitTo {
    fn from(message: &Message) -> Self {
        let next = message.offset.map(|offset| (message.partition, offset.plus(1)));
        Self(next.into_iter().collect())
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Commit<'a> {
    #[serde(flatten)]
    pub(crate) target: Target<'a>,
    pub(crate) offsets: &'a Offsets,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<u64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Release<'a> {
    #[serde(flatten)]
    pub(crate) target: Target<'a>,
    pub(crate) partitions: &'a [PartitionId],
}

/// More records out for a member.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct AddCredit<'a> {
    #[serde(flatten)]
    pub(crate) target: Target<'a>,
    pub(crate) add: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Ack<'a> {
    pub(crate) deliveries: [u64; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Extend {
    pub(crate) deliveries: [u64; 1],
    pub(crate) lease_ms: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Settle<'a> {
    pub(crate) deliveries: [u64; 1],
    #[serde(flatten)]
    pub(crate) nack: &'a Nack,
}

/// A job that could not be done: when it comes again, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nack {
    again: Again,
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Again {
    #[default]
    Backoff,
    After(u64),
    Never,
}

impl Nack {
    /// It comes again after the topic's backoff, which grows with each attempt.
    #[must_use]
    pub fn backoff() -> Self {
        Self::default()
    }

    /// It comes again after so long; at once with zero.
    #[must_use]
    pub fn after(delay: Duration) -> Self {
        Self {
            again: Again::After(whole_ms(delay)),
            reason: None,
        }
    }

    /// It goes to the dead letters, however many attempts it has left.
    #[must_use]
    pub fn dead_letter() -> Self {
        Self {
            again: Again::Never,
            reason: None,
        }
    }

    /// Says why, for whoever looks at the dead letter.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

impl Serialize for Nack {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.again {
            Again::Backoff => {}
            Again::After(delay_ms) => map.serialize_entry("delay_ms", &delay_ms)?,
            Again::Never => map.serialize_entry("dead_letter", &true)?,
        }
        if let Some(reason) = &self.reason {
            map.serialize_entry("reason", reason)?;
        }
        map.end()
    }
}

/// Milliseconds, at most what the protocol's numbers can say.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    ms.min(callboard_protocol::id::SAFE_INTEGER_MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use callboard_protocol::{Offset, client::ClientFrame};

    use super::*;
    use crate::request::line;

    const TARGET: Target<'_> = Target {
        topic: "t",
        group: "g",
    };

    fn join(how: JoinHow) -> String {
        let (topic, group) = ("t".to_owned(), "g".to_owned());
        line("subscribe", Some(1), &Join { topic, group, how })
    }

    #[test]
    fn member_says_only_what_it_was_told_to() {
        assert_eq!(
            join(JoinHow::Partitioned(MemberOptions::default())),
            r#"{"type":"subscribe","id":1,"topic":"t","group":"g","mode":"partitioned"}"#
        );
        let member = MemberOptions::default()
            .named("w")
            .exclusive()
            .from(From::Latest)
            .with_credit(0);
        let shared = SharedOptions::from(member)
            .with_lease(Duration::from_secs(2))
            .with_ordering(Ordering::Key);
        assert_eq!(
            join(JoinHow::Shared(shared)),
            concat!(
                r#"{"type":"subscribe","id":1,"topic":"t","group":"g","mode":"shared","member":"w","exclusive":true,"#,
                r#""from":"latest","credit":1,"lease_ms":2000,"ordering":"key"}"#
            )
        );
    }

    #[test]
    fn nack_is_written_as_the_protocol_says() {
        for (nack, expected) in [
            (Nack::backoff(), ""),
            (Nack::after(Duration::ZERO), r#","delay_ms":0"#),
            (
                Nack::dead_letter().because("not a number"),
                r#","dead_letter":true,"reason":"not a number""#,
            ),
        ] {
            let settle = Settle {
                deliveries: [7],
                nack: &nack,
            };
            assert_eq!(
                line("nack", Some(2), &settle),
                format!(r#"{{"type":"nack","id":2,"deliveries":[7]{expected}}}"#)
            );
        }
    }

    #[test]
    fn every_request_of_a_member_is_a_frame_that_the_protocol_reads() {
        let offsets = Offsets::from([(PartitionId(1), Offset(18))]);
        let result = RawValue::from_string(r#"{"product":42}"#.to_owned()).unwrap();
        let commit = Commit {
            target: TARGET,
            offsets: &offsets,
            generation: Some(5),
        };
        let release = Release {
            target: TARGET,
            partitions: &[PartitionId(1)],
        };
        let ack = Ack {
            deliveries: [7],
            result: Some(&result),
        };
        let settle = Settle {
            deliveries: [7],
            nack: &Nack::dead_letter().because("no"),
        };
        let extend = Extend {
            deliveries: [7],
            lease_ms: 60_000,
        };
        let shared = SharedOptions::default().with_ordering(Ordering::Key);
        let lines = [
            join(JoinHow::Partitioned(
                MemberOptions::default().named("w").from(From::Last(3)),
            )),
            join(JoinHow::Shared(shared.with_lease(Duration::from_secs(1)))),
            line("commit", Some(1), &commit),
            line("release", Some(2), &release),
            line("ack", Some(3), &ack),
            line("nack", Some(4), &settle),
            line("extend", Some(5), &extend),
            line("unsubscribe", Some(6), &TARGET),
            line(
                "credit",
                None,
                &AddCredit {
                    target: TARGET,
                    add: 3,
                },
            ),
        ];
        for text in lines {
            assert!(ClientFrame::decode(&text).is_ok(), "{text}");
        }
    }
}

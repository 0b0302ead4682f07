//! Where records enter: each is encoded once, into the draft of its partition.
//!
//! Used by sessions and by REST alike. A draft goes to its partition as one message, however many
//! records and frames it holds.

mod routed;

pub use routed::OpenTogether;

use std::sync::Arc;

use callboard_core::{
    partition::{Draft, DraftEntry},
    record::RecordParts,
    topic::{TopicConfig, partition_for_key},
};
use callboard_protocol::{ErrorCode, PartitionId, Timestamp, client::NewRecord, error::Refusal};

use super::{
    append::{Append, Asked, Keep, Origin, Receipt, Reply, spare},
    clock,
    directory::{PartitionRef, Topic},
    notice::{NoticeTo, Wanted},
    push::{AllowPrivate, check_url},
    waiting::{Held, SessionWaits},
};

/// A draft is sent on when it holds this much, so that one publisher can not make a huge batch.
pub const DRAFT_BYTES_MAX: usize = 512 << 10;

/// A draft's buffer may have so much more room than twice what it needs.
const DRAFT_SLACK_BYTES: usize = 512;
/// A record takes about three quarters of its frame, of 256, until something else was seen.
const RECORD_SHARE: usize = 192;
/// What a record's encoding adds to its payload at least.
const RECORD_OVERHEAD_BYTES: usize = 9;

/// The drafts of one publisher, at most one for each partition, way of being answered and way of keeping.
pub struct Intake {
    open: Vec<Open>,
    /// How many bytes of frames come.
    frame_bytes: usize,
    /// About how many bytes of records those are, for the size of a new draft's buffer.
    expected_bytes: usize,
    /// How much of its frame a record took of late, in 256ths.
    record_share: usize,
    /// Bounds what waits for a session; whoever else publishes is bounded by its caller.
    waits: Option<Arc<SessionWaits>>,
    /// Whether notices may go to private addresses.
    allow_private: AllowPrivate,
}

/// Records that were not sent yet.
pub enum Open {
    /// For one partition.
    Draft(OpenDraft),
    /// For several, which store them together.
    Together(OpenTogether),
}

impl Open {
    fn touches(&self, part: &Arc<PartitionRef>) -> bool {
        match self {
            Self::Draft(open) => Arc::ptr_eq(&open.part, part),
            Self::Together(open) => open.touches(part),
        }
    }

    fn record_bytes(&self) -> usize {
        match self {
            Self::Draft(open) => open.draft.records.len(),
            Self::Together(_) => 0,
        }
    }

    fn is_large(&self) -> bool {
        match self {
            Self::Draft(open) => open.draft.records.len() >= DRAFT_BYTES_MAX,
            Self::Together(open) => open.is_large(),
        }
    }
}

/// Records for one partition that were not sent yet.
pub struct OpenDraft {
    part: Arc<PartitionRef>,
    asked: Asked,
    keep: Keep,
    draft: Draft,
    replies: Vec<Reply>,
    /// What of it is counted as waiting.
    held: Held,
    /// The notices that are asked for, by record.
    wanted: Vec<(usize, Wanted)>,
    /// When each record is due, if they are to be scheduled.
    dues: Vec<Timestamp>,
}

/// A topic with what placing a record in it needs, kept from frame to frame.
pub struct Placing {
    topic: Arc<Topic>,
    version: u32,
    config: Arc<TopicConfig>,
    partitions: Arc<[Arc<PartitionRef>]>,
    /// Picked once a frame, for its records that leave the choice to the broker.
    turn: Option<u32>,
    /// The partition that was picked last. Where a publisher begins is the topic's turn; from there on it goes round
    /// by itself, without a counter that all threads write to.
    last_turn: Option<u32>,
}

impl Placing {
    /// Reads the topic as it is now.
    pub fn new(topic: Arc<Topic>) -> Self {
        // The version first: what changes after it is read will be noticed.
        let version = topic.version();
        let (config, partitions) = (topic.config(), topic.partitions());
        Self {
            topic,
            version,
            config,
            partitions,
            turn: None,
            last_turn: None,
        }
    }

    /// The topic.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// Begins with another frame; reads the topic again if it has changed.
    pub fn begin_frame(&mut self) {
        self.turn = None;
        if self.version != self.topic.version() {
            *self = Self::new(self.topic.clone());
        }
    }

    /// The partition of a record.
    ///
    /// # Errors
    /// `partition_out_of_range`.
    fn partition(&mut self, record: &NewRecord<'_>) -> Result<&Arc<PartitionRef>, Refusal> {
        let topic = &self.topic;
        let count = self.partitions.len() as u32;
        let id = match (record.partition, &record.key, &record.message_id) {
            (Some(partition), _, _) => partition,
            _ if count == 1 => PartitionId(0),
            (None, Some(key), _) => partition_for_key(key.as_bytes(), count),
            (None, None, Some(message_id)) => partition_for_key(message_id.as_bytes(), count),
            (None, None, None) => PartitionId(*self.turn.get_or_insert_with(|| {
                let next = match self.last_turn {
                    None => topic.next_turn() % count,
                    Some(last) if last + 1 < count => last + 1,
                    Some(_) => 0,
                };
                self.last_turn = Some(next);
                next
            })),
        };
        self.partitions.get(id.0 as usize).ok_or_else(|| {
            Refusal::new(
                ErrorCode::PartitionOutOfRange,
                format!("{} has {count} partitions; {id} is none of them", topic.name),
            )
        })
    }
}

impl Intake {
    /// The intake of a session, whose publishes that wait are bounded by `waits`.
    pub fn of_session(waits: Arc<SessionWaits>, allow_private: AllowPrivate) -> Self {
        Self {
            waits: Some(waits),
            ..Self::of_caller(allow_private)
        }
    }

    /// The intake of someone who is no session.
    pub fn of_caller(allow_private: AllowPrivate) -> Self {
        Self {
            open: Vec::new(),
            frame_bytes: 0,
            expected_bytes: 0,
            record_share: RECORD_SHARE,
            waits: None,
            allow_private,
        }
    }

    /// Encodes a record into its partition's draft.
    ///
    /// # Errors
    /// `partition_out_of_range`; nothing is kept of the record then, and the reply is given back.
    pub fn add(
        &mut self,
        placing: &mut Placing,
        record: &NewRecord<'_>,
        asked: Asked,
        reply: Reply,
    ) -> Result<(), Box<(Refusal, Reply)>> {
        let ttl_ms = record.ttl_ms.or(placing.config.ttl_ms);
        let is_plain = record.due.is_none() && record.notify.is_none() && ttl_ms != Some(0);
        if !is_plain || asked.until().is_some() {
            return self.add_rare(placing, (record, ttl_ms), asked, reply);
        }
        let expected_bytes = self.expected_bytes_of(placing);
        let part = match placing.partition(record) {
            Ok(part) => part,
            Err(refusal) => return Err(Box::new((refusal, reply))),
        };
        let open = self.draft_for(part, (asked, Keep::Stored), (expected_bytes, about_bytes(record)));
        open.push(record, ttl_ms);
        open.replies.push(reply);
        Ok(())
    }

    /// The way of records that are due later, are not stored, or of which somebody waits for more than to be stored.
    fn add_rare(
        &mut self,
        placing: &mut Placing,
        (record, ttl_ms): (&NewRecord<'_>, Option<u64>),
        asked: Asked,
        reply: Reply,
    ) -> Result<(), Box<(Refusal, Reply)>> {
        let due = match due_later(record, asked) {
            Ok(due) => due,
            Err(refusal) => return Err(Box::new((refusal, reply))),
        };
        let keep = match (due, ttl_ms) {
            (Some(_), _) => Keep::Scheduled,
            (None, Some(0)) => Keep::Transient,
            (None, _) => Keep::Stored,
        };
        let expected_bytes = self.expected_bytes_of(placing);
        let part = match placing.partition(record) {
            Ok(part) => part,
            Err(refusal) => return Err(Box::new((refusal, reply))),
        };
        if keep == Keep::Transient && asked.until().is_some() {
            return Err(Box::new((not_stored(), reply)));
        }
        let wanted = match self.wanted(record, keep) {
            Ok(wanted) => wanted,
            Err(refusal) => return Err(Box::new((refusal, reply))),
        };
        let waits = match asked.until() {
            None => None,
            Some(_) => self.waits.clone(),
        };
        let open = self.draft_for(part, (asked, keep), (expected_bytes, about_bytes(record)));
        let bytes = open.push(record, ttl_ms);
        if let Some(waits) = waits {
            match waits.hold(bytes) {
                Ok(held) => open.held.add(held),
                Err(refusal) => {
                    open.draft.entries.pop();
                    let former = open.draft.records.len() - bytes;
                    open.draft.records.truncate(former);
                    self.open
                        .retain(|open| !matches!(open, Open::Draft(open) if open.draft.entries.is_empty()));
                    return Err(Box::new((refusal, reply)));
                }
            }
        }
        open.wanted
            .extend(wanted.map(|wanted| (open.replies.len(), wanted)));
        open.dues.extend(due);
        open.replies.push(reply);
        Ok(())
    }

    /// What comes is for as many partitions as the topic has, if nothing says more.
    fn expected_bytes_of(&self, placing: &Placing) -> usize {
        match placing.partitions.len() {
            0 | 1 => self.expected_bytes,
            partitions => self.expected_bytes / partitions,
        }
    }

    /// The notice that a record asks for.
    fn wanted(&self, record: &NewRecord<'_>, keep: Keep) -> Result<Option<Wanted>, Refusal> {
        match &record.notify {
            None => Ok(None),
            Some(_) if keep == Keep::Transient => Err(not_stored()),
            Some(notify) => {
                if let Some(url) = &notify.url {
                    check_url(url, self.allow_private)?;
                }
                Wanted::new(notify, self.waits.as_ref()).map(Some)
            }
        }
    }

    fn draft_for(
        &mut self,
        part: &Arc<PartitionRef>,
        (asked, keep): (Asked, Keep),
        (expected_bytes, about_bytes): (usize, usize),
    ) -> &mut OpenDraft {
        // From the newest on: a record goes behind every earlier one of its partition, so that the
        // order in which they were sent is kept also where levels of ack alternate.
        let newest = self.open.iter().rposition(|open| open.touches(part));
        let fits = |open: &Open| match open {
            Open::Draft(open) => open.asked == asked && open.keep == keep,
            Open::Together(_) => false,
        };
        let index = match newest {
            Some(index) if fits(&self.open[index]) => index,
            _ => {
                // With room for what is expected: buffers that grow record by record cost more than the
                // records.
                let bytes = expected_bytes.clamp(about_bytes, DRAFT_BYTES_MAX.max(about_bytes));
                let count = bytes / about_bytes + 1;
                let draft = Draft {
                    records: Vec::with_capacity(bytes),
                    entries: Vec::with_capacity(count),
                };
                self.open.push(Open::Draft(OpenDraft {
                    part: part.clone(),
                    asked,
                    keep,
                    draft,
                    replies: spare::room_for(count),
                    held: Held::default(),
                    wanted: Vec::new(),
                    dues: Vec::new(),
                }));
                self.open.len() - 1
            }
        };
        match &mut self.open[index] {
            Open::Draft(open) => open,
            Open::Together(_) => unreachable!("only a draft fits"),
        }
    }

    /// Says that so many bytes of frames come now, so that a draft's buffer need not grow.
    pub fn expect(&mut self, frame_bytes: usize) {
        self.frame_bytes = frame_bytes;
        self.expected_bytes = frame_bytes * self.record_share / 256;
    }

    /// Sees how much of what came was records. A buffer that is a little too small is taken twice, and one that is
    /// much too large stays in memory for as long as its records do.
    fn learn_share(&mut self) {
        let records: usize = self.open.iter().map(Open::record_bytes).sum();
        // Once a read: what of it comes after this is not seen with all of its frames.
        let frame_bytes = std::mem::take(&mut self.frame_bytes);
        if frame_bytes > 0 && records > 0 {
            let seen = (records * 256 / frame_bytes).min(256);
            self.record_share = (seen + seen / 16 + 1).max(self.record_share - self.record_share / 16);
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether a draft has grown so large that it should be sent now.
    pub fn is_large(&self) -> bool {
        self.open.iter().any(Open::is_large)
    }

    /// Takes the drafts in the order in which they must be sent.
    pub fn take(&mut self) -> Vec<Open> {
        self.learn_share();
        std::mem::take(&mut self.open)
    }
}

/// About how many bytes a record takes.
fn about_bytes(record: &NewRecord<'_>) -> usize {
    record.payload.bytes().len() + RECORD_OVERHEAD_BYTES
}

impl OpenDraft {
    /// Encodes a record behind the others, and says how many bytes that was.
    fn push(&mut self, record: &NewRecord<'_>, ttl_ms: Option<u64>) -> usize {
        let bytes = parts(record, ttl_ms).encode(&mut self.draft.records);
        let message_id = record.message_id.as_ref().map(|id| id.as_bytes().into());
        self.draft.entries.push(DraftEntry {
            bytes: bytes as u32,
            message_id,
        });
        bytes
    }

    /// Bytes that will be in flight: with what goes along with each record, which is more than a small
    /// record has itself.
    pub fn bytes(&self) -> usize {
        in_flight_bytes(&self.draft, self.replies.len())
    }

    /// The message, and the partition to send it to.
    pub fn into_append(mut self, origin: Origin) -> (Arc<PartitionRef>, Append) {
        let records = &mut self.draft.records;
        if records.capacity() > 2 * records.len() + DRAFT_SLACK_BYTES {
            // What was expected was something else, and the buffer may stay in memory for long.
            records.shrink_to_fit();
        }
        let bytes = self.bytes();
        let notices = addressed(self.wanted, &origin);
        let receipt = Receipt::new(origin, self.part.clone(), (bytes, self.held), self.replies);
        let append = Append {
            draft: self.draft,
            asked: self.asked,
            keep: self.keep,
            receipt,
            notices,
            dues: self.dues,
        };
        (self.part, append)
    }
}

fn addressed(wanted: Vec<(usize, Wanted)>, origin: &Origin) -> Vec<(usize, NoticeTo)> {
    let to = |(index, wanted): (usize, Wanted)| (index, wanted.to(origin));
    wanted.into_iter().map(to).collect()
}

fn in_flight_bytes(draft: &Draft, replies: usize) -> usize {
    draft.records.len() + replies * (size_of::<Reply>() + size_of::<DraftEntry>())
}

/// The parts of a record that lives for `ttl_ms`.
fn parts<'a>(record: &'a NewRecord<'_>, ttl_ms: Option<u64>) -> RecordParts<'a> {
    RecordParts {
        key: record.key.as_deref(),
        headers: record.headers.as_deref(),
        message_id: record.message_id.as_deref(),
        ttl_ms,
        binary: record.payload.is_binary(),
        payload: record.payload.bytes(),
    }
}

/// When a record is due; none for one that is not scheduled, or due already.
fn due_later(record: &NewRecord<'_>, asked: Asked) -> Result<Option<Timestamp>, Refusal> {
    let Some(due) = record.due else {
        return Ok(None);
    };
    let now = clock::now();
    let at = due.moment(now)?;
    if at <= now {
        return Ok(None);
    }
    if asked.until().is_some() || record.notify.is_some() {
        return Err(Refusal::new(
            ErrorCode::InvalidArgument,
            "a record that is due later is answered when its schedule is durable; it takes no ack delivered or \
             processed and no notify",
        ));
    }
    Ok(Some(at))
}

fn not_stored() -> Refusal {
    Refusal::new(
        ErrorCode::InvalidArgument,
        "a record with ttl_ms 0 is not stored; ack delivered and processed and notify need one that is",
    )
}

//! The error codes: one list, with what each means to a client and to HTTP.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal, $retryable:literal;)*) => {
        /// A stable code of the protocol, the same in frames and in REST problems.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the protocol's document.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The code as it stands in a frame.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The HTTP status of a REST problem with this code.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                }
            }

            /// Whether the same request may succeed later without a change.
            #[must_use]
            pub const fn is_retryable(self) -> bool {
                match self {
                    $(Self::$variant => $retryable,)*
                }
            }
        }
    };
}

error_codes! {
    /// Not a JSON object, not valid, too deep, or a field of the wrong type.
    BadFrame = "bad_frame", 400, false;
    /// The frame's `type` is not known.
    UnknownType = "unknown_type", 400, false;
    /// There is no such topic.
    TopicNotFound = "topic_not_found", 404, false;
    /// A topic of that name exists.
    TopicExists = "topic_exists", 409, false;
    /// There is no such exchange.
    ExchangeNotFound = "exchange_not_found", 404, false;
    /// The topic has fewer partitions.
    PartitionOutOfRange = "partition_out_of_range", 400, false;
    /// No binding matches the routing key.
    Unroutable = "unroutable", 422, false;
    /// The offset lies beyond the end.
    OffsetOutOfRange = "offset_out_of_range", 400, false;
    /// The session has no such subscription.
    NotSubscribed = "not_subscribed", 409, false;
    /// The session holds no such delivery.
    UnknownDelivery = "unknown_delivery", 409, false;
    /// The lease ended before it was settled.
    LeaseExpired = "lease_expired", 409, false;
    /// The member does not own the partition.
    NotOwner = "not_owner", 409, false;
    /// The partition was lost and gained again since that generation.
    StaleGeneration = "stale_generation", 409, false;
    /// The frame is larger than `frame_bytes_max`.
    FrameTooLarge = "frame_too_large", 413, false;
    /// The record is larger than the topic's `record_bytes_max`.
    RecordTooLarge = "record_too_large", 413, false;
    /// The topic holds `records_max` unfinished records.
    TopicFull = "topic_full", 429, true;
    /// More requests than are allowed.
    RateLimited = "rate_limited", 429, true;
    /// A bounded queue is full.
    Overloaded = "overloaded", 503, true;
    /// What was waited for did not happen in time.
    Timeout = "timeout", 504, true;
    /// The record went to the dead letters.
    DeadLettered = "dead_lettered", 422, false;
    /// The record has expired or was removed by retention.
    Expired = "expired", 410, false;
    /// No valid token.
    Unauthorized = "unauthorized", 401, false;
    /// Not allowed.
    Forbidden = "forbidden", 403, false;
    /// Contradicts what is there.
    Conflict = "conflict", 409, false;
    /// The store could not write or read; nothing is pretended.
    StorageFailed = "storage_failed", 503, true;
    /// The broker is shutting down.
    ShuttingDown = "shutting_down", 503, true;
    /// A value that is well formed but not allowed.
    InvalidArgument = "invalid_argument", 400, false;
    /// A fault of the broker; the outcome may be unknown.
    Internal = "internal", 500, true;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A refusal as a client sees it: a stable code and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The stable code.
    pub code: ErrorCode,
    /// A sentence for a person.
    pub message: String,
    /// When to try again, with `rate_limited`, `overloaded` and `topic_full`; milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Where reading can go on, with `expired`.
    pub next_offset: Option<crate::Offset>,
    /// Where the record is stored all the same, with `timeout` and `dead_lettered`.
    pub place: Option<(crate::PartitionId, crate::Offset)>,
}

impl Refusal {
    /// A refusal with a code and a sentence.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let retry_after_ms = matches!(
            code,
            ErrorCode::RateLimited | ErrorCode::Overloaded | ErrorCode::TopicFull
        )
        .then_some(crate::limits::RETRY_AFTER_MS);
        Self {
            code,
            message: message.into(),
            retry_after_ms,
            next_offset: None,
            place: None,
        }
    }

    /// Says where reading can go on.
    #[must_use]
    pub fn with_next_offset(mut self, next_offset: crate::Offset) -> Self {
        self.next_offset = Some(next_offset);
        self
    }

    /// Says where the record is stored although what was waited for did not happen.
    #[must_use]
    pub fn with_place(mut self, partition: crate::PartitionId, offset: crate::Offset) -> Self {
        self.place = Some((partition, offset));
        self
    }
}

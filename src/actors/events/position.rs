//! The opaque id of an event: the epoch and the next offset of every partition.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use callboard_protocol::{Epoch, Offset, PartitionId, client::Resume, limits::PARTITIONS_MAX};

/// The first byte; another one is a form that this version does not know.
const VERSION: u8 = 1;
/// An offset below 2^53 takes at most eight groups of seven bits.
const OFFSET_BYTES_MAX: usize = 8;

/// Where a reader of a topic is, over all partitions.
///
/// As text it is base64url of: version, length of the epoch, the epoch, then the next offset of each
/// partition in order, in groups of seven bits, lowest first, each but the last with its high bit set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    epoch: Epoch,
    offsets: Vec<Offset>,
}

impl Position {
    /// A position with the next offset of each partition, by number.
    #[must_use]
    pub fn new(epoch: Epoch, offsets: Vec<Offset>) -> Self {
        Self { epoch, offsets }
    }

    /// Moves on in one partition.
    pub fn set(&mut self, partition: PartitionId, next: Offset) {
        if let Some(offset) = self.offsets.get_mut(partition.0 as usize) {
            *offset = next;
        }
    }

    /// The position as text.
    #[must_use]
    pub fn encode(&self) -> String {
        let epoch = self.epoch.0.as_bytes();
        let mut bytes = Vec::with_capacity(2 + epoch.len() + self.offsets.len() * 3);
        bytes.extend([VERSION, epoch.len() as u8]);
        bytes.extend_from_slice(epoch);
        for offset in &self.offsets {
            let mut rest = offset.0;
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Self::encode`] wrote; `None` for anything else.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let [version, epoch_len, rest @ ..] = bytes.as_slice() else {
            return None;
        };
        let (epoch, mut rest) = rest.split_at_checked(usize::from(*epoch_len))?;
        let is_epoch = !epoch.is_empty() && epoch.iter().all(u8::is_ascii_alphanumeric);
        if *version != VERSION || !is_epoch {
            return None;
        }
        let mut offsets = Vec::new();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| byte & 0x80 == 0)? + 1;
            let (groups, after) = rest.split_at(end);
            if groups.len() > OFFSET_BYTES_MAX || offsets.len() == PARTITIONS_MAX as usize {
                return None;
            }
            let join = |offset, group: &u8| offset << 7 | u64::from(group & 0x7f);
            let offset = groups.iter().rev().fold(0, join);
            offsets.push(Offset(offset));
            rest = after;
        }
        let epoch = Epoch(String::from_utf8(epoch.to_vec()).ok()?);
        Some(Self { epoch, offsets })
    }

    /// The same as a subscription says it.
    pub(super) fn into_resume(self) -> Resume {
        let numbered = (0..).map(PartitionId).zip(self.offsets);
        Resume {
            offsets: numbered.collect(),
            epoch: Some(self.epoch),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn position_reads_back_as_it_was_written() {
        for offsets in [
            vec![],
            vec![0],
            vec![127, 128, 16_384, (1 << 53) - 1],
            vec![7; 1024],
        ] {
            let offsets: Vec<_> = offsets.into_iter().map(Offset).collect();
            let position = Position::new(Epoch("k3f9".into()), offsets);
            let text = position.encode();
            assert!(
                text.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            );
            assert_eq!(Position::decode(&text), Some(position));
        }
    }

    #[test]
    fn text_that_is_no_position_is_refused() {
        let good = Position::new(Epoch("k3f9".into()), vec![Offset(300)]).encode();
        let mut bytes = URL_SAFE_NO_PAD.decode(&good).unwrap();
        let cut = URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() - 1]);
        let too_many = Position::new(Epoch("k".into()), vec![Offset(0); 1025]).encode();
        let huge = URL_SAFE_NO_PAD.encode([&bytes[..6], &[0xff; 8], &[1]].concat());
        bytes[0] = 9;
        let other_version = URL_SAFE_NO_PAD.encode(&bytes);
        for bad in ["", "17", "!!", "AQ", &cut, &other_version, &too_many, &huge] {
            assert_eq!(Position::decode(bad), None, "{bad}");
        }
    }
}

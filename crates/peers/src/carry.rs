//! Items of a stream of bytes, wherever reads cut it.
//!
//! What a read holds whole is looked at where it lies; only an item that is cut is copied. Every reader of a peer's
//! protocol uses it, and says itself where an item ends.

/// How much more of a cut item is looked at first; doubled until the item is whole.
const STEP_BYTES: usize = 1024;

/// The beginning of an item whose end has not come.
#[derive(Debug, Default)]
pub struct Carry(Vec<u8>);

impl Carry {
    /// Takes what came apart. `item` gets all that is known from an item's first byte on, takes one item, and
    /// returns its length; `None` says that its end is missing, and the same item comes again with more.
    pub fn feed(&mut self, bytes: &[u8], mut item: impl FnMut(&[u8]) -> Option<usize>) {
        let mut at = self.complete(bytes, &mut item);
        while at < bytes.len() {
            let Some(length) = item(&bytes[at..]) else {
                self.0.extend_from_slice(&bytes[at..]);
                return;
            };
            debug_assert!(length > 0, "an item without bytes would never end");
            at += length;
        }
    }

    /// Finishes the item that was cut and returns how many bytes of `bytes` were its.
    fn complete(&mut self, bytes: &[u8], item: &mut impl FnMut(&[u8]) -> Option<usize>) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        let had = self.0.len();
        let mut taken = 0;
        let mut step = STEP_BYTES;
        while taken < bytes.len() {
            let more = step.min(bytes.len() - taken);
            self.0.extend_from_slice(&bytes[taken..taken + more]);
            taken += more;
            step *= 2;
            if let Some(length) = item(&self.0) {
                self.0.clear();
                return length - had;
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::Carry;

    #[test]
    fn items_are_whole_wherever_the_stream_is_cut() {
        // An item is a length and so many bytes.
        let lengths = [0_u8, 1, 7, 250, 3];
        let stream: Vec<u8> = lengths
            .iter()
            .flat_map(|&length| std::iter::once(length).chain(std::iter::repeat_n(length, length.into())))
            .collect();
        for size in 1..=stream.len() {
            let (mut carry, mut found) = (Carry::default(), Vec::new());
            for piece in stream.chunks(size) {
                carry.feed(piece, |bytes| {
                    let length = usize::from(bytes[0]) + 1;
                    let item = bytes.get(..length)?;
                    assert!(item.iter().all(|&byte| byte == item[0]));
                    found.push(item[0]);
                    Some(length)
                });
            }
            assert_eq!(found, lengths, "in pieces of {size}");
        }
    }

    #[test]
    fn what_follows_a_cut_item_in_the_same_read_is_not_lost() {
        let (mut carry, mut found) = (Carry::default(), 0);
        let mut item = |bytes: &[u8]| {
            (bytes.len() >= 3).then(|| {
                found += 1;
                3
            })
        };
        carry.feed(b"a", &mut item);
        carry.feed(&[b'x'; 5000], &mut item);
        assert_eq!(found, 5001 / 3);
    }
}

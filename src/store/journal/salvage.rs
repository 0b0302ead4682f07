//! Which records of a hurt batch are whole, and which offsets they have.
//!
//! A record's place in its batch is its offset, so it is not enough to find whole records: it must be
//! certain how many hurt ones lie before them. Going on after a hurt record is therefore allowed only at
//! a place from which the lengths lead exactly to the batch's end, with as many records as are missing.
//! That holds for the neighbour of a record whose content is hurt, is found by searching when a length
//! is hurt, and can not hold for bytes inside a payload that look like a record: they are one too many.

use callboard_core::record;

use super::reader::Piece;

/// How many times its own length a hurt batch's bytes may be read in search of its records, so that
/// bytes that somebody prepared can not make recovery take for ever.
const SEARCH_FACTOR: usize = 32;

/// The whole records of a body that was written with `count` of them.
#[must_use]
pub fn salvage(body: &[u8], count: u32) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut search = None;
    let mut position = 0;
    let mut index = 0;
    while index < count {
        let (end, whole) = whole_run(body, position, count - index);
        if whole > 0 {
            pieces.push(Piece {
                index,
                count: whole,
                bytes: position..end,
            });
        }
        index += whole;
        if index == count {
            break;
        }
        let search = search.get_or_insert_with(|| Search::new(body));
        let Some((next, left)) = search.after_hurt(end, count - index - 1) else {
            break;
        };
        position = next;
        index = count - left;
    }
    pieces
}

/// How far whole records go from `position`: the end of the last one, and how many.
fn whole_run(body: &[u8], position: usize, records_max: u32) -> (usize, u32) {
    let mut end = position;
    let mut whole = 0;
    while whole < records_max
        && let Ok(size) = record::verify(&body[end..])
    {
        end += size;
        whole += 1;
    }
    (end, whole)
}

struct Search<'a> {
    body: &'a [u8],
    /// For each place, how many records the lengths alone count from there to the end; 0 for none.
    to_end: Vec<u32>,
    budget: usize,
}

impl<'a> Search<'a> {
    fn new(body: &'a [u8]) -> Self {
        let mut to_end = vec![0_u32; body.len()];
        for place in (0..body.len()).rev() {
            let Ok(size) = record::encoded_len(&body[place..]) else {
                continue;
            };
            let next = place + size;
            if next == body.len() {
                to_end[place] = 1;
            } else if to_end[next] != 0 {
                to_end[place] = to_end[next].saturating_add(1);
            }
        }
        Self {
            body,
            to_end,
            budget: body.len().saturating_mul(SEARCH_FACTOR),
        }
    }

    /// The next place to go on after the hurt record at `position`, and how many records are left from
    /// there; `left_max` if that record is the only hurt one here.
    fn after_hurt(&mut self, position: usize, left_max: u32) -> Option<(usize, u32)> {
        if left_max == 0 {
            return None;
        }
        if let Ok(size) = record::encoded_len(&self.body[position..])
            && self.to_end.get(position + size) == Some(&left_max)
        {
            return Some((position + size, left_max));
        }
        // One hurt record explains most faults; only if that does not fit, several do.
        self.find(position, |left| left == left_max)
            .or_else(|| self.find(position, |left| left < left_max))
    }

    fn find(&mut self, position: usize, fits: impl Fn(u32) -> bool) -> Option<(usize, u32)> {
        self.budget = self.budget.checked_sub(self.body.len() - position)?;
        for place in position + 1..self.body.len() {
            let left = self.to_end[place];
            if left == 0 || !fits(left) {
                continue;
            }
            let size = record::encoded_len(&self.body[place..]).ok()?;
            self.budget = self.budget.checked_sub(size)?;
            if record::verify(&self.body[place..]).is_ok() {
                return Some((place, left));
            }
        }
        None
    }
}

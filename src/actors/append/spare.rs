//! Memory for replies, used again: every draft needs some on its session's thread, and it comes free there when the
//! session was answered.

use std::cell::RefCell;

use super::Reply;

/// A thread keeps so many …
const SPARES_MAX: usize = 32;
/// … of at most so many replies each, half a megabyte together.
const REPLIES_MAX: usize = 256;

thread_local! {
    static SPARES: RefCell<Vec<Vec<Reply>>> = const { RefCell::new(Vec::new()) };
}

/// Room for about `count` replies.
pub fn room_for(count: usize) -> Vec<Reply> {
    if count > REPLIES_MAX {
        return Vec::with_capacity(count);
    }
    let spare = SPARES.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Vec::with_capacity(count))
}

/// Takes replies that were given.
pub fn take_back(mut replies: Vec<Reply>) {
    if replies.capacity() == 0 || replies.capacity() > REPLIES_MAX {
        return;
    }
    replies.clear();
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARES_MAX {
            spares.push(replies);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::append::Slot;

    #[test]
    fn memory_comes_back_empty_and_is_bounded() {
        let reply = || Reply {
            id: None,
            slot: Slot::Alone,
            silent: false,
        };
        let mut first = room_for(10);
        first.push(reply());
        let place = first.as_ptr();
        take_back(first);
        let again = room_for(20);
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), place);
        take_back(Vec::with_capacity(REPLIES_MAX + 1));
        for _ in 0..2 * SPARES_MAX {
            take_back(Vec::with_capacity(1));
        }
        SPARES.with_borrow(|spares| {
            assert_eq!(spares.len(), SPARES_MAX);
            assert!(spares.iter().all(|spare| spare.capacity() <= REPLIES_MAX));
        });
    }
}

//! What is gathered is committed when somebody begins, with what is submitted behind it, or when the store ends.

use super::{
    engines::on_each,
    harness::{Owner, SMALL, batch, create, key, open, shut_down, texts},
};
use crate::store::{Durability, Submitted};

fn gather(owner: &mut Owner, payload: &str) -> Submitted {
    let submission = owner.submission(batch(owner.next, 10, &[payload]), Durability::Fsync);
    let next = submission.batch.next_offset();
    let submitted = owner.store.gather(submission).unwrap();
    owner.next = next;
    submitted
}

#[test]
fn what_is_gathered_is_committed_in_its_order() {
    on_each(|store, key| {
        let mut owner = Owner::open(store, key, 1);
        gather(&mut owner, "a");
        if gather(&mut owner, "b") == Submitted::Pending {
            assert_eq!(owner.read_all(), texts(&[]), "nobody began");
        }
        store.begin();
        owner.settle().unwrap();
        assert_eq!(owner.read_all(), texts(&["a", "b"]));
        gather(&mut owner, "c");
        owner.publish(11, &["d"]).unwrap();
        assert_eq!(owner.read_all(), texts(&["a", "b", "c", "d"]));
        // Nothing is there to begin with.
        store.begin();
        owner.publish(12, &["e"]).unwrap();
    });
}

#[test]
fn what_nobody_began_with_is_kept_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), SMALL);
    let key = key(create(store.as_ref(), "t"), 0);
    let mut owner = Owner::open(&store, key, 1);
    gather(&mut owner, "a");
    drop(owner);
    shut_down(store);
    let store = open(directory.path(), SMALL);
    let owner = Owner::open(&store, key, 2);
    assert_eq!(owner.read_all(), texts(&["a"]));
}

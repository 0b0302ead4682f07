//! Random histories against a plain vector, with restarts at any moment.

use std::sync::Arc;

use callboard_protocol::Offset;

use super::harness::{Owner, SMALL, batch, key, open, read_all, shut_down};
use crate::store::{Durability, Store};

/// A small generator (xorshift64*), so that a seed names a history.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

fn play(seed: u64) {
    const PARTITIONS: usize = 7;
    let mut random = Random(seed * 2 + 1);
    let directory = tempfile::tempdir().unwrap();
    let mut store: Arc<dyn Store> = open(directory.path(), SMALL);
    let mut wide = super::harness::topic("t");
    wide.partitions = PARTITIONS as u32;
    let id = store.create_topic(wide).blocking_recv().unwrap().unwrap();
    let mut model: Vec<Vec<Option<String>>> = vec![Vec::new(); PARTITIONS];
    let open_all = |store: &Arc<dyn Store>, incarnation: u64| -> Vec<Owner> {
        (0..PARTITIONS)
            .map(|partition| Owner::open(store, key(id, partition as u32), incarnation))
            .collect()
    };
    let mut owners = open_all(&store, 1);
    for step in 0..400_u64 {
        let place = random.below(PARTITIONS as u64) as usize;
        match random.below(40) {
            0 => {
                drop(owners);
                if random.below(2) == 0 {
                    shut_down(store);
                } else {
                    drop(store);
                }
                store = open(directory.path(), SMALL);
                owners = open_all(&store, 1);
            }
            1 => {
                let incarnation = owners[place].incarnation.0 + 1;
                owners[place] = Owner::open(&store, key(id, place as u32), incarnation);
            }
            2..6 => {
                owners[place].settle().unwrap();
                let expected = &model[place];
                let from = random.below(expected.len() as u64 + 1);
                let page = owners[place]
                    .log()
                    .read(Offset(from), random.below(3000) as usize)
                    .unwrap();
                let found: Vec<_> = page.batches.iter().flat_map(|batch| batch.iter()).collect();
                for (offset, parts) in &found {
                    let payload = expected[offset.0 as usize].as_deref().unwrap();
                    assert_eq!(parts.payload, payload.as_bytes(), "seed {seed} step {step}");
                }
                assert!(
                    from == expected.len() as u64 || found[0].0 == Offset(from),
                    "seed {seed} step {step}"
                );
            }
            6..12 => {
                let text = format!("{step}.together{}", "p".repeat(random.below(300) as usize));
                let chosen: Vec<_> = (0..PARTITIONS).filter(|_| random.below(2) == 0).collect();
                let set = chosen.iter().map(|place| {
                    let owner = &owners[*place];
                    let durability = [Durability::Os, Durability::Fsync][random.below(2) as usize];
                    owner.submission(batch(owner.next, step, &[&text]), durability)
                });
                let set: Vec<_> = set.collect();
                store.submit_together(set).unwrap();
                for place in chosen {
                    owners[place].next = owners[place].next.plus(1);
                    model[place].push(Some(text.clone()));
                }
            }
            _ => {
                let count = random.below(5) + 1;
                let payloads: Vec<_> = (0..count)
                    .map(|index| format!("{step}.{index}{}", "p".repeat(random.below(300) as usize)))
                    .collect();
                let borrowed: Vec<_> = payloads.iter().map(String::as_str).collect();
                let durability = [Durability::Os, Durability::Fsync][random.below(2) as usize];
                let owner = &mut owners[place];
                owner
                    .submit(batch(owner.next, step, &borrowed), durability)
                    .unwrap();
                if random.below(3) > 0 {
                    owner.settle().unwrap();
                }
                model[place].extend(payloads.into_iter().map(Some));
            }
        }
        // What was submitted and not waited for is settled before the store may go away.
        if random.below(8) == 0 {
            owners.iter_mut().for_each(|owner| owner.settle().unwrap());
        }
        if step % 40 == 39 {
            owners.iter_mut().for_each(|owner| owner.settle().unwrap());
            for (owner, expected) in owners.iter().zip(&model) {
                assert_eq!(&read_all(owner.log(), 700), expected, "seed {seed} step {step}");
            }
        }
    }
}

#[test]
fn random_histories_agree_with_a_vector() {
    for seed in 0..12 {
        play(seed);
    }
}

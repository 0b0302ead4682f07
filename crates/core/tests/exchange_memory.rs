//! What exchanges take of memory, counted by the allocator: it comes back when bindings go.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use callboard_core::exchange::{Binding, BindingId, Destination, Exchange, Exchanges};
use callboard_protocol::{ExchangeKind, ExchangeName, TopicName};

/// Counts the bytes that are allocated. This file has one test, so that nobody else allocates.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it hands everything on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps what `dealloc` asks for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const BINDINGS: u64 = 20_000;

fn fill(exchanges: &mut Exchanges, kind: ExchangeKind) {
    let name = ExchangeName::parse(kind.as_str()).expect("a good name");
    for id in 0..BINDINGS {
        let key = match kind {
            ExchangeKind::Topic if id % 3 == 0 => format!("plant.*.{id}.#"),
            ExchangeKind::Topic if id % 3 == 1 => format!("#.line-{}.*.{id}", id % 100),
            _ => format!("plant.{}.sensor-{id}.temperature", id % 50),
        };
        let to = TopicName::parse(&format!("topic-{}", id % 1000)).expect("a good name");
        let binding = Binding {
            id: BindingId(id),
            exchange: name.clone(),
            to: Destination::Topic(to),
            routing_key: key.into(),
        };
        exchanges.bind(binding).expect("the key is good");
    }
}

#[test]
fn memory_of_bindings_comes_back_however_they_go() {
    for kind in [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic] {
        let name = ExchangeName::parse(kind.as_str()).expect("a good name");
        let mut exchanges = Exchanges::default();
        let exchange = Exchange {
            name,
            kind,
            alternate: None,
        };
        exchanges.declare(exchange.clone()).expect("it is new");
        let empty = ALLOCATED.load(Ordering::Relaxed);
        for way in ["unbind", "forget_topic", "delete"] {
            fill(&mut exchanges, kind);
            let full = ALLOCATED.load(Ordering::Relaxed) - empty;
            let each = full as u64 / BINDINGS;
            assert!((200..900).contains(&each), "{kind}: {each} bytes a binding");
            match way {
                "unbind" => {
                    for id in 0..BINDINGS {
                        exchanges
                            .unbind(kind.as_str(), BindingId(id))
                            .expect("it was bound");
                    }
                }
                "forget_topic" => {
                    for topic in 0..1000 {
                        exchanges.forget_topic(&format!("topic-{topic}"));
                    }
                }
                _ => {
                    exchanges.delete(kind.as_str()).expect("it is there");
                    exchanges.declare(exchange.clone()).expect("it is new again");
                }
            }
            let left = ALLOCATED.load(Ordering::Relaxed).saturating_sub(empty);
            assert!(
                left < 2_000,
                "{kind}: {left} of {full} bytes are left after {way}"
            );
        }
    }
}

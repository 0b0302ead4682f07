//! What one routing key costs among 100, 10,000 and 100,000 bindings.
//!
//! The keys match equally many bindings at each size, so that what grows is only what must not matter:
//! those that do not match. `docs/benchmarks.md` has the figures.

use std::hint::black_box;

use callboard_core::exchange::{Binding, BindingId, Destination, Exchange, Exchanges};
use callboard_protocol::{ExchangeKind, ExchangeName, TopicName};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// How keys of bindings look, and what is asked.
struct Pattern {
    name: &'static str,
    kind: ExchangeKind,
    /// The key of the binding with this number.
    binding_key: fn(u64) -> String,
    /// Keys that exist at every size, with how many bindings each matches.
    routing_keys: &'static [(&'static str, usize)],
}

const PATTERNS: [Pattern; 5] = [
    Pattern {
        name: "direct",
        kind: ExchangeKind::Direct,
        binding_key: |number| format!("plant.line-{}.sensor-{number}", number % 10),
        routing_keys: &[
            ("plant.line-7.sensor-17", 1),
            ("plant.line-0.sensor-60", 1),
            ("plant.line-3", 0),
        ],
    },
    Pattern {
        name: "topic, plain words",
        kind: ExchangeKind::Topic,
        binding_key: |number| format!("plant.line-{}.sensor-{number}", number % 10),
        routing_keys: &[
            ("plant.line-7.sensor-17", 1),
            ("plant.line-0.sensor-60", 1),
            ("plant.line-3", 0),
        ],
    },
    Pattern {
        name: "topic, one * or # each",
        kind: ExchangeKind::Topic,
        binding_key: |number| match number % 4 {
            0 => format!("plant.*.sensor-{number}"),
            1 => format!("*.line-{number}.temperature"),
            2 => format!("#.alarm-{number}"),
            _ => format!("plant.line-{number}.#"),
        },
        routing_keys: &[
            ("plant.line-7.sensor-16", 2),
            ("plant.line-13.temperature", 1),
            ("plant.line-4.unit.alarm-18", 1),
        ],
    },
    Pattern {
        name: "topic, many # each",
        kind: ExchangeKind::Topic,
        binding_key: |number| match number % 2 {
            0 => format!("#.line-{number}.#.temperature.#"),
            _ => format!("#.plant.#.unit.#.sensor-{number}"),
        },
        routing_keys: &[
            ("site.plant.line-16.temperature", 1),
            ("plant.unit.unit.unit.sensor-17", 1),
            ("site.plant.unit.line-4.sensor-5", 1),
        ],
    },
    Pattern {
        name: "topic, mixed",
        kind: ExchangeKind::Topic,
        binding_key: |number| match number % 6 {
            0 => format!("plant.line-{}.sensor-{number}", number % 10),
            1 => format!("plant.*.sensor-{number}"),
            2 => format!("#.alarm-{number}"),
            3 => format!("plant.line-{number}.#"),
            4 => format!("#.line-{number}.#.temperature.#"),
            _ => format!("*.*.sensor-{number}.*.#"),
        },
        routing_keys: &[
            ("plant.line-6.sensor-36", 1),
            ("plant.line-9.sensor-13", 2),
            ("site.unit.sensor-11.raw.alarm-8", 2),
        ],
    },
];

const SIZES: [u64; 3] = [100, 10_000, 100_000];

fn exchange(kind: ExchangeKind, bindings: u64, binding_key: impl Fn(u64) -> String) -> Exchanges {
    let name = ExchangeName::parse("bench").expect("a good name");
    let mut exchanges = Exchanges::default();
    let exchange = Exchange {
        name: name.clone(),
        kind,
        alternate: None,
    };
    exchanges.declare(exchange).expect("it is new");
    for number in 0..bindings {
        let topic = TopicName::parse(&format!("topic-{number}")).expect("a good name");
        let binding = Binding {
            id: BindingId(number),
            exchange: name.clone(),
            to: Destination::Topic(topic),
            routing_key: binding_key(number).into(),
        };
        exchanges.bind(binding).expect("the key is good");
    }
    exchanges
}

/// One key at each size; the time is that of one `route`.
fn routing(criterion: &mut Criterion) {
    for pattern in PATTERNS {
        let mut group = criterion.benchmark_group(pattern.name);
        for bindings in SIZES {
            let exchanges = exchange(pattern.kind, bindings, pattern.binding_key);
            for &(key, expected) in pattern.routing_keys {
                let routes = exchanges.route("bench", key).expect("it is there");
                assert_eq!(routes.topics.len(), expected, "{key} among {bindings}");
            }
            let mut keys = pattern.routing_keys.iter().cycle();
            group.bench_function(BenchmarkId::from_parameter(bindings), |bencher| {
                bencher.iter(|| {
                    let (key, _) = keys.next().expect("it goes round");
                    black_box(exchanges.route("bench", black_box(key)))
                });
            });
        }
        group.finish();
    }
}

/// A fan-out reaches all, so its cost is shown for each topic reached.
fn fanout(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout, all match");
    for bindings in SIZES {
        let exchanges = exchange(ExchangeKind::Fanout, bindings, |_| String::new());
        let routes = exchanges.route("bench", "key").expect("it is there");
        assert_eq!(routes.topics.len() as u64, bindings);
        group.throughput(criterion::Throughput::Elements(bindings));
        group.bench_function(BenchmarkId::from_parameter(bindings), |bencher| {
            bencher.iter(|| black_box(exchanges.route("bench", black_box("key"))));
        });
    }
    group.finish();
}

criterion_group!(benches, routing, fanout);
criterion_main!(benches);

//! Promises of exchanges: what reaches which topic, and what may be declared and bound.

mod naive;

use callboard_core::exchange::{
    Binding, BindingId, Bound, Declared, Deleted, Destination, Exchange, ExchangeError, Exchanges, Routes,
};
use callboard_protocol::{ErrorCode, ExchangeKind, ExchangeName, TopicName};

use crate::random::Random;
use naive::{Naive, key_matches};

const KINDS: [ExchangeKind; 3] = [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic];

fn name(text: &str) -> ExchangeName {
    ExchangeName::parse(text).expect("the scenario's exchange has a good name")
}

fn topic(text: &str) -> Destination {
    Destination::Topic(TopicName::parse(text).expect("the scenario's topic has a good name"))
}

fn exchange(text: &str) -> Destination {
    Destination::Exchange(name(text))
}

fn plain(text: &str, kind: ExchangeKind) -> Exchange {
    Exchange {
        name: name(text),
        kind,
        alternate: None,
    }
}

fn with_alternate(text: &str, alternate: &str) -> Exchange {
    Exchange {
        alternate: Some(name(alternate)),
        ..plain(text, ExchangeKind::Direct)
    }
}

fn binding(id: u64, from: &str, to: Destination, key: &str) -> Binding {
    Binding {
        id: BindingId(id),
        exchange: name(from),
        to,
        routing_key: key.into(),
    }
}

/// One topic exchange `t` with a binding to topic `k<number>` for each key.
fn topic_exchange(keys: &[&str]) -> Exchanges {
    let mut exchanges = Exchanges::default();
    assert_eq!(
        exchanges.declare(plain("t", ExchangeKind::Topic)),
        Ok(Declared::New)
    );
    for (number, key) in keys.iter().enumerate() {
        let new = binding(number as u64, "t", topic(&format!("k{number}")), key);
        assert_eq!(exchanges.bind(new), Ok(Bound::New), "{key}");
    }
    exchanges
}

/// The numbers of the keys that match, by the exchange of [`topic_exchange`].
fn matched(exchanges: &Exchanges, key: &str) -> Vec<u64> {
    let routes = exchanges.route("t", key).expect("the exchange is there");
    routes.bindings.iter().map(|id| id.0).collect()
}

/// The topics that a key reaches, split by blanks.
fn topics(exchanges: &Exchanges, from: &str, key: &str) -> String {
    let routes = exchanges.route(from, key).expect("the exchange is there");
    let names: Vec<&str> = routes.topics.iter().map(TopicName::as_str).collect();
    names.join(" ")
}

/// A key of up to `words_max` words out of `choices`; empty words come from an empty choice.
fn random_key(random: &mut Random, choices: &[&str], words_max: u64) -> String {
    let words: Vec<&str> = (0..random.below(words_max + 1))
        .map(|_| *random.pick(choices))
        .collect();
    words.join(".")
}

pub fn topic_matching_agrees_with_the_naive_matcher() {
    let (mut matching, mut tried) = (0_u64, 0_u64);
    for seed in 0..1_000 {
        let mut random = Random::new(seed);
        let words: &[&str] = random.pick::<&[&str]>(&[
            &["a", "b", "*", "#"][..],
            &["a", "*", "#"],
            &["a", "b", "ab", "", "*", "#", "#"],
        ]);
        let mut keys: Vec<String> = (0..=random.below(40))
            .map(|_| random_key(&mut random, words, 7))
            .collect();
        keys.sort();
        keys.dedup();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut exchanges = topic_exchange(&keys);
        let mut there: Vec<(u64, &str)> = (0..).zip(keys).collect();
        for _ in 0..40 {
            let key = random_key(&mut random, &["a", "b", "ab", ""], 7);
            let does = |&&(_, pattern): &&(u64, &str)| key_matches(ExchangeKind::Topic, pattern, &key);
            let expected: Vec<u64> = there.iter().filter(does).map(|&(number, _)| number).collect();
            assert_eq!(
                matched(&exchanges, &key),
                expected,
                "seed {seed}: {key:?} in {there:?}"
            );
            matching += expected.len() as u64;
            tried += there.len() as u64;
            if random.chance(1, 4) && !there.is_empty() {
                let (number, _) = there.swap_remove(random.below(there.len() as u64) as usize);
                assert!(exchanges.unbind("t", BindingId(number)).is_some(), "seed {seed}");
                there.sort_unstable();
            }
        }
    }
    assert!(
        matching > tried / 20 && matching < tried / 2,
        "{matching} of {tried}: both answers are tried often"
    );
}

pub fn wildcards_of_exchanges_mean_what_amqp_says() {
    let keys = [
        "#",
        "*",
        "a.#",
        "#.a",
        "a.*.#",
        "*.#.b",
        "",
        "a..b",
        "#.#",
        "*.*",
        "a.#.b.#.c",
    ];
    let exchanges = topic_exchange(&keys);
    for (key, expected) in [
        ("", &["#", "", "#.#"][..]),
        ("a", &["#", "*", "a.#", "#.a", "#.#"]),
        ("a.b", &["#", "a.#", "a.*.#", "*.#.b", "#.#", "*.*"]),
        ("a..b", &["#", "a.#", "a.*.#", "*.#.b", "a..b", "#.#"]),
        ("b.a", &["#", "#.a", "#.#", "*.*"]),
        (".", &["#", "#.#", "*.*"]),
        ("a.x.b.b.c", &["#", "a.#", "a.*.#", "#.#", "a.#.b.#.c"]),
        ("A", &["#", "*", "#.#"]),
    ] {
        let names: Vec<&str> = matched(&exchanges, key)
            .iter()
            .map(|&number| keys[number as usize])
            .collect();
        assert_eq!(names, expected, "{key:?}");
    }
}

pub fn longest_keys_are_routed() {
    // 256 empty words, and every place where a set of positions goes over into its next part.
    let dots = ".".repeat(255);
    let words = "a.".repeat(127) + "a";
    let exchanges = topic_exchange(&[
        "#",
        "*.#",
        &dots,
        &words,
        "#.a",
        &"*.".repeat(127),
        &("*.".repeat(127) + "*"),
    ]);
    assert_eq!(matched(&exchanges, &dots), [0, 1, 2]);
    assert_eq!(matched(&exchanges, &words), [0, 1, 3, 4, 6]);
    for count in [63, 64, 65, 126] {
        let exchanges = topic_exchange(&[
            "a.#.b",
            &("*.".repeat(count) + "b"),
            &("#.c".to_owned() + &".*".repeat(count)),
        ]);
        assert_eq!(
            matched(&exchanges, &("a.".repeat(count) + "b")),
            [0, 1],
            "{count}"
        );
        assert_eq!(
            matched(&exchanges, &("a.".repeat(count - 1) + "b")),
            [0],
            "{count}"
        );
        assert_eq!(
            matched(&exchanges, &("c".to_owned() + &".a".repeat(count))),
            [2],
            "{count}"
        );
        assert_eq!(
            matched(&exchanges, &("c".to_owned() + &".c".repeat(count - 1))),
            [0_u64; 0],
            "{count}"
        );
    }
}

pub fn many_hashes_do_not_make_routing_slow() {
    // Who tries each way on its own needs more steps than there are atoms: every # may take any number of words.
    let mut keys: Vec<String> = (1..60).map(|hashes| "#.a.".repeat(hashes) + "b").collect();
    keys.extend((1..40).map(|hashes| "#.*.a.".repeat(hashes / 2 + 1) + "c." + &"#.".repeat(hashes) + "d"));
    let longest = "#.a.".repeat(60) + "#";
    keys.push(longest);
    keys.sort();
    keys.dedup();
    let last = keys
        .iter()
        .position(|key| key.ends_with(".a.#"))
        .expect("it was put there") as u64;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let exchanges = topic_exchange(&keys);
    for _ in 0..200 {
        assert_eq!(matched(&exchanges, &("a.".repeat(126) + "a")), [last]);
    }
}

/// One step of a random schedule, played on both; panics where they differ.
fn step(random: &mut Random, real: &mut Exchanges, naive: &mut Naive, seed: u64) {
    let names = ["e", "f", "g", "h", "i"];
    let topics = ["a", "b", "c.d"];
    let keys = ["", "a", "a.b", "b.b", "#", "*", "a.#", "*.b"];
    let pick = |random: &mut Random| name(random.pick::<&str>(&names));
    let before = real.version();
    let changed = match random.below(12) {
        0..=2 => {
            let exchange = Exchange {
                name: pick(random),
                kind: *random.pick(&KINDS),
                alternate: random.chance(1, 3).then(|| pick(random)),
            };
            let declared = real.declare(exchange.clone());
            assert_eq!(declared, naive.declare(exchange), "seed {seed}");
            declared == Ok(Declared::New)
        }
        3 if random.chance(1, 3) => {
            let name = pick(random);
            let deleted: Result<Deleted, ExchangeError> = real.delete(name.as_str());
            assert_eq!(deleted, naive.delete(name.as_str()), "seed {seed}");
            deleted.is_ok()
        }
        4..=9 => {
            let from = pick(random);
            let kind = naive.get(from.as_str()).map(|exchange| exchange.kind);
            let plain_keys = if kind == Some(ExchangeKind::Topic) {
                keys.len()
            } else {
                4
            };
            let new = Binding {
                id: BindingId(before + 1000),
                to: if random.chance(2, 5) {
                    Destination::Exchange(pick(random))
                } else {
                    topic(random.pick::<&str>(&topics))
                },
                routing_key: (*random.pick(&keys[..plain_keys])).into(),
                exchange: from,
            };
            assert_eq!(
                real.find(new.exchange.as_str(), &new.to, &new.routing_key),
                naive.find(new.exchange.as_str(), &new.to, &new.routing_key),
                "seed {seed}"
            );
            let bound = real.bind(new.clone());
            assert_eq!(bound, naive.bind(new), "seed {seed}");
            bound == Ok(Bound::New)
        }
        10 => {
            let from = pick(random);
            let ids: Vec<BindingId> = naive.bindings.iter().map(|binding| binding.id).collect();
            let id = if ids.is_empty() {
                BindingId(1)
            } else {
                *random.pick(&ids)
            };
            let unbound = real.unbind(from.as_str(), id);
            assert_eq!(unbound, naive.unbind(from.as_str(), id), "seed {seed}");
            unbound.is_some()
        }
        11 if random.chance(1, 3) => {
            let topic = *random.pick(&topics);
            let forgotten = real.forget_topic(topic);
            assert_eq!(forgotten, naive.forget_topic(topic), "seed {seed}");
            !forgotten.is_empty()
        }
        _ => false,
    };
    assert_eq!(
        real.version() > before,
        changed,
        "seed {seed}: the version tells of each change"
    );
}

/// Compares all that can be asked; says whether something was routed.
fn compare(real: &Exchanges, naive: &mut Naive, seed: u64) -> u64 {
    let mut routed = 0;
    naive.exchanges.sort_by(|one, other| one.name.cmp(&other.name));
    naive.bindings.sort_by_key(|binding| binding.id);
    assert!(real.iter().eq(&naive.exchanges), "seed {seed}");
    for exchange in ["e", "f", "g", "h", "i"] {
        assert_eq!(real.get(exchange), naive.get(exchange), "seed {seed}");
        let theirs = naive
            .bindings
            .iter()
            .filter(|one| one.exchange.as_str() == exchange);
        if let Ok(bindings) = real.bindings_of(exchange) {
            assert!(bindings.eq(theirs), "seed {seed}");
        } else {
            assert!(naive.get(exchange).is_none(), "seed {seed}");
        }
        for key in ["", "a", "a.b", "b.b", "a.a.b"] {
            let expected = naive.route(exchange, key);
            let found = real.route(exchange, key).map(|mut routes| {
                assert_eq!(routes.exchanges[0].as_str(), exchange, "seed {seed}");
                routes.exchanges.sort();
                routes
            });
            assert_eq!(found, expected, "seed {seed}: {key:?} from {exchange}");
            routed += found.map_or(0, |routes: Routes| routes.topics.len() as u64);
        }
    }
    routed
}

pub fn random_exchanges_agree_with_the_naive_ones() {
    let mut routed = 0;
    for seed in 0..600 {
        let mut random = Random::new(seed);
        let (mut real, mut naive) = (Exchanges::default(), Naive::default());
        for _ in 0..12 {
            for _ in 0..=random.below(8) {
                step(&mut random, &mut real, &mut naive, seed);
            }
            routed += compare(&real, &mut naive, seed);
        }
        // What is kept comes back the same, in whatever order it is read.
        naive.exchanges.sort_by_cached_key(|_| random.next());
        naive.bindings.sort_by_cached_key(|_| random.next());
        let (restored, faults) = Exchanges::restore(naive.exchanges.clone(), naive.bindings.clone());
        assert_eq!(faults, [], "seed {seed}");
        compare(&restored, &mut naive, seed);
    }
    assert!(routed > 40_000, "{routed}: routes are found often");
}

pub fn cycles_of_exchanges_are_refused_however_they_close() {
    let mut exchanges = Exchanges::default();
    for exchange in ["a", "b", "c"] {
        assert_eq!(
            exchanges.declare(plain(exchange, ExchangeKind::Fanout)),
            Ok(Declared::New)
        );
    }
    // d's records that match nothing go to a.
    assert_eq!(exchanges.declare(with_alternate("d", "a")), Ok(Declared::New));
    assert_eq!(exchanges.bind(binding(1, "a", exchange("b"), "")), Ok(Bound::New));
    assert_eq!(exchanges.bind(binding(2, "b", exchange("c"), "")), Ok(Bound::New));
    for (from, to) in [
        ("a", "a"),
        ("c", "a"),
        ("c", "b"),
        ("b", "a"),
        ("a", "d"),
        ("c", "d"),
    ] {
        let refused = exchanges.bind(binding(3, from, exchange(to), "x"));
        let expected = ExchangeError::Cycle {
            from: name(from),
            to: name(to),
        };
        assert_eq!(refused, Err(expected.clone()), "{from} to {to}");
        assert_eq!(expected.refusal().code, ErrorCode::Conflict);
    }
    let own = exchanges.declare(with_alternate("e", "e"));
    assert!(matches!(own, Err(ExchangeError::Cycle { .. })));
    assert!(exchanges.get("e").is_none(), "nothing was made");
    // Two ways to the same place are none, and a way that is taken away closes none.
    assert_eq!(exchanges.bind(binding(4, "a", exchange("c"), "")), Ok(Bound::New));
    assert_eq!(exchanges.bind(binding(5, "d", exchange("c"), "")), Ok(Bound::New));
    assert!(exchanges.unbind("b", BindingId(2)).is_some());
    assert_eq!(exchanges.bind(binding(6, "c", exchange("b"), "")), Ok(Bound::New));
    assert!(matches!(
        exchanges.bind(binding(7, "b", exchange("a"), "")),
        Err(ExchangeError::Cycle { .. })
    ));
}

pub fn alternates_are_asked_in_turn_until_a_topic_is_reached() {
    let mut exchanges = Exchanges::default();
    exchanges
        .declare(plain("last", ExchangeKind::Fanout))
        .expect("new");
    exchanges.declare(with_alternate("second", "last")).expect("new");
    exchanges.declare(with_alternate("first", "second")).expect("new");
    exchanges
        .declare(plain("aside", ExchangeKind::Direct))
        .expect("new");
    exchanges
        .bind(binding(1, "first", topic("here"), "k"))
        .expect("new");
    exchanges
        .bind(binding(2, "first", exchange("aside"), "x"))
        .expect("new");
    let reached = |exchanges: &Exchanges, key: &str| exchanges.route("first", key).expect("it is there");
    let direct = reached(&exchanges, "k");
    assert!(!direct.took_alternate && direct.exchanges == [name("first")]);
    // A way that ends at another exchange without a match is no match.
    let lost = reached(&exchanges, "x");
    assert!(lost.took_alternate && lost.topics.is_empty() && lost.bindings == [BindingId(2)]);
    assert_eq!(lost.exchanges, ["first", "aside", "second", "last"].map(name));
    exchanges
        .bind(binding(3, "last", topic("lost"), ""))
        .expect("new");
    assert_eq!(topics(&exchanges, "first", "x"), "lost");
    exchanges
        .bind(binding(4, "second", topic("found"), "x"))
        .expect("new");
    assert_eq!(topics(&exchanges, "first", "x"), "found");
    exchanges
        .bind(binding(5, "aside", topic("near"), "x"))
        .expect("new");
    assert_eq!(topics(&exchanges, "first", "x"), "near");
    // Without its alternate it keeps what it has, and is told to the caller, who keeps it.
    let gone = exchanges.delete("second").expect("it is there");
    assert_eq!(gone.bindings, [binding(4, "second", topic("found"), "x")]);
    assert_eq!(gone.orphaned, [plain("first", ExchangeKind::Direct)]);
    assert_eq!(topics(&exchanges, "first", "y"), "");
    assert_eq!(topics(&exchanges, "first", "k"), "here");
}

pub fn topics_reached_by_several_ways_count_once() {
    let mut exchanges = topic_exchange(&["#", "a.*", "a.#"]);
    exchanges
        .declare(plain("all", ExchangeKind::Fanout))
        .expect("new");
    for (id, key) in [(10, "*.b"), (11, "a.b"), (12, "#")] {
        exchanges.bind(binding(id, "t", topic("k1"), key)).expect("new");
        exchanges
            .bind(binding(id + 10, "t", exchange("all"), key))
            .expect("new");
    }
    exchanges
        .bind(binding(30, "all", topic("k1"), "one"))
        .expect("new");
    exchanges
        .bind(binding(31, "all", topic("k1"), "another"))
        .expect("new");
    assert_eq!(topics(&exchanges, "t", "a.b"), "k0 k1 k2");
    let routes = exchanges.route("t", "a.b").expect("it is there");
    assert_eq!(routes.bindings.len(), 3 + 3 + 3 + 2, "each that matched, once");
    assert_eq!(
        routes.exchanges,
        ["t", "all"].map(name),
        "each that was passed, once"
    );
}

pub fn keys_are_checked_by_the_kind_of_exchange() {
    let mut exchanges = Exchanges::default();
    for kind in KINDS {
        exchanges.declare(plain(kind.as_str(), kind)).expect("new");
        for bad in ["a b", "a*", "$x", "ä"] {
            let refused = exchanges.bind(binding(1, kind.as_str(), topic("a"), bad));
            let refusal = refused.expect_err("it is no key").refusal();
            assert_eq!(refusal.code, ErrorCode::InvalidArgument, "{kind} {bad}");
        }
        let pattern = exchanges.bind(binding(1, kind.as_str(), topic("a"), "a.#"));
        assert_eq!(pattern.is_ok(), kind == ExchangeKind::Topic, "{kind}");
    }
    let missing = exchanges
        .bind(binding(2, "nowhere", topic("a"), ""))
        .expect_err("it is not there");
    assert_eq!(missing.refusal().code, ErrorCode::ExchangeNotFound);
    let missing = exchanges
        .bind(binding(2, "topic", exchange("nowhere"), ""))
        .expect_err("it is not there");
    assert_eq!(missing, ExchangeError::NotFound("nowhere".into()));
    assert_eq!(exchanges.declare(with_alternate("x", "nowhere")), Err(missing));
}

pub fn kept_exchanges_that_contradict_each_other_are_told_and_left_out() {
    let kept = vec![
        with_alternate("a", "b"),
        with_alternate("b", "a"),
        with_alternate("c", "gone"),
    ];
    let bindings = vec![
        binding(1, "a", topic("t"), "k"),
        binding(2, "c", exchange("gone"), "k"),
        binding(3, "b", exchange("a"), "k"),
        binding(4, "c", topic("t"), "a b"),
    ];
    let (exchanges, faults) = Exchanges::restore(kept, bindings);
    assert_eq!(faults.len(), 5, "{faults:?}");
    assert_eq!(exchanges.get("a"), Some(&with_alternate("a", "b")));
    assert_eq!(exchanges.get("b"), Some(&plain("b", ExchangeKind::Direct)));
    assert_eq!(exchanges.get("c"), Some(&plain("c", ExchangeKind::Direct)));
    assert_eq!(exchanges.bindings_of("a").expect("it is there").len(), 1);
    assert_eq!(topics(&exchanges, "a", "k"), "t");
    assert!(exchanges.binding("b", BindingId(3)).is_none());
}

pub fn binding_ids_have_one_spelling() {
    for number in [0, 1, 17, 9_007_199_254_740_991, u64::MAX] {
        assert_eq!(
            BindingId::parse(&BindingId(number).to_string()),
            Some(BindingId(number))
        );
    }
    for bad in [
        "",
        "b-",
        "17",
        "b17",
        "b-+1",
        "b--1",
        "b-01",
        "b-00",
        "b- 1",
        "B-1",
        "b-18446744073709551616",
    ] {
        assert_eq!(BindingId::parse(bad), None, "{bad:?}");
    }
}

//! Promises of patterns over topic names.

use callboard_core::patterns::Patterns;
use callboard_protocol::{NameError, Pattern, TopicName};

use crate::random::Random;

fn matches(pattern: &str, topic: &str) -> bool {
    let pattern = Pattern::parse(pattern).expect("the scenario's pattern is one");
    pattern.matches(&TopicName::parse(topic).expect("the scenario's topic is one"))
}

/// What a pattern means, said as shortly as possible.
fn naive(pattern: &[&str], topic: &[&str]) -> bool {
    match (pattern, topic) {
        ([], []) => true,
        (["#", rest @ ..], _) => naive(rest, topic) || (!topic.is_empty() && naive(pattern, &topic[1..])),
        ([word, pattern @ ..], [first, topic @ ..]) => {
            (*word == "*" || word == first) && naive(pattern, topic)
        }
        _ => false,
    }
}

pub fn matching_agrees_with_the_naive_matcher() {
    let mut matched = 0;
    for seed in 0..40_000 {
        let mut random = Random::new(seed);
        let mut words = |choices: &[&'static str]| -> Vec<&'static str> {
            (0..=random.below(6)).map(|_| *random.pick(choices)).collect()
        };
        let mut pattern = words(&["a", "b", "*", "#"]);
        let topic = words(&["a", "b", "ab"]);
        if !Pattern::is_pattern(&pattern.concat()) {
            pattern.push("#");
        }
        let expected = naive(&pattern, &topic);
        matched += u32::from(expected);
        let (pattern, topic) = (pattern.join("."), topic.join("."));
        assert_eq!(
            matches(&pattern, &topic),
            expected,
            "seed {seed}: {pattern} on {topic}"
        );
        let internal = matches(&format!("${pattern}"), &format!("${topic}"));
        assert_eq!(internal, expected, "seed {seed}: ${pattern} on ${topic}");
    }
    assert!(
        (4_000..36_000).contains(&matched),
        "{matched}: both answers are tried often"
    );
}

pub fn many_patterns_find_what_each_alone_matches() {
    let mut matched = 0;
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let mut words = |choices: &[&'static str]| -> String {
            let dollar = if random.chance(1, 4) { "$" } else { "" };
            let words: Vec<_> = (0..=random.below(5)).map(|_| *random.pick(choices)).collect();
            dollar.to_owned() + &words.join(".")
        };
        let mut all = Patterns::default();
        let mut known = Vec::new();
        for number in 0..60 {
            let Ok(pattern) = Pattern::parse(&words(&["a", "b", "*", "#"])) else {
                continue;
            };
            let id = all.insert(&pattern, number);
            known.push((number, id, pattern));
            if known.len() % 3 == 0 {
                let (_, id, pattern) = known.remove(known.len() / 2);
                all.remove(&pattern, id);
            }
        }
        assert_eq!(all.count(), known.len());
        for _ in 0..20 {
            let topic = TopicName::parse(&words(&["a", "b", "c"])).expect("its words are good");
            let alone: Vec<_> = known
                .iter()
                .filter(|(_, _, pattern)| pattern.matches(&topic))
                .map(|(number, ..)| *number)
                .collect();
            assert_eq!(all.matching(&topic), alone, "seed {seed}: {topic}");
            for (_, _, pattern) in known.iter().filter(|(_, _, pattern)| pattern.matches(&topic)) {
                let prefix = pattern.literal_prefix();
                assert!(
                    topic.as_str().starts_with(prefix),
                    "{pattern} begins {prefix:?}: {topic}"
                );
            }
            matched += alone.len();
        }
        for (_, id, pattern) in known.drain(..) {
            all.remove(&pattern, id);
        }
        assert_eq!(all.count(), 0);
    }
    assert!(matched > 2_000, "{matched}: some match often");
}

pub fn literal_prefix_of_a_pattern_is_its_words_before_the_first_wildcard() {
    for (pattern, prefix) in [
        ("orders.*.created", "orders"),
        ("orders.eu.#", "orders.eu"),
        ("#", ""),
        ("*.created", ""),
        ("$events.#", "$events"),
        ("$#", "$"),
    ] {
        let pattern = Pattern::parse(pattern).expect("the scenario's pattern is one");
        assert_eq!(pattern.literal_prefix(), prefix, "{pattern}");
    }
}

pub fn many_hashes_do_not_make_matching_slow() {
    // The naive matcher would need more steps than there are atoms for this.
    let pattern = "#.a.".repeat(63) + "b";
    let topic = "a.".repeat(127) + "a";
    assert!(!matches(&pattern, &topic));
    assert!(matches(&("#.a.".repeat(63) + "#"), &topic));
}

pub fn patterns_are_spelt_as_names_with_whole_word_wildcards() {
    for good in [
        "*",
        "#",
        "orders.*.created",
        "#.created",
        "orders.#",
        "$#",
        "$stats.*",
        "a-b_C.9.*",
    ] {
        assert_eq!(Pattern::parse(good).as_ref().map(Pattern::as_str), Ok(good));
    }
    for (bad, expected) in [
        ("", NameError::Length),
        ("$", NameError::EmptyWord),
        (".*", NameError::EmptyWord),
        ("a..*", NameError::EmptyWord),
        ("*.", NameError::EmptyWord),
        ("orders", NameError::NoWildcard),
        ("orders.a*", NameError::PartialWildcard),
        ("orders.**", NameError::PartialWildcard),
        ("#a", NameError::PartialWildcard),
        ("ä.*", NameError::Alphabet),
        ("a b.*", NameError::Alphabet),
        ("a.$b.*", NameError::Alphabet),
    ] {
        assert_eq!(Pattern::parse(bad), Err(expected), "{bad:?}");
    }
    assert!(Pattern::parse(&("a.".repeat(127) + "*")).is_ok());
    assert_eq!(Pattern::parse(&("ab.".repeat(85) + "*")), Err(NameError::Length));
    assert!(Pattern::is_pattern("a.*") && Pattern::is_pattern("a#") && !Pattern::is_pattern("a.b"));
}

pub fn internal_topics_match_only_patterns_that_say_so() {
    assert!(!matches("#", "$stats.rates"));
    assert!(!matches("*.rates", "$stats.rates"));
    assert!(matches("$#", "$stats.rates"));
    assert!(matches("$stats.*", "$stats.rates"));
    assert!(matches("$*.rates", "$stats.rates"));
    assert!(!matches("$#", "stats.rates"));
    assert!(!matches("$stats.*", "stats.rates"));
}

//! The scanner against the grammar and against `serde_json`.

use proptest::prelude::*;

use super::*;

/// What `serde_json` says of the same text; it limits depth to 128 only when it builds.
fn reference_accepts(text: &str) -> bool {
    serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

#[test]
fn accepts_and_refuses_what_the_grammar_says() {
    for good in [
        "0",
        "-0",
        "1.10",
        "1e5",
        "1E-5",
        "-1.5e+10",
        "true",
        "null",
        "\"\"",
        "[]",
        "{}",
        " [ 1 , 2 ] ",
        r#"{"a":[{"b":"c\u00e9\n"}]}"#,
        "\"\\ud800\"",
        "999999996000000004",
        "[[[[]]]]",
        "\"é\"",
    ] {
        assert!(check(good).is_ok(), "{good}");
        assert!(reference_accepts(good), "{good}");
    }
    for bad in [
        "",
        " ",
        "01",
        "1.",
        ".5",
        "+1",
        "-",
        "1e",
        "tru",
        "nul",
        "\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "[",
        "]",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "1 2",
        "\"a\nb\"",
        "\"\u{1}\"",
        "[1}",
        "NaN",
        "'a'",
        "{\"a\":1]",
        "\u{feff}1",
    ] {
        assert!(check(bad).is_err(), "{bad}");
        assert!(!reference_accepts(bad), "{bad}");
    }
}

#[test]
fn depth_of_128_is_the_last_one_accepted() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(check(&nested(128)).is_ok());
    assert!(matches!(check(&nested(129)), Err(JsonError::TooDeep(128))));
    assert!(matches!(check(&nested(500_000)), Err(JsonError::TooDeep(128))));
    assert!(check(&"[".repeat(1_000_000)).is_err());
    assert!(check(&("{\"a\":".repeat(128) + "1" + &"}".repeat(128))).is_ok());
}

#[test]
fn what_follows_a_value_too_deep_is_still_read() {
    for depth in [129, 255, 256, 257, 1_000] {
        let (arrays, objects) = ("[".repeat(depth), "{\"a\":".repeat(depth));
        let text = format!("{arrays}1{},", "]".repeat(depth));
        let mut scanner = Scanner::new(&text);
        assert_eq!(scanner.value(), Err(JsonError::TooDeep(128)));
        assert_eq!(scanner.position(), text.len() - 1);
        let mixed = format!("{objects}{arrays}{}{}", "]".repeat(depth), "}".repeat(depth));
        assert!(matches!(check(&mixed), Err(JsonError::TooDeep(_))));
        let crossed = format!("{objects}{arrays}{}{}", "}".repeat(depth), "]".repeat(depth));
        assert!(matches!(check(&crossed), Err(JsonError::Syntax(_))));
    }
}

#[test]
fn line_breaks_between_tokens_become_spaces() {
    assert_eq!(check("{\r\n\"a\": 1.10\n}\n").unwrap(), "{  \"a\": 1.10 }");
    assert!(matches!(check("{\"a\": 1.10}").unwrap(), Cow::Borrowed(_)));
}

#[test]
fn integers_are_exact_or_nothing() {
    assert_eq!(as_integer("9007199254740991"), Some((1 << 53) - 1));
    for bad in [
        "9007199254740992",
        "-1",
        "1.0",
        "1e3",
        "",
        "99999999999999999999",
        "\"1\"",
    ] {
        assert_eq!(as_integer(bad), None, "{bad}");
    }
}

fn json_like() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("{".to_owned()),
        Just("}".to_owned()),
        Just("[".to_owned()),
        Just("]".to_owned()),
        Just(",".to_owned()),
        Just(":".to_owned()),
        Just("\"a\"".to_owned()),
        Just("\"\\n\"".to_owned()),
        Just("1".to_owned()),
        Just("-2.5e3".to_owned()),
        Just("true".to_owned()),
        Just(" ".to_owned()),
        Just("\n".to_owned()),
        "[ -~]{0,4}",
        "\"[a-z\\\\\"]{0,12}\"",
    ];
    proptest::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat())
}

/// A run is looked through in blocks, and the last one overlaps the one before: each place and length must do.
#[test]
fn plain_run_ends_at_the_first_stop_wherever_it_stands() {
    for length in 0..70 {
        for start in 0..=length {
            for stop in start..=length {
                for byte in [b'"', b'\\', 0, 0x1f, b'\n'] {
                    let mut bytes = vec![0xc3; length];
                    if let Some(place) = bytes.get_mut(stop) {
                        *place = byte;
                    }
                    if start > 0 {
                        // What lies before the start stops nothing.
                        bytes[start - 1] = b'"';
                    }
                    assert_eq!(plain_run_end(&bytes, start), stop, "{length} from {start}");
                }
            }
        }
    }
}

#[test]
fn no_other_byte_ends_a_plain_run() {
    for byte in 0..=u8::MAX {
        let bytes = [byte; 21];
        let is_stop = byte == b'"' || byte == b'\\' || byte < 0x20;
        assert_eq!(plain_run_end(&bytes, 0) == 0, is_stop, "{byte:#x}");
        assert_eq!(plain_run_end(&bytes[..9], 0) == 0, is_stop, "{byte:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_serde_json_on_token_soup(text in json_like()) {
        prop_assert_eq!(check(&text).is_ok(), reference_accepts(&text), "{}", text);
    }

    #[test]
    fn pushed_text_reads_back(text in "\\PC*|[\\x00-\\x7f]*") {
        let mut buffer = Vec::new();
        push_text(&mut buffer, &text);
        let encoded = String::from_utf8(buffer).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(&encoded).unwrap(), text.clone());
        prop_assert_eq!(as_text(&encoded).unwrap(), text);
    }

    #[test]
    fn valid_documents_pass_byte_for_byte(value in arbitrary_json()) {
        let text = value.to_string();
        prop_assert_eq!(check(&text).unwrap(), text.as_str());
    }
}

fn arbitrary_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "\\PC{0,20}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
            proptest::collection::hash_map("\\PC{0,8}", inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

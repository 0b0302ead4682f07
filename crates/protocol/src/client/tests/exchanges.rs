//! Publishes to exchanges, and the frames that make them.

use super::*;
use crate::name::{ExchangeKind, ExchangeName};

fn to(fields: &str) -> To<'_> {
    published(fields).to
}

#[test]
fn a_publish_goes_to_a_topic_or_through_an_exchange() {
    let through = |exchange: &'static str, routing_key: &'static str| To::Exchange {
        exchange: exchange.into(),
        routing_key: routing_key.into(),
    };
    for (text, expected) in [
        (
            r#"{"type":"publish","id":3,"exchange":"readings","routing_key":"plant.boiler.temp","payload":21.5}"#,
            through("readings", "plant.boiler.temp"),
        ),
        (
            r#"{"type":"publish","exchange":"readings","payload":1}"#,
            through("readings", ""),
        ),
        (
            r#"{"type":"publish","exchange":"readings","routing_key":null,"topic":null,"messages":[{"payload":1}]}"#,
            through("readings", ""),
        ),
        (
            r#"{"type":"publish","exchange":"","routing_key":"orders","payload":1}"#,
            through("", "orders"),
        ),
        (
            r#"{"type":"publish","\u0065xchange":"\u0065","routing\u005fkey":"a\u002eb","payload":1}"#,
            through("e", "a.b"),
        ),
        // Where it goes is clear, and a field that is not needed is no error.
        (
            r#"{"type":"publish","topic":"t","routing_key":"a.b","payload":1}"#,
            To::Topic("t".into()),
        ),
    ] {
        assert_eq!(to(text), expected, "{text}");
    }
}

#[test]
fn a_publish_that_does_not_say_where_to_is_refused() {
    use ErrorCode::{BadFrame, InvalidArgument};
    let long = format!(r#""exchange":"e","routing_key":"{}""#, "k".repeat(256));
    for (fields, code) in [
        (r#""payload":1"#, BadFrame),
        (r#""routing_key":"a""#, BadFrame),
        (r#""topic":null,"exchange":null"#, BadFrame),
        (r#""topic":"t","exchange":"e""#, BadFrame),
        (r#""topic":"t","exchange":"""#, BadFrame),
        (r#""exchange":5"#, BadFrame),
        (r#""exchange":"e","routing_key":5"#, BadFrame),
        (r#""exchange":"e","routing_key":"a.*""#, InvalidArgument),
        (r#""exchange":"e","routing_key":"a.#.b""#, InvalidArgument),
        (r#""exchange":"e","routing_key":"a b""#, InvalidArgument),
        (r#""exchange":"","routing_key":"$events""#, InvalidArgument),
        (&long, InvalidArgument),
    ] {
        let text = format!(r#"{{"type":"publish","id":3,"payload":1,{fields}}}"#);
        assert_eq!(refusal(&text), (code, Some("3".into())), "{fields}");
    }
}

#[test]
fn an_exchange_is_declared_with_its_kind() {
    let declared = |fields: &str| {
        let text = format!(r#"{{"type":"declare","id":19,{fields}}}"#);
        match request(&text) {
            Request::DeclareExchange(declare) => declare,
            other => panic!("{text}: {other:?}"),
        }
    };
    let name = |name| ExchangeName::parse(name).unwrap();
    assert_eq!(
        declared(r#""exchange":"readings","kind":"topic""#),
        DeclareExchange {
            exchange: name("readings"),
            kind: ExchangeKind::Topic,
            alternate: None,
        }
    );
    assert_eq!(
        declared(r#""topic":null,"exchange":"a.b","kind":"fanout","alternate":"lost","more":1"#),
        DeclareExchange {
            exchange: name("a.b"),
            kind: ExchangeKind::Fanout,
            alternate: Some(name("lost")),
        }
    );
    assert_eq!(
        declared(r#""exchange":"d","kind":"direct","alternate":null"#).kind,
        ExchangeKind::Direct
    );
    let text = r#"{"type":"declare","topic":"t","exchange":null}"#;
    assert!(matches!(request(text), Request::Declare(declare) if declare.config == "{}"));
}

#[test]
fn a_binding_leads_to_a_topic_or_to_an_exchange() {
    let exchange = ExchangeName::parse("readings").unwrap();
    let plant = BindTo::Topic(TopicName::parse("plant").unwrap());
    let other = BindTo::Exchange(ExchangeName::parse("other").unwrap());
    for (fields, to, routing_key) in [
        (r#""topic":"plant","routing_key":"plant.#""#, &plant, "plant.#"),
        (r#""topic":"plant""#, &plant, ""),
        (r#""to_exchange":"other","routing_key":"*""#, &other, "*"),
        (
            r#""to_exchange":"other","topic":null,"routing_key":null"#,
            &other,
            "",
        ),
    ] {
        let expected = Bind {
            exchange: exchange.clone(),
            to: to.clone(),
            routing_key: routing_key.into(),
        };
        let text = |name| format!(r#"{{"type":"{name}","id":20,"exchange":"readings",{fields}}}"#);
        assert!(
            matches!(request(&text("bind")), Request::Bind(bind) if bind == expected),
            "{fields}"
        );
        assert!(
            matches!(request(&text("unbind")), Request::Unbind(bind) if bind == expected),
            "{fields}"
        );
    }
}

#[test]
fn frames_about_exchanges_are_refused_with_their_code_and_id() {
    use ErrorCode::{BadFrame, InvalidArgument};
    for (fields, code) in [
        (r#""type":"declare","exchange":"e""#, BadFrame),
        (r#""type":"declare","exchange":"e","kind":null"#, BadFrame),
        (r#""type":"declare","exchange":"e","kind":1"#, BadFrame),
        (r#""type":"declare","exchange":1,"kind":"topic""#, BadFrame),
        (
            r#""type":"declare","exchange":"e","topic":"t","kind":"topic""#,
            BadFrame,
        ),
        (
            r#""type":"declare","exchange":"e","kind":"headers""#,
            InvalidArgument,
        ),
        (
            r#""type":"declare","exchange":"","kind":"direct""#,
            InvalidArgument,
        ),
        (
            r#""type":"declare","exchange":"$e","kind":"direct""#,
            InvalidArgument,
        ),
        (
            r#""type":"declare","exchange":"e","kind":"direct","alternate":"""#,
            InvalidArgument,
        ),
        (
            r#""type":"declare","exchange":"e","kind":"direct","alternate":{}"#,
            BadFrame,
        ),
        (r#""type":"bind","topic":"t""#, BadFrame),
        (r#""type":"bind","exchange":"e""#, BadFrame),
        (
            r#""type":"bind","exchange":"e","topic":"t","to_exchange":"f""#,
            BadFrame,
        ),
        (
            r#""type":"bind","exchange":"e","topic":"t","routing_key":7"#,
            BadFrame,
        ),
        (r#""type":"bind","exchange":"e","topic":"a..b""#, InvalidArgument),
        (
            r#""type":"bind","exchange":"e","to_exchange":"a*""#,
            InvalidArgument,
        ),
        (r#""type":"bind","exchange":"","topic":"t""#, InvalidArgument),
        (r#""type":"unbind","exchange":"e""#, BadFrame),
        (r#""type":"unbind","exchange":"a b","topic":"t""#, InvalidArgument),
    ] {
        let (found, id) = refusal(&format!(r#"{{{fields},"id":"x\n"}}"#));
        assert_eq!((found, id.as_deref()), (code, Some(r#""x\n""#)), "{fields}");
    }
}

//! Every workload that needs no broker, on the bare server in this process.

use std::time::Duration;

use callboard_load::{
    Failure,
    bare::{BareArgs, bind},
    broker::{Ack, Bare, Callboard, Durability, Subprotocol},
    mixed::MixedPlan,
    process::Server,
    sample::Figures,
    workload::{Timing, Workload},
};

/// A bare server on a thread that ends with the tests.
fn server(dialect: Callboard) -> Server {
    let args = BareArgs {
        silent: dialect.ack == Ack::None,
        durability: "memory".to_owned(),
        file: None,
    };
    let (server, address) = bind(&args).unwrap_or_else(|error| panic!("{error}"));
    std::thread::spawn(move || server.serve());
    Server::running(address.to_string(), None)
}

fn measured(workload: Workload, dialect: Callboard) -> Result<Figures, Failure> {
    let timing = Timing {
        warm_up: Duration::from_millis(20),
        duration: Duration::from_millis(200),
        payload_bytes: 64,
    };
    workload.measure(&Bare(dialect), &server(dialect), timing)
}

fn dialects() -> [Callboard; 3] {
    let lines = Callboard::new(Durability::Memory);
    let silent = Callboard {
        ack: Ack::None,
        ..lines
    };
    let frames = Callboard {
        subprotocol: Subprotocol::Json,
        ..lines
    };
    [lines, silent, frames]
}

#[test]
fn fanout_and_ingest_count_what_arrives_whether_or_not_it_is_answered() {
    for dialect in dialects() {
        for workload in [
            Workload::Fanout {
                subscribers: 3,
                in_flight: 8,
            },
            Workload::Fanout {
                subscribers: 1,
                in_flight: 1,
            },
            Workload::Ingest {
                publishers: 2,
                subscribers: 1,
                in_flight: 16,
            },
        ] {
            let count = measured(workload, dialect).map(|figures| figures.count);
            assert!(
                matches!(count, Ok(Some(count)) if count > 0),
                "{workload:?} {dialect:?}: {count:?}"
            );
        }
    }
}

#[test]
fn every_record_of_an_open_loop_comes_and_has_a_lateness() {
    for dialect in dialects() {
        let workload = Workload::Latency {
            subscribers: 2,
            rate_per_s: 500,
        };
        let figures = measured(workload, dialect).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(figures.lost, Some(0), "{dialect:?}");
        assert!(figures.latency.is_some_and(|late| late.p50_us > 0.0));
    }
}

#[test]
fn crowd_gets_everything_and_the_slow_catch_up() {
    let plan = MixedPlan {
        topics: 2,
        publishers: 3,
        quick: 4,
        slow: 2,
        slow_bytes_per_s: 100,
        rate_per_s: 500,
        ..MixedPlan::default()
    };
    for dialect in dialects() {
        let figures = measured(Workload::Mixed(plan), dialect).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(figures.lost, Some(0), "{dialect:?}");
        let slow = figures.slow.unwrap_or_default();
        assert_eq!((slow.sockets, slow.cut_off, slow.lost), (2, 0, 0), "{dialect:?}");
        assert!(slow.behind > 0, "{dialect:?}: they read 100 bytes a second");
    }
}

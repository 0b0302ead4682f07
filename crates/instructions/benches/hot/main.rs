//! Instructions of the hot path, piece by piece and from socket to socket.
//!
//! `cargo xtask instructions` runs these under callgrind and compares the counts with `instructions.toml`. Each is
//! played once, and only what is inside the functions counts, not what sets them up or checks them afterwards. A
//! batch is 100 records with payloads of 128 bytes.

mod pieces;

use callboard::actors::wire::Format;
use callboard_instructions::{
    records::Answer,
    scenes::{FanOut, Publishing, Working},
};
use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use pieces::{carry, decide};

// A batch from the publisher's socket to the last answer at it.
#[library_benchmark(teardown = Publishing::check)]
#[bench::one_message(args = (1, Answer::Accepted), setup = Publishing::lines)]
#[bench::one_message_to_8_partitions(args = (8, Answer::Accepted), setup = Publishing::lines)]
#[bench::one_message_unanswered(args = (1, Answer::Never), setup = Publishing::lines)]
#[bench::message_each(args = (Answer::Accepted), setup = Publishing::frames)]
#[bench::message_each_unanswered(args = (Answer::Never), setup = Publishing::frames)]
#[bench::one_by_one(setup = Publishing::one_by_one)]
fn publish(mut scene: Publishing) -> Publishing {
    scene.round();
    scene
}

// A batch from the publisher's socket to those of 100 subscribers.
#[library_benchmark(teardown = FanOut::check)]
#[bench::ndjson(args = (Format::Ndjson, 100), setup = FanOut::new)]
#[bench::json(args = (Format::Json, 100), setup = FanOut::new)]
fn fan_out(mut scene: FanOut) -> FanOut {
    scene.round();
    scene
}

// A batch to a group's member, and back what it has done with it.
#[library_benchmark(teardown = Working::check)]
#[bench::shared_ack_each(setup = Working::shared)]
#[bench::partitioned_commit_a_batch(setup = Working::partitioned)]
fn group(mut scene: Working) -> Working {
    scene.round();
    scene
}

library_benchmark_group!(name = broker, benchmarks = [publish, fan_out, group]);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = [carry, decide, broker]
);

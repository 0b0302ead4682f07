//! The demo's work queue: frames to render, and a shared group of workers that take one at a time.
//!
//! Most frames are rendered at the first attempt, some need another, and one now and then can not be rendered at
//! all, so that leases, retries and dead letters are there to look at. Called by [`super::run`] only.

use std::time::Duration;

use callboard_client::{Client, Error, Job, MemberOptions, Nack, SharedOptions};
use serde::Deserialize;

use super::{Chance, PAUSE, publish};

const TOPIC: &str = "demo.renders";
const GROUP: &str = "farm";
/// Who works, one job at a time each.
pub(super) const WORKERS: [&str; 3] = ["blade-1", "blade-2", "blade-3"];

const SCENES: [(&str, &str); 6] = [
    ("harbour", "wet-stone.exr"),
    ("attic", "oak-planks.exr"),
    ("orchard", "bark.exr"),
    ("station", "brushed-steel.exr"),
    ("library", "old-paper.exr"),
    ("lighthouse", "white-plaster.exr"),
];
/// What no worker has, so that a frame that asks for it fails at every attempt.
const TEXTURE_MISSING: &str = "marble.exr";
/// One frame of so many asks for it: about four an hour. The first comes soon, for who looks only for a minute.
const DOOMED_EVERY: u64 = 2_500;
const DOOMED_FIRST: u64 = 30;

/// Up to [`SHOT_FRAMES_MAX`] frames so often: a little over half of what the workers can do.
const SHOT_EVERY: Duration = Duration::from_millis(1_300);
const SHOT_FRAMES_MAX: u64 = 6;
const RENDER_MS_MIN: u64 = 200;
const RENDER_MS_MAX: u64 = 1_000;
/// The part of the attempts that fail for a reason that passes.
const FAILING_PART: f64 = 0.04;
/// Much longer than a render, so that a busy machine does not end leases.
const LEASE: Duration = Duration::from_secs(10);

/// A frame to render, as the workers read it.
#[derive(Deserialize)]
struct Render {
    frame: u64,
    scene: String,
    texture: String,
}

/// Publishes frames until the process ends.
pub(super) async fn shots(client: &Client, mut chance: Chance) {
    let mut frame = 1u64;
    loop {
        let &(scene, usual) = chance.pick(&SCENES);
        for _ in 0..=chance.next() % SHOT_FRAMES_MAX {
            let texture = if is_doomed(frame) { TEXTURE_MISSING } else { usual };
            let payload = format!("{{\"frame\":{frame},\"scene\":\"{scene}\",\"texture\":\"{texture}\"}}");
            publish(client, TOPIC, scene, &payload).await;
            frame += 1;
        }
        tokio::time::sleep(SHOT_EVERY).await;
    }
}

fn is_doomed(frame: u64) -> bool {
    frame % DOOMED_EVERY == DOOMED_FIRST
}

/// Renders what comes, and joins again if the membership ends.
pub(super) async fn work(url: String, name: &str, mut chance: Chance) {
    let client = match super::connect(&url).await {
        Ok(client) => client,
        Err(error) => return log::error!("the demo's {name} could not connect to {url}: {error}"),
    };
    // From the newest: a group that somebody deleted would else render for hours what it had rendered before.
    let member = MemberOptions::default()
        .named(name)
        .from(callboard_client::From::Latest)
        .with_credit(1);
    let options = SharedOptions::from(member).with_lease(LEASE);
    loop {
        match client.join_shared(TOPIC, GROUP, options.clone()).await {
            Ok(mut worker) => {
                while let Some(job) = worker.next_job().await {
                    if let Err(error) = render(job, name, &mut chance).await {
                        log::debug!("the demo's {name} could not settle a frame: {error}");
                    }
                }
            }
            Err(error) => log::warn!("the demo's {name} could not join {GROUP}: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn render(job: Job, name: &str, chance: &mut Chance) -> Result<(), Error> {
    let payload = job.message().payload.as_ref().map_or("null", |json| json.get());
    let render: Render = match serde_json::from_str(payload) {
        Ok(render) => render,
        Err(error) => {
            let nack = Nack::dead_letter().because(format!("not a frame to render: {error}"));
            return job.nack(nack).await;
        }
    };
    let took_ms = RENDER_MS_MIN + chance.next() % (RENDER_MS_MAX - RENDER_MS_MIN + 1);
    tokio::time::sleep(Duration::from_millis(took_ms)).await;
    let Render {
        frame,
        scene,
        texture,
    } = render;
    if texture == TEXTURE_MISSING {
        let reason = format!("texture {texture} is not in the library");
        return job.nack(Nack::backoff().because(reason)).await;
    }
    if chance.unit() < FAILING_PART {
        let reason = format!("{name} ran out of graphics memory");
        return job.nack(Nack::backoff().because(reason)).await;
    }
    let image = format!("{scene}-{frame:06}.png");
    let result = serde_json::json!({"image": image, "worker": name, "took_ms": took_ms});
    job.ack_with(&result.to_string()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_frames_an_hour_are_doomed_and_one_comes_soon() {
        let frames_an_hour = 3_600 * 1_000 / SHOT_EVERY.as_millis() as u64 * (SHOT_FRAMES_MAX + 1) / 2;
        let doomed = (1..=frames_an_hour).filter(|frame| is_doomed(*frame)).count();
        assert!((2..=5).contains(&doomed), "{doomed} of {frames_an_hour}");
        assert!((1..=60).any(is_doomed));
    }
}

//! The demo's exchanges and what is due later: a plant whose readings are routed by their keys, a shop whose
//! orders are split by region, one of which nobody serves, and reminders. Called by [`super::run`] only.

use std::time::Duration;

use callboard_client::{Binding, Client, Error, ExchangeKind, Publish};
use tokio::time::sleep;

use super::{Chance, PAUSE};

/// Each keeps only a little.
pub(super) const TOPICS: [(&str, &str); 9] = [
    ("demo.plant.archive", SMALL),
    ("demo.plant.boilers", SMALL),
    ("demo.plant.temperatures", SMALL),
    ("demo.plant.pager", SMALL),
    ("demo.plant.wall", SMALL),
    ("demo.plant.unclaimed", SMALL),
    ("demo.shop.eu", SMALL),
    ("demo.shop.us", SMALL),
    ("demo.reminders", r#"{"retention_bytes":1048576,"ttl_ms":60000}"#),
];
const SMALL: &str = r#"{"retention_bytes":1048576}"#;

const PLANT: &str = "demo.plant";
const ALARMS: &str = "demo.alarms";
const UNCLAIMED: &str = "demo.unclaimed";
const SHOP: &str = "demo.shop";

const KEYS: [&str; 7] = [
    "boiler.temp",
    "boiler.pressure",
    "boiler.burner.temp",
    "turbine.rpm",
    "pump.flow",
    "hall.temp",
    "tank.level",
];
/// `asia` is served by nobody.
const REGIONS: [&str; 9] = ["eu", "us", "eu", "us", "eu", "us", "eu", "us", "asia"];

const READING_EVERY: Duration = Duration::from_millis(40);
const ORDER_EVERY: Duration = Duration::from_millis(450);
const REMINDER_EVERY: Duration = Duration::from_secs(3);

/// Declares what is routed how; the same again changes nothing.
async fn set_up(client: &Client) -> Result<(), Error> {
    client
        .declare_exchange(UNCLAIMED, ExchangeKind::Fanout, None)
        .await?;
    client
        .declare_exchange(PLANT, ExchangeKind::Topic, Some(UNCLAIMED))
        .await?;
    client
        .declare_exchange(ALARMS, ExchangeKind::Fanout, None)
        .await?;
    client.declare_exchange(SHOP, ExchangeKind::Direct, None).await?;
    let bindings = [
        Binding::to_topic(UNCLAIMED, "demo.plant.unclaimed", ""),
        Binding::to_topic(PLANT, "demo.plant.boilers", "boiler.#"),
        Binding::to_topic(PLANT, "demo.plant.temperatures", "#.temp"),
        Binding::to_topic(PLANT, "demo.plant.archive", "*.*"),
        Binding::to_exchange(PLANT, ALARMS, "#.alarm"),
        Binding::to_topic(ALARMS, "demo.plant.pager", ""),
        Binding::to_topic(ALARMS, "demo.plant.wall", ""),
        Binding::to_topic(SHOP, "demo.shop.eu", "eu"),
        Binding::to_topic(SHOP, "demo.shop.us", "us"),
    ];
    for binding in &bindings {
        client.bind(binding).await?;
    }
    Ok(())
}

/// Publishes through the exchanges, and for later, until the process ends.
pub(super) async fn run(client: &Client, chance: impl Fn(u32) -> Chance) {
    while let Err(error) = set_up(client).await {
        log::warn!("the demo could not declare its exchanges: {error}");
        sleep(PAUSE).await;
    }
    tokio::join!(
        readings(client, chance(3)),
        shop(client, chance(11)),
        reminders(client, chance(19)),
    );
}

async fn publish(client: &Client, record: Publish) {
    match client.publish(record).await {
        // What nobody serves is there to be seen.
        Err(Error::Refused(refused)) if refused.code == "unroutable" => {}
        Err(error) => {
            log::warn!("the demo could not publish: {error}");
            sleep(PAUSE).await;
        }
        Ok(_) => {}
    }
}

fn record(payload: &str) -> Option<Publish> {
    Publish::json("", payload)
        .inspect_err(|error| log::error!("the demo made bad JSON: {error}"))
        .ok()
}

async fn readings(client: &Client, mut chance: Chance) {
    loop {
        let key = chance.pick(&KEYS);
        let value = 20.0 + 60.0 * chance.unit();
        // A reading that is too high is an alarm as well, and only that.
        let key = if value > 78.0 {
            format!("{key}.alarm")
        } else {
            (*key).to_owned()
        };
        if let Some(record) = record(&format!("{{\"sensor\":\"{key}\",\"value\":{value:.2}}}")) {
            publish(client, record.through(PLANT, key)).await;
        }
        sleep(READING_EVERY).await;
    }
}

async fn shop(client: &Client, mut chance: Chance) {
    let mut number = 1_u64;
    loop {
        let region = *chance.pick(&REGIONS);
        if let Some(record) = record(&format!("{{\"order\":{number},\"region\":\"{region}\"}}")) {
            publish(client, record.through(SHOP, region)).await;
        }
        number += 1;
        sleep(ORDER_EVERY).await;
    }
}

async fn reminders(client: &Client, mut chance: Chance) {
    let mut number = 1_u64;
    loop {
        let delay = Duration::from_secs(5 + chance.next() % 55);
        let payload = format!("{{\"reminder\":{number},\"after_s\":{}}}", delay.as_secs());
        if let Ok(record) = Publish::json("demo.reminders", &payload) {
            publish(client, record.with_delay(delay)).await;
        }
        number += 1;
        sleep(REMINDER_EVERY).await;
    }
}

//! `serve --demo`: live traffic to look at.
//!
//! Ordinary clients of the public protocol that run inside the broker's process: share prices that walk,
//! sensors that breathe, orders that come in bursts, frames that a group of workers renders, a group whose
//! members share the prices, a plant and a shop whose records are routed by exchanges, and reminders for later. Nothing of it is special to the broker.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use callboard_client::{Client, ConnectOptions, Error, Publish};

mod charts;
mod farm;
mod plant;

/// The topics, with their configuration. Each keeps only so much, so that a demo that is left on for days does
/// not grow.
const OWN_TOPICS: [(&str, &str); 5] = [
    ("demo.prices", r#"{"partitions":6,"retention_bytes":4194304}"#),
    (
        "demo.readings",
        r#"{"partitions":2,"durability":"memory","retention_bytes":4194304}"#,
    ),
    ("demo.orders", r#"{"retention_bytes":8388608}"#),
    (
        "demo.renders",
        r#"{"partitions":2,"retention_bytes":4194304,"attempts_max":4}"#,
    ),
    (
        "demo.renders.farm.dlq",
        r#"{"retention_bytes":1048576,"retention_ms":86400000}"#,
    ),
];

// Each of the six partitions of `demo.prices` gets some of them.
const SYMBOLS: [(&str, f64); 8] = [
    ("MSFT", 412.0),
    ("AMZN", 187.0),
    ("IBM", 231.0),
    ("GOOG", 171.0),
    ("AAPL", 228.0),
    ("NVDA", 139.0),
    ("ORCL", 168.0),
    ("ADBE", 505.0),
];
const SENSORS: [&str; 6] = [
    "boiler.temp",
    "boiler.pressure",
    "turbine.rpm",
    "pump.flow",
    "tank.level",
    "hall.temp",
];
/// Every topic of the demo, with its configuration.
pub fn topics() -> impl Iterator<Item = (&'static str, &'static str)> {
    OWN_TOPICS.into_iter().chain(plant::TOPICS)
}

const CITIES: [&str; 5] = ["Amsterdam", "Lisbon", "Oslo", "Vienna", "Tallinn"];

const PRICE_EVERY: Duration = Duration::from_millis(60);
const READING_EVERY: Duration = Duration::from_millis(110);
const ORDER_EVERY: Duration = Duration::from_millis(350);
const ARRIVAL_EVERY: Duration = Duration::from_millis(200);
/// How long to wait before a topic that could not be published to is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Makes traffic until the process ends.
pub async fn run(address: SocketAddr) {
    let url = format!("ws://{}/ws", reachable(address));
    let client = match connect(&url).await {
        Ok(client) => client,
        Err(error) => return log::error!("the demo could not connect to {url}: {error}"),
    };
    log::info!("the demo publishes to demo.prices, demo.readings, demo.orders, demo.renders and demo.plant");
    let seed = uuid::Uuid::new_v4().as_u128() as u64;
    let chance = |turn: u32| Chance(seed.rotate_left(turn) | 1);
    tokio::join!(
        prices(&client, chance(0)),
        readings(&client, chance(28)),
        orders(&client, chance(35)),
        farm::shots(&client, chance(42)),
        plant::run(&client, &chance),
        members(&url, &chance),
    );
}

/// Lets the members of the groups come, one after the other so that they are listed by their names.
async fn members(url: &str, chance: &impl Fn(u32) -> Chance) {
    for (turn, name) in (1..).zip(farm::WORKERS) {
        actix_rt::spawn(farm::work(url.to_owned(), name, chance(7 * turn)));
        tokio::time::sleep(ARRIVAL_EVERY).await;
    }
    for (name, habit) in charts::MEMBERS {
        actix_rt::spawn(charts::draw(url.to_owned(), name, habit));
        tokio::time::sleep(ARRIVAL_EVERY).await;
    }
}

async fn connect(url: &str) -> Result<Client, Error> {
    Client::connect(url, ConnectOptions::default()).await
}

/// Where this machine reaches a listener that may listen on every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// xorshift64*: good enough for a picture. Source: Marsaglia, "Xorshift RNGs", 2003; Vigna, 2014.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[(self.next() % from.len() as u64) as usize]
    }
}

async fn publish(client: &Client, topic: &str, key: &str, payload: &str) {
    let record = match Publish::json(topic, payload) {
        Ok(record) => record.with_key(key),
        Err(error) => return log::error!("the demo made bad JSON: {error}"),
    };
    if let Err(error) = client.publish(record).await {
        log::warn!("the demo could not publish to {topic}: {error}");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn prices(client: &Client, mut chance: Chance) {
    let mut walk = SYMBOLS;
    loop {
        let index = (chance.next() % walk.len() as u64) as usize;
        let (symbol, price) = &mut walk[index];
        *price = (*price * (1.0 + (chance.unit() - 0.5) * 0.004)).max(1.0);
        let volume = 10 * (1 + chance.next() % 90);
        let payload = format!("{{\"symbol\":\"{symbol}\",\"price\":{price:.2},\"volume\":{volume}}}");
        publish(client, "demo.prices", symbol, &payload).await;
        tokio::time::sleep(PRICE_EVERY).await;
    }
}

async fn readings(client: &Client, mut chance: Chance) {
    let mut step = 0.0_f64;
    loop {
        for (index, name) in SENSORS.iter().enumerate() {
            step += 0.02;
            let value = 50.0 + 20.0 * (step + index as f64).sin() + chance.unit();
            let payload = format!("{{\"name\":\"{name}\",\"value\":{value:.3},\"safe_max\":68}}");
            publish(client, "demo.readings", name, &payload).await;
            tokio::time::sleep(READING_EVERY).await;
        }
    }
}

async fn orders(client: &Client, mut chance: Chance) {
    let mut number = 1u64;
    loop {
        for _ in 0..=chance.next() % 4 {
            let city = chance.pick(&CITIES);
            let cents = 500 + chance.next() % 40_000;
            let payload = format!(
                "{{\"order\":{number},\"city\":\"{city}\",\"items\":{},\"total\":{}.{:02}}}",
                1 + chance.next() % 7,
                cents / 100,
                cents % 100,
            );
            publish(client, "demo.orders", city, &payload).await;
            number += 1;
        }
        tokio::time::sleep(ORDER_EVERY).await;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_over_loopback() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(of("[::]:80"), "[::1]:80");
        assert_eq!(of("192.0.2.7:80"), "192.0.2.7:80");
    }
}

//! Three processes of four members each on twelve partitions, some of whom die all the time.
//!
//! Owns the processes, the publisher and the account of what was said. The bound for duplicates: a member has at most
//! its credit out, so a death (or a commit that came after its grace) brings at most so many records again.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Outcome, Site, finished,
    member::{COMMAND, CREDIT, GROUP, MEMBERS, Said, TOPIC},
};
use crate::{
    broker::Broker,
    chance::Chance,
    shell::{Context as _, Failure},
    websocket::{Ended, WebSocket},
};

const PROCESSES: u64 = 3;
const PARTITIONS: u64 = 12;
/// Records of a publish frame.
const BATCH: u64 = 20;
/// Records that are published and not said to be processed; the publisher waits beyond it.
const BACKLOG_MAX: u64 = 5_000;
/// How long a process lives, from and to.
const LIFE_MS: (u64, u64) = (1_500, 6_000);
/// How long a killed one stays away, at most.
const AWAY_MS_MAX: u64 = 2_000;

/// Runs it for `duration`, lets it come to its end, and holds what was said against what was published.
///
/// # Errors
/// When a process or the broker cannot be started, or the group does not come to its end.
pub fn run(site: &Site<'_>, mut chance: Chance, duration: Duration) -> Result<Outcome, Failure> {
    let mut broker = site.start()?;
    declare(&broker)?;
    let (hear, heard) = mpsc::channel();
    let processed = Arc::new(AtomicU64::new(0));
    let publisher = Publisher::start(&broker, &processed);
    let account = std::thread::spawn(move || Account::keep(&heard, &processed));
    let until = Instant::now() + duration;
    let mut places: Vec<Place> = (0..PROCESSES)
        .map(|number| Place::new(number, &mut chance, &hear))
        .collect();
    drop(hear);
    while Instant::now() < until {
        for place in &mut places {
            place.go_on(&broker, &mut chance)?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let published = publisher.stop()?;
    for place in &mut places {
        place.calm_down(&broker, &mut chance)?;
    }
    let description = finished(&broker, TOPIC, GROUP);
    let kills: u64 = places.iter().map(|place| place.kills).sum();
    // They end with their standard input, and the account with the last of them.
    places.into_iter().try_for_each(Place::end)?;
    let account = account.join().expect("keeping the account does not panic");
    description?;
    broker.stop()?;
    Ok(account.settle(&published, kills))
}

fn declare(broker: &Broker) -> Result<(), Failure> {
    let failed = |ended: Ended| Failure::new(format!("declaring {TOPIC}: {ended}"));
    let mut socket = WebSocket::connect(broker.address(), "callboard.v1.json").map_err(failed)?;
    let declare = format!(r#"{{"type":"declare","id":1,"topic":"{TOPIC}","partitions":{PARTITIONS}}}"#);
    let reply = socket.ask(1, &declare).map_err(failed)?;
    if reply.kind == "ok" {
        Ok(())
    } else {
        Err(Failure::new(format!("{declare} was answered {}", reply.value)))
    }
}

/// A place for one process after the other.
struct Place {
    number: u64,
    hear: Sender<Said>,
    living: Option<(Child, ChildStdin)>,
    readers: Vec<JoinHandle<()>>,
    /// When it is killed, or started.
    turn_at: Instant,
    kills: u64,
}

impl Place {
    fn new(number: u64, chance: &mut Chance, hear: &Sender<Said>) -> Self {
        Self {
            number,
            hear: hear.clone(),
            living: None,
            readers: Vec::new(),
            turn_at: Instant::now() + Duration::from_millis(chance.below(100)),
            kills: 0,
        }
    }

    /// Kills the process, or starts one, when it is time.
    fn go_on(&mut self, broker: &Broker, chance: &mut Chance) -> Result<(), Failure> {
        if Instant::now() < self.turn_at {
            return Ok(());
        }
        let stay_ms = if let Some((mut child, _)) = self.living.take() {
            child.kill().context("kill")?;
            child.wait().context("wait")?;
            self.kills += 1;
            chance.below(AWAY_MS_MAX)
        } else {
            self.start(broker, chance)?;
            chance.between(LIFE_MS.0, LIFE_MS.1)
        };
        self.turn_at = Instant::now() + Duration::from_millis(stay_ms);
        Ok(())
    }

    fn start(&mut self, broker: &Broker, chance: &mut Chance) -> Result<(), Failure> {
        let program = std::env::current_exe().context("this program's path")?;
        let mut child = Command::new(&program)
            .args([COMMAND, broker.address()])
            .args([self.number.to_string(), chance.next().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context(program.display())?;
        let input = child.stdin.take().expect("standard input was asked for");
        let output = child.stdout.take().expect("standard output was asked for");
        let hear = self.hear.clone();
        self.readers.push(std::thread::spawn(move || {
            let mut lines = BufReader::new(output);
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
                let said = line
                    .strip_suffix('\n')
                    .and_then(Said::read)
                    .unwrap_or_else(|| Said::Violation(format!("a member said {line:?}")));
                if hear.send(said).is_err() {
                    return;
                }
                line.clear();
            }
        }));
        self.living = Some((child, input));
        Ok(())
    }

    /// Lets the process live from now on, without cuts.
    fn calm_down(&mut self, broker: &Broker, chance: &mut Chance) -> Result<(), Failure> {
        if self.living.is_none() {
            self.start(broker, chance)?;
        }
        if let Some((_, input)) = &mut self.living {
            input
                .write_all(b"calm\n")
                .context("telling a process to calm down")?;
        }
        Ok(())
    }

    fn end(self) -> Result<(), Failure> {
        if let Some((mut child, input)) = self.living {
            drop(input);
            child.wait().context("wait")?;
        }
        for reader in self.readers {
            reader.join().expect("reading lines does not panic");
        }
        Ok(())
    }
}

/// Publishes to all partitions in turn; a payload is its offset, since nobody else publishes.
struct Publisher {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<u64>, Ended>>,
}

impl Publisher {
    fn start(broker: &Broker, processed: &Arc<AtomicU64>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (address, processed) = (broker.address().to_owned(), Arc::clone(processed));
        let thread = std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || publish(&address, &processed, &is_over)
        });
        Self { is_over, thread }
    }

    /// How many records each partition has.
    fn stop(self) -> Result<Vec<u64>, Failure> {
        self.is_over.store(true, Ordering::Relaxed);
        let outcome = self.thread.join().expect("publishing does not panic");
        outcome.map_err(|ended| Failure::new(format!("the publisher was ended: {ended}")))
    }
}

fn publish(address: &str, processed: &AtomicU64, is_over: &AtomicBool) -> Result<Vec<u64>, Ended> {
    let mut socket = WebSocket::connect(address, "callboard.v1.json")?;
    let mut published = vec![0; PARTITIONS as usize];
    let mut id = 0;
    while !is_over.load(Ordering::Relaxed) {
        let unfinished = published
            .iter()
            .sum::<u64>()
            .saturating_sub(processed.load(Ordering::Relaxed));
        if unfinished > BACKLOG_MAX {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let partition = id % PARTITIONS;
        id += 1;
        let next = &mut published[partition as usize];
        let messages: Vec<String> = (*next..*next + BATCH)
            .map(|number| format!(r#"{{"partition":{partition},"payload":{number}}}"#))
            .collect();
        let reply = socket.ask(
            id,
            &format!(
                r#"{{"type":"publish","id":{id},"topic":"{TOPIC}","messages":[{}]}}"#,
                messages.join(",")
            ),
        )?;
        *next += BATCH;
        let last = &reply.value["results"][BATCH as usize - 1];
        if reply.kind != "published" || last["offset"].as_u64() != Some(*next - 1) {
            return Err(Ended::Broken(format!("a publisher was told {}", reply.value)));
        }
    }
    Ok(published)
}

/// What was said, added up.
#[derive(Default)]
struct Account {
    /// By partition and offset: how often it was processed.
    times: Vec<Vec<u32>>,
    /// Who was given a partition in a generation.
    owners: HashMap<(u64, u64), usize>,
    deaths: u64,
    refused: u64,
    hand_overs: u64,
    violations: Vec<String>,
}

impl Account {
    /// Listens until nobody is left who could say anything.
    fn keep(heard: &Receiver<Said>, processed: &AtomicU64) -> Self {
        let mut account = Self {
            times: vec![Vec::new(); PARTITIONS as usize],
            ..Self::default()
        };
        for said in heard {
            account.take(said, processed);
        }
        account
    }

    fn take(&mut self, said: Said, processed: &AtomicU64) {
        match said {
            Said::Assigned {
                member,
                generation,
                partition,
            } => {
                self.hand_overs += 1;
                let before = self.owners.insert((generation, partition), member);
                if let Some(before) = before.filter(|before| *before != member) {
                    self.violations.push(format!(
                        "partition {partition} has two owners in generation {generation}, {before} and {member}"
                    ));
                }
            }
            Said::Processed { partition, offset } => {
                let Some(times) = self.times.get_mut(partition as usize) else {
                    self.violations.push(format!("there is no partition {partition}"));
                    return;
                };
                if times.len() <= offset as usize {
                    times.resize(offset as usize + 1, 0);
                }
                let times = &mut times[offset as usize];
                processed.fetch_add(u64::from(*times == 0), Ordering::Relaxed);
                *times += 1;
            }
            Said::Died => self.deaths += 1,
            Said::Refused => self.refused += 1,
            Said::Violation(what) => self.violations.push(what),
        }
    }

    /// Everything is committed: so everything must have been processed, and little of it twice.
    fn settle(mut self, published: &[u64], kills: u64) -> Outcome {
        for (partition, (times, published)) in self.times.iter().zip(published).enumerate() {
            let never =
                (0..*published).filter(|offset| times.get(*offset as usize).is_none_or(|times| *times == 0));
            let never: Vec<u64> = never.collect();
            if let (Some(first), count) = (never.first(), never.len()) {
                self.violations.push(format!(
                    "partition {partition}: {count} committed records were never processed, the first at {first}"
                ));
            }
            if times.len() as u64 > *published {
                self.violations.push(format!(
                    "partition {partition}: {} records were processed of {published}",
                    times.len()
                ));
            }
        }
        let times = self.times.iter().flatten();
        let again: u64 = times.map(|times| u64::from(times.saturating_sub(1))).sum();
        // A process that is killed takes all its members with it, and they say nothing of it.
        let deaths = self.deaths + kills * MEMBERS as u64;
        let bound = (deaths + self.refused) * CREDIT;
        if again > bound {
            self.violations
                .push(format!("{again} records came again; {bound} are allowed"));
        }
        Outcome {
            summary: format!(
                "{} records, {kills} processes killed, {deaths} members lost, {} partitions handed over, {} commits too \
                 late; {again} records came again of at most {bound}",
                published.iter().sum::<u64>(),
                self.hand_overs,
                self.refused
            ),
            violations: self.violations,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(said: Vec<Said>) -> Account {
        let (hear, heard) = mpsc::channel();
        for said in said {
            hear.send(said).expect("it listens");
        }
        drop(hear);
        Account::keep(&heard, &AtomicU64::new(0))
    }

    fn processed(offsets: std::ops::Range<u64>) -> Vec<Said> {
        offsets
            .map(|offset| Said::Processed { partition: 0, offset })
            .collect()
    }

    #[test]
    fn record_that_nobody_processed_is_found() {
        let found = |said, published| account(said).settle(&[published], 0).violations.len();
        assert_eq!(found(processed(0..9), 9), 0);
        let hole = processed(0..5).into_iter().chain(processed(6..9)).collect();
        assert_eq!(found(hole, 9), 1);
        assert_eq!(found(processed(0..5), 9), 1);
    }

    #[test]
    fn duplicates_are_allowed_up_to_what_the_dead_had_out() {
        let twice = || -> Vec<Said> {
            processed(0..CREDIT)
                .into_iter()
                .chain(processed(0..CREDIT))
                .collect()
        };
        assert_eq!(account(twice()).settle(&[CREDIT], 0).violations.len(), 1);
        let mut with_death = twice();
        with_death.push(Said::Died);
        assert!(account(with_death).settle(&[CREDIT], 0).violations.is_empty());
    }

    #[test]
    fn two_owners_in_a_generation_are_found() {
        let given = |member| Said::Assigned {
            member,
            generation: 3,
            partition: 1,
        };
        assert!(account(vec![given(1), given(1)]).violations.is_empty());
        assert_eq!(account(vec![given(1), given(2)]).violations.len(), 1);
    }
}

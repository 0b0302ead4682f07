//! A process of members of a partitioned group, run by [`crowd`](super::crowd) as a hidden command of xtask.
//!
//! Each member is a thread with a socket that is cut off now and then. What it does it says on standard output, one
//! [`Said`] a line, before the broker may know of it: what was processed is said before it is committed. So a record
//! that is committed and was never said to be processed is lost, wherever the process was killed.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    io::BufRead as _,
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    chance::Chance,
    options::Options,
    shell::Failure,
    websocket::{Cut, Ended, Frame, WebSocket},
};

/// The hidden command.
pub const COMMAND: &str = "group-members";
/// The topic.
pub const TOPIC: &str = "crash.partitioned";
/// The group.
pub const GROUP: &str = "crowd";
/// Members of a process.
pub const MEMBERS: usize = 4;
/// Records that a member may have out.
pub const CREDIT: u64 = 64;
/// Records after which a partition's position is committed at the latest.
const COMMIT_EVERY: u64 = 20;
/// Between two cuts in a process, at most.
const CUT_MS_MAX: u64 = 900;
/// How long a member that was cut off stays away, at most. Longer than a named one's partitions wait for it.
const AWAY_MS_MAX: u64 = 7_000;

/// What a member says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// It was given a partition in a generation.
    Assigned {
        member: usize,
        generation: u64,
        partition: u64,
    },
    /// It has processed a record.
    Processed { partition: u64, offset: u64 },
    /// Its socket is gone.
    Died,
    /// A commit came too late.
    Refused,
    /// A promise was broken.
    Violation(String),
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assigned {
                member,
                generation,
                partition,
            } => write!(f, "assigned {member} {generation} {partition}"),
            Self::Processed { partition, offset } => write!(f, "processed {partition} {offset}"),
            Self::Died => f.write_str("died"),
            Self::Refused => f.write_str("refused"),
            Self::Violation(what) => write!(f, "violation {}", what.replace('\n', " ")),
        }
    }
}

impl Said {
    /// Reads a whole line.
    pub fn read(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut numbers = rest.split(' ').map_while(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next();
        Some(match word {
            "assigned" => Self::Assigned {
                member: usize::try_from(next()?).ok()?,
                generation: next()?,
                partition: next()?,
            },
            "processed" => Self::Processed {
                partition: next()?,
                offset: next()?,
            },
            "died" => Self::Died,
            "refused" => Self::Refused,
            "violation" => Self::Violation(rest.to_owned()),
            _ => return None,
        })
    }
}

/// Says it in one write, which a pipe takes whole or not at all.
fn say(said: &Said) {
    println!("{said}");
}

/// Runs the members until standard input ends. A line on it says that nobody is to be cut off any more.
///
/// # Errors
/// When the arguments are not what [`crowd`](super::crowd) gives.
pub fn command(options: &Options) -> Result<ExitCode, Failure> {
    let [address, process, seed] = options.words() else {
        return Err(Failure::new("group-members ADDRESS PROCESS SEED"));
    };
    let number = |word: &str| {
        word.parse::<u64>()
            .map_err(|_| Failure::new(format!("{word:?} is no number")))
    };
    let (process, mut chance) = (number(process)?, Chance::new(number(seed)?));
    let is_calm = Arc::new(AtomicBool::new(false));
    let cuts: Vec<_> = (0..MEMBERS)
        .map(|index| {
            let cut = Arc::new(Mutex::new(None));
            let mut slot = Slot {
                address: address.clone(),
                member: process as usize * MEMBERS + index,
                chance: chance.split(),
                is_calm: Arc::clone(&is_calm),
                cut: Arc::clone(&cut),
            };
            std::thread::spawn(move || slot.live());
            cut
        })
        .collect();
    std::thread::spawn({
        let is_calm = Arc::clone(&is_calm);
        move || {
            while !is_calm.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(chance.between(50, CUT_MS_MAX)));
                let cut: &Arc<_> = chance.pick(&cuts);
                if let Some(cut) = &*locked(cut) {
                    cut.now();
                }
            }
        }
    });
    for line in std::io::stdin().lock().lines() {
        if line.is_ok() {
            is_calm.store(true, Ordering::Relaxed);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

/// One member's place; whoever sits in it is cut off and comes back.
struct Slot {
    address: String,
    member: usize,
    chance: Chance,
    is_calm: Arc<AtomicBool>,
    cut: Arc<Mutex<Option<Cut>>>,
}

impl Slot {
    fn live(&mut self) {
        loop {
            let ended = self.work();
            locked(&self.cut).take();
            match ended {
                Ended::Gone(None) => say(&Said::Died),
                other => say(&Said::Violation(format!("a member was ended: {other}"))),
            }
            if !self.is_calm.load(Ordering::Relaxed) {
                // Mostly it comes back soon, so that names matter; sometimes after its partitions have moved.
                let away_ms = if self.chance.once_in(4) { AWAY_MS_MAX } else { 300 };
                std::thread::sleep(Duration::from_millis(self.chance.below(away_ms)));
            }
        }
    }

    fn work(&mut self) -> Ended {
        match self.join() {
            Err(ended) => ended,
            Ok(mut life) => loop {
                if let Err(ended) = life.step() {
                    break ended;
                }
            },
        }
    }

    fn join(&mut self) -> Result<Life, Ended> {
        let mut socket = WebSocket::connect(&self.address, "callboard.v1.ndjson")?;
        *locked(&self.cut) = Some(socket.cut()?);
        // Every other one has a name to come back under.
        let name = if self.member.is_multiple_of(2) {
            format!(r#""member":"m{}","#, self.member)
        } else {
            String::new()
        };
        socket.send(&format!(
            r#"{{"type":"subscribe","id":1,"topic":"{TOPIC}","group":"{GROUP}","mode":"partitioned",{name}"from":"earliest","credit":{CREDIT}}}"#
        ))?;
        Ok(Life {
            socket,
            member: self.member,
            generation: 0,
            held: BTreeMap::new(),
            commits: HashMap::new(),
            next_id: 2,
        })
    }
}

/// Where a member stands in a partition.
struct Held {
    /// Committed below this, or on its way.
    committed: u64,
    /// Processed below this.
    next: u64,
}

/// A member from its subscribe to the end of its socket.
struct Life {
    socket: WebSocket,
    member: usize,
    generation: u64,
    held: BTreeMap<u64, Held>,
    /// Commits that are not answered.
    commits: HashMap<u64, u64>,
    next_id: u64,
}

impl Life {
    fn step(&mut self) -> Result<(), Ended> {
        let frame = Frame::read(self.socket.receive()?)?;
        match frame.kind.as_str() {
            "message" => self.process(&frame)?,
            "assigned" => self.gain(&frame)?,
            "revoked" => self.lose(&frame)?,
            "ok" => {
                frame.id.and_then(|id| self.commits.remove(&id));
            }
            "error" => self.refused(&frame)?,
            "welcome" | "subscribed" => {}
            _ => return Err(unexpected(&frame)),
        }
        if !self.socket.has_more() {
            self.commit_all()?;
        }
        Ok(())
    }

    fn gain(&mut self, frame: &Frame) -> Result<(), Ended> {
        self.generation = frame.value["generation"]
            .as_u64()
            .ok_or_else(|| unexpected(frame))?;
        let offsets = frame.value["offsets"]
            .as_object()
            .ok_or_else(|| unexpected(frame))?;
        for (partition, offset) in offsets {
            let (Ok(partition), Some(offset)) = (partition.parse(), offset.as_u64()) else {
                return Err(unexpected(frame));
            };
            say(&Said::Assigned {
                member: self.member,
                generation: self.generation,
                partition,
            });
            let held = Held {
                committed: offset,
                next: offset,
            };
            if self.held.insert(partition, held).is_some() {
                return Err(unexpected(frame));
            }
        }
        Ok(())
    }

    /// Commits all that came of what it loses, which ends the grace.
    fn lose(&mut self, frame: &Frame) -> Result<(), Ended> {
        let partitions = frame.value["partitions"].as_array();
        for partition in partitions.ok_or_else(|| unexpected(frame))? {
            let partition = partition.as_u64().ok_or_else(|| unexpected(frame))?;
            self.commit(partition)?;
            if self.held.remove(&partition).is_none() {
                return Err(unexpected(frame));
            }
        }
        Ok(())
    }

    fn process(&mut self, frame: &Frame) -> Result<(), Ended> {
        let number = |name: &str| frame.value[name].as_u64().ok_or_else(|| unexpected(frame));
        let (partition, offset, payload) = (number("partition")?, number("offset")?, number("payload")?);
        let Some(held) = self.held.get_mut(&partition) else {
            return Err(unexpected(frame));
        };
        if offset != held.next || payload != offset {
            say(&Said::Violation(format!(
                "partition {partition} was to go on with {} and did with {}",
                held.next, frame.value
            )));
        }
        held.next = offset + 1;
        // Said at once: a commit that nobody heard of must never be for what was not processed.
        say(&Said::Processed { partition, offset });
        if held.next - held.committed >= COMMIT_EVERY {
            self.commit(partition)?;
        }
        Ok(())
    }

    fn commit_all(&mut self) -> Result<(), Ended> {
        let partitions: Vec<u64> = self.held.keys().copied().collect();
        partitions
            .into_iter()
            .try_for_each(|partition| self.commit(partition))
    }

    fn commit(&mut self, partition: u64) -> Result<(), Ended> {
        let Some(held) = self.held.get_mut(&partition) else {
            return Ok(());
        };
        if held.committed == held.next {
            return Ok(());
        }
        held.committed = held.next;
        let (id, next, generation) = (self.next_id, held.next, self.generation);
        self.next_id += 1;
        self.commits.insert(id, partition);
        self.socket.send(&format!(
            r#"{{"type":"commit","id":{id},"topic":"{TOPIC}","group":"{GROUP}","offsets":{{"{partition}":{next}}},"generation":{generation}}}"#
        ))
    }

    /// Too late is allowed: somebody else has the partition, and gets again what was out.
    fn refused(&mut self, frame: &Frame) -> Result<(), Ended> {
        let code = frame.value["code"].as_str().unwrap_or_default();
        match frame.id.and_then(|id| self.commits.remove(&id)) {
            Some(_) if matches!(code, "not_owner" | "stale_generation") => {
                say(&Said::Refused);
                Ok(())
            }
            _ => Err(unexpected(frame)),
        }
    }
}

fn unexpected(frame: &Frame) -> Ended {
    Ended::Broken(format!("a member was told {}", frame.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_and_what_was_cut_off_is_not() {
        for said in [
            Said::Assigned {
                member: 11,
                generation: 4,
                partition: 7,
            },
            Said::Processed {
                partition: 3,
                offset: 10,
            },
            Said::Died,
            Said::Refused,
            Said::Violation("a sentence of words".into()),
        ] {
            assert_eq!(Said::read(&said.to_string()), Some(said));
        }
        assert_eq!(Said::read("processed 3"), None);
        assert_eq!(Said::read("proc"), None);
    }
}

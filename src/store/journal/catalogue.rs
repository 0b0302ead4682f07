//! The topics and the facts that are kept, in a small transactional database, on a thread of its own.
//!
//! They change seldom and each change is flushed; whoever asks does not wait on its own thread, and
//! changes that wait together share one flush. All topics are also in memory, to be looked at freely;
//! facts are not, because whoever keeps them knows them, and asks only when it starts.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc},
    thread::JoinHandle,
};

use callboard_protocol::{Epoch, TopicName};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::queue::Queue;
use crate::store::{Completion, Fact, FactChange, StoreError, StoredTopic, TopicId};

const TOPICS: TableDefinition<u64, &str> = TableDefinition::new("topics");
const FACTS: TableDefinition<&str, &str> = TableDefinition::new("facts");
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
/// The highest topic id ever given.
const LAST_ID: &str = "last_topic_id";
/// The version of what is in the tables.
const VERSION: &str = "version";
const VERSION_NOW: u64 = 1;
const CACHE_BYTES: usize = 1 << 20;

/// A topic as it stands in the database.
#[derive(Serialize, Deserialize)]
struct Row {
    name: TopicName,
    epoch: Epoch,
    config: String,
    partitions: u32,
    memory_only: bool,
}

enum Change {
    Put(StoredTopic),
    Remove(TopicId),
    Fact(FactChange),
}

/// What a group of requests has made of a topic.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    There,
    Gone,
}

enum Request {
    Create(StoredTopic, oneshot::Sender<Result<TopicId, StoreError>>),
    Change(Change, oneshot::Sender<Result<(), StoreError>>),
    Keep(Vec<FactChange>, oneshot::Sender<Result<(), StoreError>>),
    Facts(mpsc::Sender<Result<Vec<Fact>, StoreError>>),
    Finish(Box<dyn FnOnce() + Send>),
}

/// Speaks to the catalogue's thread.
pub struct Catalogue {
    queue: Arc<Queue<Request>>,
    topics: Arc<Topics>,
}

#[derive(Default)]
struct Topics(RwLock<HashMap<TopicId, StoredTopic>>);

impl Topics {
    fn view(&self) -> RwLockReadGuard<'_, HashMap<TopicId, StoredTopic>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, HashMap<TopicId, StoredTopic>> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Catalogue {
    /// Opens or makes the database at `path` and starts its thread.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Version`].
    pub fn open(path: &Path) -> Result<(Self, JoinHandle<()>), StoreError> {
        let failed = |error: redb::Error| database_error("open", path, error);
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|error| failed(error.into()))?;
        let (topics, last_id) = load(&database, path)?;
        let topics = Arc::new(Topics(RwLock::new(topics)));
        let queue = Arc::new(Queue::default());
        let server = Server {
            database,
            last_id,
            topics: topics.clone(),
            path: path.to_path_buf(),
        };
        let requests = queue.clone();
        let thread = std::thread::Builder::new()
            .name("cb-catalogue".to_owned())
            .spawn(move || server.run(&requests))
            .map_err(|error| super::disk::io_error("start the thread of", path, &error))?;
        Ok((Self { queue, topics }, thread))
    }

    /// All topics.
    pub fn topics(&self) -> Vec<StoredTopic> {
        self.topics.view().values().cloned().collect()
    }

    /// One topic.
    pub fn topic(&self, id: TopicId) -> Option<StoredTopic> {
        self.topics.view().get(&id).cloned()
    }

    /// Keeps a new topic under a new id.
    pub fn create(&self, topic: StoredTopic) -> Completion<TopicId> {
        let (sender, receiver) = oneshot::channel();
        if let Err(Request::Create(_, sender)) = self.queue.push(Request::Create(topic, sender)) {
            let _ = sender.send(Err(StoreError::ShuttingDown));
        }
        receiver
    }

    /// Replaces a topic.
    pub fn update(&self, topic: StoredTopic) -> Completion<()> {
        self.change(Change::Put(topic))
    }

    /// Forgets a topic.
    pub fn remove(&self, id: TopicId) -> Completion<()> {
        self.change(Change::Remove(id))
    }

    fn change(&self, change: Change) -> Completion<()> {
        let (sender, receiver) = oneshot::channel();
        if let Err(Request::Change(_, sender)) = self.queue.push(Request::Change(change, sender)) {
            let _ = sender.send(Err(StoreError::ShuttingDown));
        }
        receiver
    }

    /// Keeps and forgets facts, in one transaction.
    pub fn keep(&self, changes: Vec<FactChange>) -> Completion<()> {
        let (sender, receiver) = oneshot::channel();
        if let Err(Request::Keep(_, sender)) = self.queue.push(Request::Keep(changes, sender)) {
            let _ = sender.send(Err(StoreError::ShuttingDown));
        }
        receiver
    }

    /// All facts, after every change that was asked before.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::ShuttingDown`].
    pub fn facts(&self) -> Result<Vec<Fact>, StoreError> {
        let (sender, receiver) = mpsc::channel();
        // A queue that refuses drops the sender, and the wait below ends.
        let _ = self.queue.push(Request::Facts(sender));
        receiver.recv().unwrap_or(Err(StoreError::ShuttingDown))
    }

    /// Closes the database after everything that was asked before, and calls.
    pub fn finish(&self, then: Box<dyn FnOnce() + Send>) {
        if let Err(Request::Finish(then)) = self.queue.push_last(Request::Finish(then)) {
            then();
        }
    }
}

struct Server {
    database: Database,
    last_id: u64,
    topics: Arc<Topics>,
    path: std::path::PathBuf,
}

impl Server {
    fn run(mut self, queue: &Queue<Request>) {
        let mut requests = Vec::new();
        loop {
            queue.take(&mut requests);
            let mut then = None;
            let mut group = Vec::new();
            for request in requests.drain(..) {
                match request {
                    Request::Finish(finished) => then = Some(finished),
                    Request::Facts(sender) => {
                        self.serve(std::mem::take(&mut group));
                        let facts = read_facts(&self.database);
                        // A sender that refuses has nobody waiting.
                        let _ =
                            sender.send(facts.map_err(|error| database_error("read", &self.path, *error)));
                    }
                    request => group.push(request),
                }
            }
            self.serve(group);
            if let Some(then) = then {
                drop(self);
                then();
                return;
            }
        }
    }

    /// Applies a group of requests in one transaction; if that fails, all of them do.
    fn serve(&mut self, group: Vec<Request>) {
        if group.is_empty() {
            return;
        }
        let mut last_id = self.last_id;
        // What the group itself makes and removes: the topics are many, and a copy of them for each change would make
        // the thousandth topic dearer than the first.
        let mut touched: HashMap<TopicId, Presence> = HashMap::new();
        let mut changes = Vec::new();
        let mut answers: Vec<Box<dyn FnOnce(Option<StoreError>) + Send>> = Vec::new();
        for request in group {
            match request {
                Request::Create(mut topic, sender) => {
                    last_id += 1;
                    topic.id = TopicId(last_id);
                    let id = topic.id;
                    touched.insert(id, Presence::There);
                    changes.push(Change::Put(topic));
                    answers.push(Box::new(move |error| {
                        drop(sender.send(error.map_or(Ok(id), Err)))
                    }));
                }
                Request::Change(change, sender) => {
                    let is_known = match &change {
                        Change::Put(topic) => self.is_known(topic.id, &touched),
                        Change::Remove(id) => {
                            let is_known = self.is_known(*id, &touched);
                            touched.insert(*id, Presence::Gone);
                            is_known
                        }
                        Change::Fact(_) => true,
                    };
                    if is_known {
                        changes.push(change);
                    }
                    let outcome = if is_known { Ok(()) } else { Err(StoreError::Closed) };
                    answers.push(Box::new(move |error| {
                        drop(sender.send(error.map_or(outcome, Err)))
                    }));
                }
                Request::Keep(facts, sender) => {
                    changes.extend(facts.into_iter().map(Change::Fact));
                    answers.push(Box::new(move |error| {
                        drop(sender.send(error.map_or(Ok(()), Err)))
                    }));
                }
                Request::Facts(_) | Request::Finish(_) => {}
            }
        }
        let error = self
            .commit(&changes, last_id)
            .err()
            .map(|error| database_error("change", &self.path, *error));
        if error.is_none() {
            self.last_id = last_id;
            self.show(changes);
        }
        for answer in answers {
            answer(error.clone());
        }
    }

    /// Whether there is such a topic after what the group has done so far.
    fn is_known(&self, id: TopicId, touched: &HashMap<TopicId, Presence>) -> bool {
        match touched.get(&id) {
            Some(presence) => *presence == Presence::There,
            None => self.topics.view().contains_key(&id),
        }
    }

    /// Lets everybody see what was committed.
    fn show(&self, changes: Vec<Change>) {
        let mut topics = self.topics.change();
        for change in changes {
            match change {
                Change::Put(topic) => drop(topics.insert(topic.id, topic)),
                Change::Remove(id) => drop(topics.remove(&id)),
                Change::Fact(_) => {}
            }
        }
    }

    fn commit(&self, changes: &[Change], last_id: u64) -> Result<(), Box<redb::Error>> {
        if changes.is_empty() {
            return Ok(());
        }
        let transaction = self.database.begin_write().map_err(boxed)?;
        {
            let mut table = transaction.open_table(TOPICS).map_err(boxed)?;
            let mut facts = transaction.open_table(FACTS).map_err(boxed)?;
            for change in changes {
                match change {
                    Change::Put(topic) => table
                        .insert(topic.id.0, encode(topic).as_str())
                        .map(drop)
                        .map_err(boxed)?,
                    Change::Remove(id) => table.remove(id.0).map(drop).map_err(boxed)?,
                    Change::Fact(FactChange {
                        key,
                        value: Some(value),
                    }) => facts
                        .insert(key.as_str(), value.as_str())
                        .map(drop)
                        .map_err(boxed)?,
                    Change::Fact(FactChange { key, value: None }) => {
                        facts.remove(key.as_str()).map(drop).map_err(boxed)?;
                    }
                }
            }
            let mut numbers = transaction.open_table(NUMBERS).map_err(boxed)?;
            numbers.insert(LAST_ID, last_id).map_err(boxed)?;
        }
        transaction.commit().map_err(boxed)
    }
}

fn boxed(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}

fn encode(topic: &StoredTopic) -> String {
    let row = Row {
        name: topic.name.clone(),
        epoch: topic.epoch.clone(),
        config: topic.config.clone(),
        partitions: topic.partitions,
        memory_only: topic.memory_only,
    };
    serde_json::to_string(&row).expect("a row is strings and numbers, which JSON can say")
}

fn load(database: &Database, path: &Path) -> Result<(HashMap<TopicId, StoredTopic>, u64), StoreError> {
    let (rows, last_id, version) = read(database).map_err(|error| database_error("read", path, *error))?;
    if version != VERSION_NOW {
        return Err(StoreError::Version {
            path: path.to_path_buf(),
            found: u32::try_from(version).unwrap_or(u32::MAX),
            expected: VERSION_NOW as u32,
        });
    }
    let mut topics = HashMap::new();
    for (id, row) in rows {
        let row: Row = serde_json::from_str(&row).map_err(|error| StoreError::Io {
            operation: format!("read topic {id} in {}", path.display()),
            reason: error.to_string(),
            no_space: false,
        })?;
        let topic = StoredTopic {
            id: TopicId(id),
            name: row.name,
            epoch: row.epoch,
            config: row.config,
            partitions: row.partitions,
            memory_only: row.memory_only,
        };
        topics.insert(topic.id, topic);
    }
    Ok((topics, last_id))
}

type Rows = Vec<(u64, String)>;

fn read(database: &Database) -> Result<(Rows, u64, u64), Box<redb::Error>> {
    let transaction = database.begin_read().map_err(boxed)?;
    let numbers = match transaction.open_table(NUMBERS) {
        Ok(numbers) => numbers,
        Err(redb::TableError::TableDoesNotExist(_)) => {
            drop(transaction);
            return initialize(database);
        }
        Err(error) => return Err(boxed(error)),
    };
    let number = |name| {
        Ok::<_, Box<redb::Error>>(
            numbers
                .get(name)
                .map_err(boxed)?
                .map_or(0, |number| number.value()),
        )
    };
    let (last_id, version) = (number(LAST_ID)?, number(VERSION)?);
    let table = transaction.open_table(TOPICS).map_err(boxed)?;
    let mut rows = Vec::new();
    for row in table.iter().map_err(boxed)? {
        let (id, row) = row.map_err(boxed)?;
        rows.push((id.value(), row.value().to_owned()));
    }
    Ok((rows, last_id, version))
}

fn read_facts(database: &Database) -> Result<Vec<Fact>, Box<redb::Error>> {
    let transaction = database.begin_read().map_err(boxed)?;
    let table = match transaction.open_table(FACTS) {
        Ok(table) => table,
        // Nobody has kept one yet.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(boxed(error)),
    };
    let mut facts = Vec::new();
    for row in table.iter().map_err(boxed)? {
        let (key, value) = row.map_err(boxed)?;
        facts.push(Fact {
            key: key.value().to_owned(),
            value: value.value().to_owned(),
        });
    }
    Ok(facts)
}

fn initialize(database: &Database) -> Result<(Rows, u64, u64), Box<redb::Error>> {
    let transaction = database.begin_write().map_err(boxed)?;
    {
        let mut numbers = transaction.open_table(NUMBERS).map_err(boxed)?;
        numbers.insert(VERSION, VERSION_NOW).map_err(boxed)?;
        numbers.insert(LAST_ID, 0).map_err(boxed)?;
        transaction.open_table(TOPICS).map_err(boxed)?;
    }
    transaction.commit().map_err(boxed)?;
    Ok((Vec::new(), 0, VERSION_NOW))
}

fn database_error(operation: &str, path: &Path, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error) => super::disk::io_error(operation, path, &error),
        error => StoreError::Io {
            operation: format!("{operation} {}", path.display()),
            reason: error.to_string(),
            no_space: false,
        },
    }
}

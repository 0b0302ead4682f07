//! A server in one configuration, spoken to in one dialect.

use std::{path::PathBuf, rc::Rc, time::Duration};

use callboard_load::{
    Failure,
    ceiling::{self, Ceiling},
    dialect::Dialect,
    process::{Launch, Pinning, Server, fresh_directory},
    sample::Figures,
    workload::{Timing, Workload},
};

use crate::servers::Place;

/// What holds for all runs.
#[derive(Clone, Debug)]
pub struct Conditions {
    pub timing: Timing,
    pub pinning: Pinning,
    /// Where servers keep their records; the system's temporary directory if it is not given.
    pub data: Option<PathBuf>,
    /// Shared libraries of the peers that the system does not have.
    pub libraries: Option<PathBuf>,
}

impl Conditions {
    fn place(&self, program: PathBuf) -> Place {
        Place {
            program,
            libraries: self.libraries.clone(),
            directory: fresh_directory(self.data.as_deref()),
            pinning: self.pinning,
        }
    }
}

/// How long the load runs by itself.
const CEILING_DURATION: Duration = Duration::from_millis(500);

type Measure = dyn Fn(&Workload, &Conditions) -> Result<Figures, Failure>;

type Alone = dyn Fn(&Conditions) -> Result<Ceiling, Failure>;

/// Who takes part in a comparison.
pub struct Contender {
    /// As tables call it; those of Callboard begin with its name.
    pub name: &'static str,
    /// What a record that was sent, or answered, survives.
    pub promise: &'static str,
    /// How it is configured, and spoken to.
    pub configuration: &'static str,
    measure: Box<Measure>,
    ceiling: Box<Alone>,
}

impl Contender {
    /// A contender that `launch` starts afresh for each run.
    pub fn new<D: Dialect + 'static>(
        (name, promise, configuration): (&'static str, &'static str, &'static str),
        program: PathBuf,
        dialect: D,
        launch: impl Fn(Place) -> Result<Launch, Failure> + 'static,
    ) -> Self {
        let dialect = Rc::new(dialect);
        let alone = Rc::clone(&dialect);
        let ceiling = move |conditions: &Conditions| {
            let payload_bytes = conditions.timing.payload_bytes;
            ceiling::measure(&*alone, payload_bytes, CEILING_DURATION, conditions.pinning)
        };
        let measure = move |workload: &Workload, conditions: &Conditions| {
            let server = Server::start(launch(conditions.place(program.clone()))?)?;
            workload.measure(&*dialect, &server, conditions.timing)
        };
        Self {
            name,
            promise,
            configuration,
            measure: Box::new(measure),
            ceiling: Box::new(ceiling),
        }
    }

    /// The same, doing `workload` whatever the comparison is about: something to compare with.
    pub fn always(mut self, name: &'static str, workload: Workload) -> Self {
        let measure = self.measure;
        self.name = name;
        self.measure = Box::new(move |_, conditions| measure(&workload, conditions));
        self
    }

    /// What the load could do in this dialect if the server cost nothing.
    ///
    /// # Errors
    /// The system has no sockets for it.
    pub fn ceiling(&self, conditions: &Conditions) -> Result<Ceiling, Failure> {
        (self.ceiling)(conditions)
    }

    /// Runs `workload` once, on a fresh server.
    ///
    /// # Errors
    /// The server cannot be started, or the run fails.
    pub fn measure(&self, workload: &Workload, conditions: &Conditions) -> Result<Figures, Failure> {
        (self.measure)(workload, conditions)
    }
}

//! Threads that read from disks, so that no actor's thread ever waits for one.
//!
//! A bounded pool: what waits for it is bounded too, because a subscription and a session have at most
//! one read under way each.

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// See the module.
pub struct Readers {
    jobs: mpsc::Sender<Job>,
}

impl Readers {
    /// Starts `threads` threads; they end when the pool is dropped.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads {
            let waiting = waiting.clone();
            thread::Builder::new()
                .name(format!("reader-{number}"))
                .spawn(move || {
                    loop {
                        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok(job) = job else { return };
                        // One read that panics must not end the thread for all that come after it.
                        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                            log::error!("a read panicked; its caller was told that it failed");
                        }
                    }
                })?;
        }
        Ok(Self { jobs })
    }

    /// Runs `read` on one of the threads. The receiver fails if it panics.
    pub fn run<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        self.spawn(move || {
            // Whoever asked may have gone.
            let _ = sender.send(read());
        });
        receiver
    }

    /// Runs `job` on one of the threads.
    pub fn spawn(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs
            .send(Box::new(job))
            .expect("the threads live as long as the pool");
    }
}

//! A thread for what may wait for a disk and is asked for seldom: opening partitions, deleting topics.

use std::sync::{
    Mutex, PoisonError,
    mpsc::{Receiver, Sender, channel},
};

/// Something to do.
pub type Job = Box<dyn FnOnce() + Send>;

enum Message {
    Run(Job),
    Stop,
}

/// Gives the thread its jobs, which it does in order.
pub struct Opener(Mutex<Sender<Message>>);

impl Opener {
    /// An opener, and what its thread is to run.
    pub fn new() -> (Self, impl FnOnce() + Send + 'static) {
        let (sender, receiver) = channel();
        (Self(Mutex::new(sender)), move || run(&receiver))
    }

    /// Adds a job; dropped, with whatever it would have answered, once the thread has stopped.
    pub fn run(&self, job: Job) {
        self.send(Message::Run(job));
    }

    /// Stops the thread after the jobs that wait.
    pub fn stop(&self) {
        self.send(Message::Stop);
    }

    fn send(&self, message: Message) {
        let sent = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .send(message);
        if sent.is_err() {
            log::debug!("the store is closed already");
        }
    }
}

fn run(jobs: &Receiver<Message>) {
    while let Ok(Message::Run(job)) = jobs.recv() {
        job();
    }
}

//! Jobs on their way to workers, bounded by the memory that they need.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// First in, first out.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    added: Condvar,
    freed: Condvar,
    budget: usize,
}

struct State<T> {
    jobs: VecDeque<T>,
    used: usize,
    is_closed: bool,
}

impl<T> Queue<T> {
    /// `budget` bounds the sum of all costs that weren't given back; a job that costs more goes alone.
    pub fn new(budget: usize) -> Self {
        Self {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                used: 0,
                is_closed: false,
            }),
            added: Condvar::new(),
            freed: Condvar::new(),
            budget,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job, waiting until there is room. Jobs are done in order, so those before it make room.
    pub fn push(&self, job: T, cost: usize) {
        let mut state = self.lock();
        while state.used > 0 && state.used + cost > self.budget && !state.is_closed {
            state = self
                .freed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.used += cost;
        state.jobs.push_back(job);
        drop(state);
        self.added.notify_one();
    }

    /// The next job; `None` when there will be no more.
    pub fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.is_closed {
                return None;
            }
            state = self
                .added
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives back what a job that is done cost.
    pub fn free(&self, cost: usize) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(cost);
        drop(state);
        self.freed.notify_one();
    }

    /// No job comes after this.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.added.notify_all();
        self.freed.notify_all();
    }
}

/// Closes the queue when it is dropped, whatever ended the work.
pub(crate) struct Closing<'queue, T>(pub &'queue Queue<T>);

impl<T> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

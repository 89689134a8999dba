//! Which connections are open, which of them may go, and whether anything is under way.
//!
//! In come the beginnings and ends of connections and of requests on them; out goes
//! what the accept loop has to know. Sockets are unknown here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// All open connections; never more than a limit.
pub struct Connections {
    limit: usize,
    inner: Mutex<Inner>,
}

struct Inner {
    next: u64,
    open: BTreeMap<u64, Open>,
    last_event: Instant,
}

struct Open {
    /// Since when it waits for a request; `None` while one is answered.
    idle_since: Option<Instant>,
    close: Arc<Notify>,
}

/// One open connection; dropping it says that it ended.
pub struct Connection {
    id: u64,
    all: Arc<Connections>,
    close: Arc<Notify>,
}

/// One request that is being answered; dropping it says that it is done.
pub struct Busy {
    connection: Arc<Connection>,
}

impl Connections {
    /// None is open yet.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            inner: Mutex::new(Inner {
                next: 0,
                open: BTreeMap::new(),
                last_event: Instant::now(),
            }),
        })
    }

    /// A new connection. At the limit the one that is idle for longest ends for it;
    /// `None` when all of them are being answered.
    pub fn admit(self: &Arc<Self>) -> Option<Connection> {
        let mut inner = self.inner();
        if inner.open.len() >= self.limit && !inner.end_oldest_idle() {
            return None;
        }
        let (id, close, now) = (inner.next, Arc::new(Notify::new()), Instant::now());
        inner.next += 1;
        inner.last_event = now;
        let open = Open {
            idle_since: Some(now),
            close: Arc::clone(&close),
        };
        inner.open.insert(id, open);
        drop(inner);
        Some(Connection {
            id,
            all: Arc::clone(self),
            close,
        })
    }

    /// Ends the connection that is idle for longest; false when there is none.
    pub fn end_oldest_idle(&self) -> bool {
        self.inner().end_oldest_idle()
    }

    /// Whether no connection came and no request was under way for that long.
    pub fn quiet_for(&self, time: Duration) -> bool {
        let inner = self.inner();
        inner.last_event.elapsed() >= time
            && inner.open.values().all(|open| open.idle_since.is_some())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn end_oldest_idle(&mut self) -> bool {
        let idle = self
            .open
            .iter()
            .filter_map(|(id, open)| Some((open.idle_since?, *id)));
        let Some(ended) = idle.min().and_then(|(_, id)| self.open.remove(&id)) else {
            return false;
        };
        ended.close.notify_one();
        true
    }
}

impl Connection {
    /// A request begins.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.mark(None);
        Busy {
            connection: Arc::clone(self),
        }
    }

    /// Returns when the connection has to make room for another one.
    pub async fn must_end(&self) {
        self.close.notified().await;
    }

    fn mark(&self, idle_since: Option<Instant>) {
        let mut inner = self.all.inner();
        inner.last_event = Instant::now();
        if let Some(open) = inner.open.get_mut(&self.id) {
            open.idle_since = idle_since;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.inner().open.remove(&self.id);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.connection.mark(Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn at_the_limit_the_longest_idle_connection_ends_and_a_busy_one_stays() {
        let all = Connections::new(2);
        let busy = Arc::new(all.admit().unwrap());
        let request = busy.begin();
        let idle = all.admit().unwrap();
        let third = Arc::new(all.admit().unwrap());
        let second = Duration::from_secs(1);
        assert!(
            tokio::time::timeout(second, idle.must_end()).await.is_ok(),
            "it made room"
        );
        let other = third.begin();
        assert!(all.admit().is_none(), "all are being answered");
        drop((request, other, third));
        assert!(all.admit().is_some());
    }

    #[test]
    fn nothing_is_quiet_during_a_request_and_just_after_it() {
        let all = Connections::new(2);
        let connection = Arc::new(all.admit().unwrap());
        let request = connection.begin();
        assert!(!all.quiet_for(Duration::ZERO));
        drop(request);
        assert!(all.quiet_for(Duration::ZERO));
        assert!(!all.quiet_for(Duration::from_mins(1)));
    }
}

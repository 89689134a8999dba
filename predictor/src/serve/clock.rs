//! The clock of the service: one place that reads the time, so that tests can set it.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::calendar;

/// Tells the time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Arc::new(Timestamp::now))
    }

    /// A clock that says what `tell` says.
    pub fn new(tell: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// Today in New York.
    pub fn today(&self) -> Date {
        calendar::new_york_day(self.now())
    }
}

//! The wall clock, for what is written down with a date: looked at once a second.
//!
//! Invariant: a date is never older than a second, by the loop's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::protocol::http::Date;
use crate::reactor::Moment;

/// See the module's text.
#[derive(Debug)]
pub struct Clock {
    looked_at: Option<Moment>,
    time: SystemTime,
    date: Date,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { looked_at: None, time: UNIX_EPOCH, date: [0; 29] }
    }
}

impl Clock {
    /// The date as HTTP has it.
    #[inline]
    pub fn date(&mut self, now: Moment) -> &Date {
        self.look(now);
        &self.date
    }

    /// The time, to the second.
    pub fn time(&mut self, now: Moment) -> SystemTime {
        self.look(now);
        self.time
    }

    #[inline]
    fn look(&mut self, now: Moment) {
        if self.looked_at.is_some_and(|at| now.since(at) < Duration::from_secs(1)) {
            return;
        }
        self.looked_at = Some(now);
        self.time = SystemTime::now();
        let text = httpdate::fmt_http_date(self.time);
        // Years of five digits are longer than the form has room for; that is for others to see to.
        if let Ok(date) = text.as_bytes().try_into() {
            self.date = date;
        }
    }
}

//! The time of day, for what is written down with a date: looked at once a second.
//!
//! Invariant: a date is never older than a second, by the loop's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::ambient::Ambient;
use crate::protocol::http::Date;
use crate::reactor::Moment;

/// See the module's text.
#[derive(Debug)]
pub struct Clock {
    ambient: Ambient,
    looked_at: Option<Moment>,
    time: SystemTime,
    date: Date,
}

impl Clock {
    /// One that has not been looked at.
    pub fn new(ambient: &Ambient) -> Clock {
        Clock { ambient: ambient.clone(), looked_at: None, time: UNIX_EPOCH, date: [0; 29] }
    }

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
        self.time = self.ambient.time(now);
        let text = httpdate::fmt_http_date(self.time);
        // Years of five digits are longer than the form has room for; that is for others to see to.
        if let Ok(date) = text.as_bytes().try_into() {
            self.date = date;
        }
    }
}

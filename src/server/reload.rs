//! Other places, while the server runs: [`Running::prepare`] does everything that can fail, and [`Prepared::apply`] what
//! can't. So there is no reload that half succeeds.
//!
//! A listener that is wanted and that is there goes on: it gets new limits, lists, certificates and tunables. Where only
//! its socket is there (another framing, another service), that gets a new listener. Where its socket's file is gone, it is
//! bound again. All others are bound, and those that are not wanted are closed.
//!
//! Invariant: a [`Prepared`] that is dropped has changed nothing. (It borrows the server, so that nothing else can happen
//! between the two steps.)

use std::io;
use std::mem;

use super::place::Place;
use super::running::{Open, Running, Watched};
use crate::service::At;
use crate::service::directory::{Assign, Which};

/// What has been prepared. See the module's text.
#[must_use = "nothing has changed yet"]
pub struct Prepared<'a, S: Assign> {
    running: &'a mut Running<S>,
    steps: Vec<Step>,
}

/// How one listener that is wanted comes about.
struct Step {
    way: Way,
    place: Place,
    which: Which,
}

enum Way {
    /// It is there.
    Adjust(At),
    /// Its socket is there.
    Renew(At),
    /// It is there, and no client can find it: this takes its place.
    Replace(At, Watched),
    /// It is new.
    Open(Watched),
}

/// How many listeners there were and are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// They were there before.
    pub kept: usize,
    /// They are new.
    pub opened: usize,
    /// They are gone.
    pub closed: usize,
}

impl<S: Assign> Running<S> {
    /// Prepares to listen at these places and no others.
    ///
    /// # Errors
    /// Those of binding a new socket, with its URL and a hint, and of the poll. Nothing has changed then.
    pub fn prepare(&mut self, wanted: Vec<(Place, Which)>) -> io::Result<Prepared<'_, S>> {
        let mut left: Vec<usize> = (0..self.places.len()).collect();
        // Those at the very same URL first, or one that differs in its framing could take their place.
        let mut take = |running: &Running<S>, fits: &dyn Fn(&Place) -> bool| {
            let index = left.iter().position(|index| fits(&running.places[*index].place))?;
            Some(left.remove(index))
        };
        let same = |it: &Place, there: &Place| there.endpoint == it.endpoint;
        let mut found: Vec<Option<usize>> =
            wanted.iter().map(|(it, _)| take(self, &|there| same(it, there))).collect();
        for (found, (it, _)) in found.iter_mut().zip(&wanted).filter(|(found, _)| found.is_none()) {
            *found = take(self, &|there| there.endpoint.same_socket(&it.endpoint));
        }

        let mut prepared = Prepared { running: self, steps: Vec::new() };
        for (found, (place, which)) in found.into_iter().zip(wanted) {
            let running = &mut *prepared.running;
            if let Some(index) = found {
                check_stack(&running.places[index].place, &place)?;
            }
            let way = match found.map(|index| &running.places[index]) {
                None => Way::Open(running.bind(&place)?),
                Some(there) if running.has_lost_file(there.at) => {
                    let at = there.at;
                    Way::Replace(at, running.bind(&place)?)
                }
                Some(there)
                    if there.place.endpoint == place.endpoint
                        && there.which.as_ref().is_some_and(|it| it.is_same_service(&which)) =>
                {
                    place.check()?;
                    Way::Adjust(there.at)
                }
                Some(there) => {
                    place.check()?;
                    Way::Renew(there.at)
                }
            };
            prepared.steps.push(Step { way, place, which });
        }
        Ok(prepared)
    }

    fn bind(&mut self, place: &Place) -> io::Result<Watched> {
        let bound = place.bind()?;
        self.watch(place, bound)
    }
}

/// Logs which options of a socket have changed without effect: they hold for sockets that are bound from now on.
fn warn_of_the_socket(open: &Open, wanted: &Place) {
    let (now, wanted) = (&open.place.options, &wanted.options);
    let changed: Vec<&str> = [
        ("unix-mode", now.unix_mode != wanted.unix_mode),
        ("backlog", now.backlog != wanted.backlog),
        ("keepalive", now.keepalive != wanted.keepalive),
        ("reuse-port", now.reuse_port != wanted.reuse_port),
    ]
    .into_iter()
    .filter_map(|(name, has_changed)| has_changed.then_some(name))
    .collect();
    if !changed.is_empty() {
        let names = changed.join(" and ");
        log::warn!(
            "{}: a new {names} takes effect after a restart; the socket stays as it is",
            open.endpoint
        );
    }
}

/// Whether a socket at [::] takes IPv4 as well is decided when it is bound.
fn check_stack(there: &Place, wanted: &Place) -> io::Result<()> {
    let only_v6 = wanted.options.only_v6;
    if there.options.only_v6 == only_v6 {
        return Ok(());
    }
    let message = format!(
        "{}: it would have to take {} now, which a socket cannot change: start the server again",
        wanted.endpoint,
        if only_v6 { "IPv6 alone" } else { "IPv4 as well" }
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

impl<S: Assign> Prepared<'_, S> {
    /// Makes it so.
    pub fn apply(mut self) -> Changes {
        let steps = mem::take(&mut self.steps);
        let running = &mut *self.running;
        let mut before = mem::take(&mut running.places);
        let take =
            |before: &mut Vec<Open>, at| Some(before.remove(before.iter().position(|open| open.at == at)?));
        let (mut kept, mut opened) = (0, 0);
        for Step { way, place, which } in steps {
            let (old, watched) = match way {
                Way::Adjust(at) => {
                    if let Some(open) = before.iter().find(|open| open.at == at) {
                        warn_of_the_socket(open, &place);
                    }
                    running.adjust(at, &place);
                    running.service().assign(at, &which, None);
                    if let Some(open) = take(&mut before, at) {
                        running.places.push(Open { place, which: Some(which), ..open });
                        kept += 1;
                    }
                    continue;
                }
                Way::Renew(at) => (take(&mut before, at), None),
                Way::Replace(at, watched) => (take(&mut before, at), Some(watched)),
                Way::Open(watched) => (None, Some(watched)),
            };
            if let Some(old) = &old {
                // For connections that are there, with the framing that they have.
                running.adjust(old.at, &Place { endpoint: old.place.endpoint.clone(), ..place.clone() });
            }
            let renewed = || running.renew(old.as_ref()?, &place);
            let Some(watched) = watched.or_else(renewed) else { continue };
            match old {
                Some(_) => kept += 1,
                None => opened += 1,
            }
            running.service().assign(watched.at, &which, old.as_ref().map(|old| old.at));
            let open = running.enter(watched, place, Some(which));
            // (Where the old one has no connections, the new one may have its index.)
            if let Some(old) = old.filter(|old| old.at != open.at) {
                running.close(&old);
            }
            running.announce(&open);
            running.places.push(open);
        }
        let closed = before.len();
        for open in before {
            log::info!("listening no more on {}", open.endpoint);
            running.close(&open);
        }
        Changes { kept, opened, closed }
    }
}

impl<S: Assign> Drop for Prepared<'_, S> {
    fn drop(&mut self) {
        for step in mem::take(&mut self.steps) {
            if let Way::Open(watched) | Way::Replace(_, watched) = step.way {
                self.running.unwatch(&watched);
            }
        }
    }
}

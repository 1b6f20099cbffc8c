//! `switchboard serve`: runs a server with its settings.
//!
//! SIGHUP reads everything again, the file and whatever else is named, and changes what is different: what is wrong
//! changes nothing, and no connection is closed that the new settings allow. It is read on a thread of its own; then everything that
//! can fail is prepared, and then applied what can't.

use std::fs::File;
use std::path::PathBuf;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::config::CommandLine;
use super::failure::Failure;
use super::settings::{Settings, Wanted, show_self_signed};
use crate::endpoint::Endpoint;
use crate::logging::Levels;
use crate::reactor::Limits;
use crate::server::Server;
use crate::server::inherited::Inherited;
use crate::server::place::{Bound, bind_all};
use crate::server::reload::Changes;
use crate::server::running::Running;
use crate::server::{reserve, succession};
#[cfg(feature = "web")]
use crate::service::chat::Chat;
use crate::service::directory::{Assign, Directory, Which};
#[cfg(feature = "web")]
use crate::service::relay::Relay;
#[cfg(feature = "web")]
use crate::service::web::Web;
use crate::service::{discard::Discard, echo::Echo, reply::Reply, source::Source};

/// Descriptors that are not for connections: the standard ones, the poll, the waker, the signals, some
/// listeners, the reserve for reloads, and some that a library may open for a moment ...
const DESCRIPTORS_RESERVED: usize = 20 + reserve::RESERVED;
/// ... with this many listeners; further ones count as well.
const LISTENERS_RESERVED: usize = 8;

pub(super) fn run(line: &CommandLine) -> Result<(), Failure> {
    // The log levels are known when all settings have been read. Until then the default ones hold.
    crate::logging::start(Levels::DEFAULT).map_err(Failure::Runtime)?;
    let settings = Settings::read(line)?;
    set_log(&settings, access_log(&settings)?)
        .map_err(|problem| Failure::Runtime(format!("--access-log: {problem}")))?;
    // One service for all is compiled into the loop; with a file, there may be others after a reload.
    match settings.listeners[0].which.clone() {
        _ if settings.from_file => serve(Directory::default(), settings, line),
        Which::Echo => serve(Echo, settings, line),
        Which::Reply { answer } => serve(Reply::new(answer), settings, line),
        Which::Discard => serve(Discard, settings, line),
        Which::Source => serve(Source::default(), settings, line),
        #[cfg(feature = "web")]
        Which::Chat { rules, .. } => serve(Chat::new(rules), settings, line),
        #[cfg(feature = "web")]
        Which::Relay { rules, .. } => serve(Relay::new(rules), settings, line),
        #[cfg(feature = "web")]
        Which::Web { site } => serve(Web::new(site), settings, line),
    }
}

/// The access log's file. Apart from [`set_log`], because it can fail, and what can fail comes before what changes something.
fn access_log(settings: &Settings) -> Result<Option<File>, Failure> {
    let Some(path) = &settings.access_log else { return Ok(None) };
    let opened = crate::logging::open_access_log(path);
    opened
        .map(Some)
        .map_err(|error| Failure::Usage(format!("--access-log {}: cannot open it: {error}", path.display())))
}

/// What is logged, and where.
///
/// # Errors
/// Where the access log can't be changed.
fn set_log(settings: &Settings, access_log: Option<File>) -> Result<(), String> {
    crate::logging::set_levels(settings.log_levels.clone());
    crate::logging::set_access_log(access_log)
}

fn serve(service: impl Assign, settings: Settings, line: &CommandLine) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Runtime(error.to_string());
    let descriptors = descriptors_most();
    let most = move |listeners: usize| {
        let more = listeners.saturating_sub(LISTENERS_RESERVED);
        descriptors.saturating_sub(DESCRIPTORS_RESERVED + more)
    };
    let limits = move |settings: &Settings, listeners: usize| {
        let wanted = settings.limits.connections_max;
        let connections_max = wanted.min(most(listeners).max(1));
        if connections_max < wanted {
            log::warn!(
                "--connections-max {wanted}: this process may have {descriptors} descriptors, which is enough for \
                 {connections_max} connections; raise the limit with ulimit -n"
            );
        }
        Limits { connections_max, ..settings.limits.clone() }
    };
    if most(settings.listeners_at(Vec::new()).len()) == 0 {
        return Err(Failure::Runtime(format!(
            "this process may have {descriptors} descriptors, and needs some for itself before it can serve anybody: \
             raise the limit with ulimit -n"
        )));
    }
    let mut inherited = Inherited::from_systemd().map_err(failed)?;
    let inheritance = match &settings.take_over {
        Some(path) => Some(succession::take_over(path, &mut inherited).map_err(failed)?),
        None => None,
    };
    let wanted = settings.listeners_at(inherited.places().cloned().collect());
    let limits_now = limits(&settings, wanted.len());
    let connections_max = limits_now.connections_max;
    let server = Server::new(service).limits(limits_now).drain_for(settings.drain_for);
    let mut running = server.start().map_err(failed)?;
    if let Some(inheritance) = inheritance {
        running.take_over(inheritance);
    }
    let certificates = shown_in(&wanted);
    for (Wanted { place, which, .. }, bound) in bind(wanted, &mut inherited).map_err(failed)? {
        running.listen_for(place, which, bound).map_err(failed)?;
    }
    show_self_signed(&certificates).map_err(Failure::Runtime)?;
    // An error of all the above stands alone.
    log::info!("at most {connections_max} are served at a time");
    if let Some(problem) = inherited.astray() {
        log::warn!("{problem}");
    }
    for place in inherited.places() {
        log::warn!("a socket at {place} was passed to us, and no listener is wanted there: it is closed");
    }
    drop(inherited);

    let line = line.clone();
    let mut named_listeners = settings.names_listeners();
    let read = move || {
        let settings = Settings::read(&line)?;
        let access_log = access_log(&settings)?;
        // Here and not in `reload`, which runs on the loop's thread: opening a path may block.
        show_self_signed(&shown_in(&settings.listeners)).map_err(Failure::Runtime)?;
        Ok((settings, access_log))
    };
    let reload = |running: &mut Running<_>, read: Result<(Settings, Option<File>), Failure>| {
        let outcome = read.and_then(|(settings, access_log)| {
            // A program that empties the file before it writes it must not turn every service into the default one.
            if named_listeners && !settings.names_listeners() {
                let problem = "the configuration file says no longer where to listen; add a [[listener]], or stop \
                               the server";
                return Err(Failure::Usage(problem.into()));
            }
            let wanted = settings.listeners_at(running.asked().cloned().collect());
            let limits = limits(&settings, wanted.len());
            let wanted = wanted.into_iter().map(|it| (it.place, it.which)).collect();
            let changes = running.prepare(wanted).map_err(failed)?.apply();
            // From here on nothing can fail but the log.
            named_listeners = settings.names_listeners();
            running.set_limits(limits);
            running.set_drain_for(settings.drain_for);
            if let Err(problem) = set_log(&settings, access_log) {
                log::error!("the access log stays where it is: {problem}");
            }
            Ok(changes)
        });
        match outcome {
            Ok(Changes { kept, opened, closed }) => {
                log::info!("reloaded: {kept} listeners go on, {opened} are new, {closed} are gone");
            }
            Err(Failure::Usage(problem) | Failure::Runtime(problem)) => {
                log::error!("not reloaded, everything stays as it is: {problem}");
            }
        }
    };
    running.set_ends_with_terminal(!settings.from_file);
    running.run(read, reload).map_err(failed)
}

/// The files that `--self-signed-to` names.
fn shown_in(wanted: &[Wanted]) -> Vec<PathBuf> {
    wanted.iter().filter_map(|it| it.shown_in.clone()).collect()
}

/// A socket for each: one that was passed to us where there is one, else a new one.
fn bind(wanted: Vec<Wanted>, inherited: &mut Inherited) -> std::io::Result<Vec<(Wanted, Bound)>> {
    let mut sockets: Vec<Option<Bound>> = Vec::new();
    for it in &wanted {
        sockets.push(inherited.take(&it.place.endpoint, &it.place.options).transpose()?);
    }
    let mut index = 0;
    // The addresses of one name are bound together, so that they can get the same free port.
    for of_one_name in wanted.chunk_by(|one, next| one.url == next.url) {
        let here = index..index + of_one_name.len();
        index = here.end;
        let new: Vec<usize> = here.filter(|index| sockets[*index].is_none()).collect();
        let endpoints: Vec<Endpoint> =
            new.iter().map(|index| wanted[*index].place.endpoint.clone()).collect();
        of_one_name.iter().try_for_each(|it| it.place.check())?;
        let bound = bind_all(&endpoints, &of_one_name[0].place.options);
        for (index, bound) in new.into_iter().zip(bound.map_err(|error| inherited.explain(error))?) {
            sockets[index] = Some(bound);
        }
    }
    Ok(wanted.into_iter().zip(sockets.into_iter().flatten()).collect())
}

/// Raises the soft limit of descriptors to the hard one; how many there may be.
fn descriptors_most() -> usize {
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            Err(error) => {
                log::warn!("the limit of {soft} descriptors could not be raised to {hard}: {error}");
                soft
            }
        },
        Ok((soft, _)) => soft,
        Err(error) => {
            log::warn!("the limit of descriptors is unknown: {error}");
            return usize::MAX;
        }
    };
    log::debug!(
        "at most {limit} descriptors are open at a time, some of them for other things than connections"
    );
    usize::try_from(limit).unwrap_or(usize::MAX)
}

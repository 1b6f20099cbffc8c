//! The ladder of examples keeps its promises: each is run, and talked to as a stranger would.
//!
//! The table below says which rung promises what; a new rung is a line there. A promise is a function that
//! takes the example's name.
//!
//! `cargo test` builds the examples; `cargo test --test black_box examples::` does not, and runs those of the last time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::ladder::{Caller, PATIENCE, Rung, run_in_vain, run_to_its_end};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use socket2::{Domain, SockRef, Socket, Type};

/// One test for each rung and promise, named `rung::promise`.
macro_rules! promises {
    ($($rung:ident, $example:literal: $($promise:ident)+;)+) => {$(
        mod $rung {
            $(
                #[test]
                fn $promise() {
                    super::$promise($example);
                }
            )+
        }
    )+};
}

promises! {
    socket, "01_socket":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        echoes
        serves_one_after_the_other
        empties_its_outbox_after_a_fin
        survives_resets;

    threads, "02_threads":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        echoes
        serves_several_at_once
        empties_its_outbox_after_a_fin
        keeps_a_full_outbox_past_a_fin
        takes_a_rush_of_callers
        survives_resets
        is_not_starved_by_a_flooder
        is_not_held_up_by_one_who_never_reads
        outlives_a_shortage_of_descriptors;

    select, "03_select":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        echoes
        serves_several_at_once
        empties_its_outbox_after_a_fin
        keeps_a_full_outbox_past_a_fin
        takes_a_rush_of_callers
        survives_resets
        is_not_starved_by_a_flooder
        is_not_held_up_by_one_who_never_reads
        outlives_a_shortage_of_descriptors
        refuses_what_select_cannot_watch;

    poll, "04_poll":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        echoes
        serves_several_at_once
        empties_its_outbox_after_a_fin
        keeps_a_full_outbox_past_a_fin
        takes_a_rush_of_callers
        survives_resets
        is_not_starved_by_a_flooder
        is_not_held_up_by_one_who_never_reads
        outlives_a_shortage_of_descriptors
        serves_more_than_select_could_watch;

    epoll, "05_epoll":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        echoes
        serves_several_at_once
        empties_its_outbox_after_a_fin
        keeps_a_full_outbox_past_a_fin
        takes_a_rush_of_callers
        survives_resets
        is_not_starved_by_a_flooder
        is_not_held_up_by_one_who_never_reads
        sleeps_beside_one_who_never_reads
        outlives_a_shortage_of_descriptors
        serves_more_than_select_could_watch;

    edges, "06_edges":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        echoes
        serves_several_at_once
        empties_its_outbox_after_a_fin
        keeps_a_full_outbox_past_a_fin
        takes_a_rush_of_callers
        survives_resets
        is_not_starved_by_a_flooder
        is_not_held_up_by_one_who_never_reads
        outlives_a_shortage_of_descriptors
        serves_more_than_select_could_watch;

    bytes, "07_bytes":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        echoes
        serves_several_at_once
        empties_its_outbox_after_a_fin
        keeps_a_full_outbox_past_a_fin
        takes_a_rush_of_callers
        survives_resets
        is_not_starved_by_a_flooder
        is_not_held_up_by_one_who_never_reads
        outlives_a_shortage_of_descriptors_in_silence;

    pressure, "08_pressure":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        repeats_each_line_a_hundred_times
        bounds_its_answers_to_one_who_never_reads
        ends_a_line_without_end;

    hello, "09_hello":
        names_an_address_that_it_cannot_have
        echoes
        serves_several_at_once
        empties_its_outbox_after_a_fin
        survives_resets
        speaks_lines_where_its_url_says_so
        delivers_its_replies_when_it_is_stopped;

    timers, "10_timers":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        ticks_and_never_early
        skips_the_ticks_that_it_missed
        echoes_between_two_ticks
        ticks_for_everybody
        sleeps_while_nobody_is_there
        refuses_a_tick_without_a_time;

    udp, "11_udp":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        sends_datagrams_back_as_they_came
        tells_senders_apart
        counts_more_senders_than_it_remembers
        outlives_senders_who_are_gone;

    client, "12_client":
        explains_its_command_line
        talks_to_itself
        talks_to_another_server
        names_an_address_where_nobody_listens
        hangs_up_on_a_server_without_end;

    upper, "upper":
        names_an_address_that_it_cannot_have
        shouts_back_lines_and_datagrams;

    key_value, "key_value":
        names_an_address_that_it_cannot_have
        keeps_values_and_forgets_them_in_time
        stops_when_it_is_told_to_and_delivers_what_it_said;

    chat_bot, "chat_bot":
        names_an_address_that_it_cannot_have
        greets_counts_and_says_who_is_here;

    two_services, "two_services":
        serves_each_address_with_its_own_service;

    worker, "13_worker":
        names_an_address_that_it_cannot_have
        explains_its_command_line
        factors_numbers_in_their_order
        answers_others_while_the_worker_is_busy
        refuses_jobs_when_too_many_wait;
}

#[cfg(feature = "socket-options")]
promises! {
    cores, "18_cores":
        explains_its_command_line
        spreads_callers_over_its_threads
        shares_its_port_with_another_process
        refuses_to_run_without_threads;
}

#[cfg(feature = "web")]
promises! {
    web, "15_web":
        names_an_address_that_it_cannot_have
        keeps_notes_and_shows_them_as_text
        answers_in_order_and_refuses_what_is_no_request;

    chat, "16_chat":
        brings_its_guests_together
        serves_its_page_to_browsers;

    relay, "17_relay":
        names_an_address_that_it_cannot_have
        tells_one_picture_for_each_word
        sleeps_while_no_player_is_there;
}

fn names_an_address_that_it_cannot_have(example: &str) {
    let (code, said) = run_in_vain(example, &["nonsense"]);
    assert_eq!(code, Some(1));
    assert!(matches!(&said[..], [line] if line.contains("nonsense")), "{said:?}");

    let taken = Rung::start(example);
    let address = taken.address().to_string();
    let (code, said) = run_in_vain(example, &[&address]);
    assert_eq!(code, Some(1));
    assert!(matches!(&said[..], [line] if line.contains(&address)), "{said:?}");
}

fn explains_its_command_line(example: &str) {
    for wrong in [&["127.0.0.1:0", "--what"][..], &["--help"]] {
        let (code, said) = run_in_vain(example, wrong);
        assert_eq!(code, Some(2));
        assert!(matches!(&said[..], [line] if line.contains("usage")), "{said:?}");
    }
}

fn echoes(example: &str) {
    let rung = Rung::start(example);
    let mut alice = rung.call();
    alice.echo("hello");
    alice.echo("\0\r\n\u{fffd} and whatever else it may be");
    alice.half_close();
    alice.hear_the_end();
}

fn serves_one_after_the_other(example: &str) {
    let rung = Rung::start(example);
    let mut alice = rung.call();
    alice.echo("I was first");
    let mut bob = rung.call();
    bob.say("I can wait");
    alice.echo("I am not done");
    alice.half_close();
    alice.hear_the_end();
    bob.hear("I can wait");
}

fn serves_several_at_once(example: &str) {
    let rung = Rung::start(example);
    let mut idle = rung.call();
    let mut callers: Vec<Caller> = (0..8).map(|_| rung.call()).collect();
    for round in 0..10 {
        for (number, caller) in callers.iter_mut().enumerate() {
            caller.say(format!("round {round}, caller {number}"));
        }
        // The last is heard first: no answer waits until another client takes its own.
        for (number, caller) in callers.iter_mut().enumerate().rev() {
            caller.hear(format!("round {round}, caller {number}"));
        }
    }
    idle.echo("I was here all the time");
}

fn empties_its_outbox_after_a_fin(example: &str) {
    const BYTES: usize = 5 * 1024 * 1024;
    let rung = Rung::start(example);
    let mut alice = rung.call();
    let mut writer = Caller { stream: alice.stream.try_clone().expect("a descriptor is free") };
    // In a thread, as a server with back pressure takes no more while we don't read.
    let writing = thread::spawn(move || {
        writer.say(pattern(BYTES));
        writer.half_close();
    });
    let mut heard = Vec::with_capacity(BYTES);
    alice.stream.read_to_end(&mut heard).expect("the server ends in order");
    writing.join().expect("all of it was taken");
    assert_eq!(heard.len(), BYTES);
    assert!(heard == pattern(BYTES), "the bytes come back as they went");
}

/// The FIN is read while bytes are still in the outbox, as the kernel takes no more of them.
fn keeps_a_full_outbox_past_a_fin(example: &str) {
    let rung = Rung::start(example);
    let mut alice = rung.call();
    // How much that takes depends on the kernel's buffers. A narrow caller keeps those small, and then one
    // of these sizes fills them and not yet an outbox of 64 KiB as well.
    for kib in (48..640).step_by(32) {
        let mut slow = rung.call_narrowly();
        let bytes = pattern(kib * 1024);
        SockRef::from(&slow.stream).set_send_buffer_size(1024 * 1024).expect("the socket is ours");
        slow.stream.set_nonblocking(true).expect("the socket is ours");
        let said = slow.stream.write(&bytes).expect("the buffer is empty");
        slow.half_close();
        slow.stream.set_nonblocking(false).expect("the socket is ours");
        // A single thread that has served alice so often has also come as far with the slow one as it can.
        for _ in 0..32 {
            alice.echo("tick");
        }
        let mut heard = Vec::new();
        slow.stream.read_to_end(&mut heard).expect("the server ends in order");
        assert_eq!(heard.len(), said, "what was in the outbox is lost");
        assert!(heard == bytes[..said]);
    }
}

/// More at once than a turn accepts.
fn takes_a_rush_of_callers(example: &str) {
    let rung = Rung::start(example);
    // std listens with a backlog of 128; the kernel connects them all while the server stands still.
    rung.signal(Signal::SIGSTOP);
    let mut callers: Vec<Caller> = (0..100).map(|_| rung.call()).collect();
    rung.signal(Signal::SIGCONT);
    for caller in callers.iter_mut().rev() {
        caller.echo("all at once");
    }
}

fn survives_resets(example: &str) {
    let rung = Rung::start(example);
    for _ in 0..20 {
        let silent = rung.call();
        silent.reset();

        let mut talkative = rung.call();
        talkative.say(pattern(32 * 1024));
        talkative.reset();

        let mut deaf = rung.call();
        deaf.echo("hello");
        deaf.say(pattern(32 * 1024));
        deaf.half_close();
        deaf.reset();
    }
    rung.call().echo("still there?");
}

/// Somebody who always has more to say does not keep the others from being heard. No proof of a fair
/// share: how long an unfair server stays with the flooder is up to the scheduler.
fn is_not_starved_by_a_flooder(example: &str) {
    let rung = Rung::start(example);
    let flooder = rung.call().stream;
    let mut whisperer = rung.call();
    thread::scope(|scope| {
        // Its errors are its own affair: it is cut off in the middle, below.
        scope.spawn(|| {
            let block = pattern(256 * 1024);
            while (&flooder).write_all(&block).is_ok() {}
        });
        scope.spawn(|| {
            let mut block = vec![0; 256 * 1024];
            while (&flooder).read(&mut block).is_ok_and(|count| count > 0) {}
        });
        // Caught, as the scope waits for its threads before it lets a panic out.
        let whispering = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..100 {
                whisperer.echo("psst");
            }
        }));
        let _ = flooder.shutdown(Shutdown::Both);
        if let Err(panic) = whispering {
            resume_unwind(panic);
        }
    });
}

fn is_not_held_up_by_one_who_never_reads(example: &str) {
    /// More than all the kernel's buffers on the way can hold.
    const ENDLESS: usize = 256 * 1024 * 1024;
    /// Far more than a server needs for two clients, and far less than it would need without a bound.
    const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;
    let rung = Rung::start(example);
    let mut alice = rung.call();
    let mut hog = rung.call();

    // It says as much as the server takes. That it takes no more shows only in time, yet no time is too
    // short: if the server was merely slow, the rest of the test is easier than it could be.
    hog.stream.set_write_timeout(Some(Duration::from_millis(300))).expect("not zero");
    SockRef::from(&hog.stream).set_send_buffer_size(64 * 1024).expect("the socket is ours");
    let block = pattern(64 * 1024 - 3);
    let mut said = 0;
    loop {
        match hog.stream.write(&block[said % block.len()..]) {
            Ok(count) => said += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            // A socket with a timeout is interrupted even by signals that nobody handles.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the hog was cut off: {error}"),
        }
        assert!(said < ENDLESS, "the server takes without end and nobody takes it back");
    }
    let memory_bytes = rung.memory_bytes();
    assert!(memory_bytes < MEMORY_BYTES_MAX, "{memory_bytes} bytes for two clients");
    alice.echo("Don't mind the hog");

    // Once it does read it gets everything, so nothing was dropped, and the server reads on.
    hog.half_close();
    let mut heard = Vec::with_capacity(said);
    hog.stream.read_to_end(&mut heard).expect("the server ends in order");
    assert_eq!(heard.len(), said);
    assert!(heard.chunks(block.len()).all(|chunk| block.starts_with(chunk)));
    alice.echo("It has gone");
}

/// Bytes that wait in an outbox do not keep the loop awake: neither the socket that can't be written nor the bytes that lie
/// unread in it.
fn sleeps_beside_one_who_never_reads(example: &str) {
    let rung = Rung::start(example);
    let mut hog = rung.call();
    hog.stream.set_write_timeout(Some(Duration::from_millis(300))).expect("not zero");
    let block = pattern(64 * 1024);
    let stuck = loop {
        match hog.stream.write(&block) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break error.kind(),
        }
    };
    assert!(matches!(stuck, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{stuck}");
    rung.falls_asleep();
    let spell = Duration::from_millis(300);
    let busy_before = rung.busy_for();
    thread::sleep(spell); // the time that is measured
    let busy = rung.busy_for() - busy_before;
    assert!(busy < spell / 3, "the loop spins: it was busy for {busy:?} of {spell:?}");
}

fn outlives_a_shortage_of_descriptors(example: &str) {
    outlives_a_shortage(example, Some("cannot accept"));
}

/// The library tells the log crate, and these examples have nobody listen to it.
fn outlives_a_shortage_of_descriptors_in_silence(example: &str) {
    outlives_a_shortage(example, None);
}

fn outlives_a_shortage(example: &str, complaint: Option<&str>) {
    let rung = Rung::start_with_descriptors(example, 16);
    let mut callers: Vec<Caller> = (0..24).map(|_| rung.call()).collect();
    for caller in &mut callers {
        caller.say("my turn");
    }
    callers[0].hear("my turn");
    if let Some(complaint) = complaint {
        rung.complains_of(complaint);
    }

    // While it lasts, those inside are served, those outside wait, and the server is neither busy
    // with the shortage nor talks of it again and again.
    let spell = Duration::from_millis(350);
    callers[0].echo("let's see");
    let busy_before = rung.busy_for();
    callers[23].hear_nothing_for(spell);
    let busy = rung.busy_for() - busy_before;
    assert!(busy < spell / 3, "the loop spins: it was busy for {busy:?} of {spell:?}");
    // Three times, it would be, with each time that it tries. (Once more may be right: one that needed a
    // descriptor for a moment has given it back, somebody got in, and the next spell began.)
    rung.has_complaints_at_most(1);
    callers[0].echo("and again");

    // One leaves, and the next comes in, until each has had its turn.
    callers[0].say("my turn");
    for mut caller in callers {
        caller.hear("my turn");
    }
    rung.call().echo("room enough");
}

/// select's bitmaps end at descriptor 1023.
fn refuses_what_select_cannot_watch(example: &str) {
    let Some(rung) = start_with_a_crowd(example) else {
        return;
    };
    let mut callers = Vec::new();
    let mut refused = 0;
    for _ in 0..CROWD {
        let mut caller = rung.call();
        // A reset instead of a FIN is no less polite: it is what the kernel makes of bytes that came
        // and were not read. It may come before we have said anything.
        let _ = caller.stream.write_all(b"hello");
        let mut heard = Vec::new();
        match (&caller.stream).take(5).read_to_end(&mut heard) {
            Ok(0) => refused += 1,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                refused += 1
            }
            Ok(_) => callers.push(caller),
            Err(error) => panic!("neither served nor refused: {error}"),
        }
    }
    assert!(callers.len() <= 1024, "{} were served", callers.len());
    assert!(callers.len() > 1000, "only {} were served", callers.len());
    for _ in 0..refused {
        rung.complains_of("refused");
    }
    for caller in callers.iter_mut().rev() {
        caller.echo("still served");
    }
    // One of them leaves, and its descriptor is one that select can watch.
    let mut leaver = callers.swap_remove(500);
    leaver.half_close();
    leaver.hear_the_end();
    rung.call().echo("in its place");
}

fn serves_more_than_select_could_watch(example: &str) {
    let Some(rung) = start_with_a_crowd(example) else {
        return;
    };
    let mut callers: Vec<Caller> = Vec::new();
    for _ in 0..CROWD {
        let mut caller = rung.call();
        caller.echo("hello");
        callers.push(caller);
    }
    for caller in callers.iter_mut().rev() {
        caller.echo("still served");
    }
}

fn speaks_lines_where_its_url_says_so(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0"]);
    let mut alice = rung.call();
    alice.say("one\r\ntw");
    alice.hear("one\n");
    alice.say("o\nthree");
    alice.hear("two\n");
    alice.half_close();
    alice.hear("three\n");
    alice.hear_the_end();
}

fn shouts_back_lines_and_datagrams(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0"]);
    let mut alice = rung.call();
    alice.say("straße 7\n");
    alice.hear("STRASSE 7\n");
    alice.say(b"\xffabc\n");
    alice.hear(b"\xffABC\n");

    let rung = Rung::start_with(example, &["udp://127.0.0.1:0"]);
    let bob = UdpSocket::bind("127.0.0.1:0").expect("a port");
    bob.set_read_timeout(Some(PATIENCE)).expect("not zero");
    bob.send_to(b"hello", rung.address()).expect("it is sent");
    let mut heard = [0; 16];
    let count = bob.recv(&mut heard).expect("an answer");
    assert_eq!(&heard[..count], b"HELLO");
}

fn keeps_values_and_forgets_them_in_time(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0"]);
    let (mut alice, mut bob) = (rung.call(), rung.call());
    let mut ask = |question: &str, answer: &str| {
        alice.say(format!("{question}\n"));
        alice.hear(format!("{answer}\n"));
    };
    ask("GET name", "NONE");
    ask("SET name Ada", "OK");
    ask("SET code 42 0", "OK");
    ask("SET name Grace 3600", "OK");
    ask("SET long 1 soon", "ERROR the seconds are no whole number");
    ask("SET", "ERROR SET key value [seconds], GET key, DEL key or SHUTDOWN");
    ask("GET code", "NONE"); // its time is over at once
    ask("DEL name", "OK");
    ask("DEL name", "NONE");
    ask("SET name Grace", "OK");
    ask(&format!("SET long {}", "x".repeat(1000)), "ERROR the key and the value are too long");
    ask(&format!("SET far 1 {}", u64::MAX), "OK");
    ask("GET far", "1");
    bob.say("GET name\nDEL name\nGET name\n");
    bob.hear("Grace\nOK\nNONE\n");
    // A value that has been set again does not expire with the old one.
    bob.say("SET name A 0\nSET name B\nGET name\n");
    bob.hear("OK\nOK\nB\n");
    bob.say("GET name\n");
    bob.hear("B\n");
}

fn stops_when_it_is_told_to_and_delivers_what_it_said(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0"]);
    let (mut alice, mut bob) = (rung.call(), rung.call());
    bob.say("SET name Ada\n");
    bob.hear("OK\n");
    alice.say("GET name\nSHUTDOWN\n");
    alice.hear("Ada\nOK\n");
    alice.hear_the_end();
    bob.hear_the_end();
    drop((alice, bob));
    assert_eq!(rung.wait(), Some(0));
}

fn greets_counts_and_says_who_is_here(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0"]);
    let mut alice = rung.call();
    alice.hear("bot: hello guest1, try !who, !count or !bye\n");
    let mut bob = rung.call();
    bob.hear("bot: hello guest2, try !who, !count or !bye\n");
    alice.hear("bot: guest2 is here\n");
    alice.say("hi\n");
    alice.hear("guest1: hi\n");
    bob.hear("guest1: hi\n");
    alice.say("!count\n!who\n");
    alice.hear("bot: you have said 1 things\nbot: guest1, guest2\n");
    bob.say("!count\n!bye\n");
    bob.hear("bot: you have said 0 things\nbot: bye\n");
    bob.hear_the_end();
    drop(bob);
    alice.hear("bot: guest2 is gone\n");
}

fn serves_each_address_with_its_own_service(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0", "tcp+lines://127.0.0.1:0"]);
    let private = rung.listens_at("tcp+lines");
    let (mut ada, mut inspector) = (rung.call(), rung.call_at(private));
    inspector.say("how many?\n");
    inspector.hear("0 guests so far\n");
    ada.say("Ada\n");
    ada.hear("hello Ada\n");
    inspector.say("and now?\n");
    inspector.hear("1 guest so far\n");
}

/// SIGTERM: what was said before it is answered, and everybody gets a FIN.
fn delivers_its_replies_when_it_is_stopped(example: &str) {
    if cfg!(not(feature = "cli")) {
        return; // without it, a signal does what signals do
    }
    let rung = Rung::start(example);
    let mut alice = rung.call();
    let mut silent = rung.call();
    alice.echo("hello");
    // The bytes lie in the server's socket, unread, when the signal comes.
    rung.signal(Signal::SIGSTOP);
    alice.say("one more thing");
    let stopping = thread::spawn(move || rung.stop());
    alice.hear("one more thing");
    alice.hear_the_end();
    silent.hear_the_end();
    drop((alice, silent));
    assert_eq!(stopping.join().expect("it stops"), Some(0));
}

/// Starts the timers with a short interval.
fn start_ticking(example: &str, interval: Duration) -> Rung {
    let milliseconds = interval.as_millis().to_string();
    Rung::start_with(example, &["tcp+lines://127.0.0.1:0", &milliseconds])
}

/// The number of the next line, which is a tick.
fn hear_a_tick(caller: &mut Caller) -> u32 {
    let line = caller.hear_line();
    let number = line.strip_prefix("tick ").and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{line:?} instead of a tick"))
}

fn ticks_and_never_early(example: &str) {
    let interval = Duration::from_millis(20);
    let rung = start_ticking(example, interval);
    let before = Instant::now();
    let mut alice = rung.call();
    assert_eq!(alice.hear_line(), "hello, a tick comes every 20ms");
    // The more there are, the more ticks are heard; they are not made more often.
    let _others: Vec<Caller> = (0..3).map(|_| rung.call()).collect();
    for number in 1..=20 {
        assert_eq!(hear_a_tick(&mut alice), number);
        // Against the plan and not the last tick: one that came late brings the next one nearer.
        let passed = before.elapsed();
        assert!(passed >= interval * number, "tick {number} after {passed:?}");
    }
}

/// A server that was stopped for a while goes on, and does not make up for it.
fn skips_the_ticks_that_it_missed(example: &str) {
    let interval = Duration::from_millis(20);
    let rung = start_ticking(example, interval);
    let mut alice = rung.call();
    alice.hear_line();
    hear_a_tick(&mut alice);
    rung.signal(Signal::SIGSTOP);
    thread::sleep(interval * 12); // what passes is the time of a dozen ticks
    alice.forget_what_came(); // the last before the stop
    let before = Instant::now();
    rung.signal(Signal::SIGCONT);
    hear_a_tick(&mut alice); // the one that is late
    hear_a_tick(&mut alice); // the next, in its time
    for number in 1..=5 {
        hear_a_tick(&mut alice);
        let passed = before.elapsed();
        assert!(passed >= interval * number, "{} ticks after {passed:?}", number + 2);
    }
}

fn echoes_between_two_ticks(example: &str) {
    let rung = start_ticking(example, Duration::from_millis(5));
    let mut alice = rung.call();
    alice.hear_line();
    let mut next = 1;
    for round in 0..100 {
        let said = format!("round {round}");
        alice.say(format!("{said}\n"));
        loop {
            let line = alice.hear_line();
            if line == said {
                break;
            }
            assert_eq!(line, format!("tick {next}"));
            next += 1;
        }
    }
    assert_eq!(hear_a_tick(&mut alice), next);
}

fn ticks_for_everybody(example: &str) {
    let rung = start_ticking(example, Duration::from_millis(10));
    let mut alice = rung.call();
    alice.hear_line();
    let mut alice_heard = hear_a_tick(&mut alice);
    let mut bob = rung.call();
    bob.hear_line();
    let mut bob_heard = hear_a_tick(&mut bob);
    // Bob missed what was before him, and from then on both hear the same.
    assert!(bob_heard > alice_heard);
    while alice_heard < bob_heard {
        alice_heard += 1;
        assert_eq!(hear_a_tick(&mut alice), alice_heard);
    }
    // Not even one who leaves without a word keeps the ticks from the other.
    alice.reset();
    for _ in 0..5 {
        bob_heard += 1;
        assert_eq!(hear_a_tick(&mut bob), bob_heard);
    }
}

fn sleeps_while_nobody_is_there(example: &str) {
    let rung = start_ticking(example, Duration::from_millis(5));
    rung.falls_asleep();
    for _ in 0..2 {
        // Each comes while the timer of the last may still be out.
        for _ in 0..5 {
            let mut alice = rung.call();
            alice.hear_line();
            hear_a_tick(&mut alice);
            alice.half_close();
        }
        rung.falls_asleep();
    }
    let mut bob = rung.call();
    bob.hear_line();
    let heard = hear_a_tick(&mut bob);
    assert_eq!(hear_a_tick(&mut bob), heard + 1);
}

fn refuses_a_tick_without_a_time(example: &str) {
    for wrong in ["0", "-1", "soon", "1s", ""] {
        let (code, said) = run_in_vain(example, &["127.0.0.1:0", wrong]);
        assert_eq!(code, Some(2));
        assert!(matches!(&said[..], [line] if line.contains("usage")), "{said:?}");
    }
}

/// Starts the rung that listens for datagrams and, for its report, for callers; where the datagrams go.
fn start_for_datagrams(example: &str) -> (Rung, SocketAddr) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0", "udp://127.0.0.1:0"]);
    let datagrams = rung.listens_at("udp");
    (rung, datagrams)
}

/// A socket of ours that hears only from there.
fn datagrams_to(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("some port is free");
    socket.connect(address).expect("a datagram socket calls nobody");
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    socket
}

/// Sends one and hears it back. Here on one machine, and one at a time, none is ever lost.
fn echo_a_datagram(socket: &UdpSocket, bytes: &[u8]) {
    socket.send(bytes).expect("it fits");
    let mut heard = vec![0; 65_536];
    let count = socket.recv(&mut heard).expect("there is an answer");
    assert_eq!(count, bytes.len());
    assert!(heard[..count] == *bytes);
}

/// What it has counted: of how many datagrams, and from whom.
fn report(rung: &Rung) -> (u32, Vec<String>) {
    let mut heard = String::new();
    rung.call().stream.read_to_string(&mut heard).expect("the server ends in order");
    let mut lines = heard.lines();
    let total = lines.next().and_then(|line| line.strip_suffix(" datagrams"));
    let total = total.and_then(|total| total.parse().ok()).unwrap_or_else(|| panic!("{heard:?}"));
    (total, lines.map(String::from).collect())
}

fn sends_datagrams_back_as_they_came(example: &str) {
    /// What an IPv4 datagram can hold.
    const BYTES_MAX: usize = 65_507;
    let (rung, address) = start_for_datagrams(example);
    let alice = datagrams_to(address);
    let sizes = [0, 1, 1472, 1473, 20_000, BYTES_MAX, 0];
    for size in sizes {
        echo_a_datagram(&alice, &pattern(size));
    }
    // One too many is refused where it is sent, and nobody else hears of it.
    let too_large = alice.send(&pattern(BYTES_MAX + 1)).expect_err("no datagram is so large");
    assert_eq!(too_large.raw_os_error(), Some(Errno::EMSGSIZE as i32));
    echo_a_datagram(&alice, b"and again");
    let alice = alice.local_addr().expect("it is bound");
    assert_eq!(report(&rung), (8, vec![format!("{alice} sent 8")]));
}

fn tells_senders_apart(example: &str) {
    let (rung, address) = start_for_datagrams(example);
    assert_eq!(report(&rung), (0, vec![]));
    let senders: Vec<UdpSocket> = (0..8).map(|_| datagrams_to(address)).collect();
    for round in 0..senders.len() {
        for (number, sender) in senders.iter().enumerate().skip(round) {
            echo_a_datagram(sender, format!("round {round}, sender {number}").as_bytes());
        }
    }
    // Sender 0 has sent one, sender 1 two, and so on.
    let (total, mut counts) = report(&rung);
    let mut expected: Vec<String> = (1..)
        .zip(&senders)
        .map(|(count, sender)| format!("{} sent {count}", sender.local_addr().expect("it is bound")))
        .collect();
    counts.sort();
    expected.sort();
    assert_eq!((total, counts), ((1..=8).sum(), expected));
}

/// A client can forge any number of senders; they must not cost the server more and more.
fn counts_more_senders_than_it_remembers(example: &str) {
    const REMEMBERED: usize = 1000;
    let (rung, address) = start_for_datagrams(example);
    // Each from a port of its own, as far as the system does not give us one again.
    for _ in 0..REMEMBERED + 200 {
        echo_a_datagram(&datagrams_to(address), b"it's me");
    }
    let (total, counts) = report(&rung);
    assert_eq!(total as usize, REMEMBERED + 200);
    assert!(counts.len() <= REMEMBERED, "{} are remembered", counts.len());
    assert!(counts.len() > REMEMBERED / 2, "only {} are told apart", counts.len());
}

/// The answer to somebody who has gone comes back as an error of our socket, and is nobody's end.
fn outlives_senders_who_are_gone(example: &str) {
    let (rung, address) = start_for_datagrams(example);
    let alice = datagrams_to(address);
    for _ in 0..10 {
        rung.signal(Signal::SIGSTOP);
        for _ in 0..3 {
            datagrams_to(address).send(b"catch me").expect("it fits");
        }
        rung.signal(Signal::SIGCONT);
        echo_a_datagram(&alice, b"still there?");
    }
    assert_eq!(report(&rung).0, 40);
}

fn talks_to_itself(example: &str) {
    let (code, said, complaints) = run_to_its_end(example, &[]);
    assert_eq!((code, complaints), (Some(0), vec![]));
    let (ready, heard) = said.split_first().expect("it says where it listens");
    assert!(ready.starts_with("listening on tcp://127.0.0.1:"), "{ready:?}");
    assert_eq!(heard, ["heard: one", "heard: two", "heard: three"]);
}

fn talks_to_another_server(example: &str) {
    // The other side reads to the end before it answers, and closes first.
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody calls");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("the call ends in order");
        stream.write_all(b"caf\xe9 \x1b[2J\r\n\nno end").expect("the caller listens");
        heard
    });
    let (code, said, complaints) = run_to_its_end(example, &[&address]);
    assert_eq!((code, complaints), (Some(0), vec![]));
    assert_eq!(said, [r"heard: caf\xe9 \x1b[2J", "heard: ", "heard: no end"]);
    assert_eq!(answering.join().expect("it heard"), "one\ntwo\nthree\n");

    // And two rungs with each other.
    let rung = Rung::start("06_edges");
    let (code, said, complaints) = run_to_its_end(example, &[&rung.address().to_string()]);
    assert_eq!((code, complaints), (Some(0), vec![]));
    assert_eq!(said, ["heard: one", "heard: two", "heard: three"]);
}

fn names_an_address_where_nobody_listens(example: &str) {
    // Bound, so that nobody else gets the port, and not listening.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is free");
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("some port is free");
    let address = bound.local_addr().expect("it is bound").as_socket().expect("it is IPv4").to_string();
    let (code, said) = run_in_vain(example, &[&address]);
    assert_eq!(code, Some(1));
    assert!(matches!(&said[..], [line] if line.contains(&address) && line.contains("refused")), "{said:?}");

    let (code, said) = run_in_vain(example, &["nonsense"]);
    assert_eq!(code, Some(1));
    assert!(matches!(&said[..], [line] if line.contains("nonsense")), "{said:?}");
}

/// It remembers what it hears until the end; so that needs a bound.
fn hangs_up_on_a_server_without_end(example: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("some port is free");
    let address = listener.local_addr().expect("it is bound").to_string();
    let flooding = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody calls");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        let block = pattern(256 * 1024);
        loop {
            if let Err(error) = stream.write_all(&block) {
                return error.kind();
            }
        }
    });
    let (code, said) = run_in_vain(example, &[&address]);
    assert_eq!(code, Some(1));
    assert!(matches!(&said[..], [line] if line.contains(&address)), "{said:?}");
    let kind = flooding.join().expect("it came to an end");
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
}

fn repeats_each_line_a_hundred_times(example: &str) {
    let rung = Rung::start(example);
    let mut alice = rung.call();
    alice.say("o");
    alice.say("ne\ntwo\nthr");
    alice.hear("one\n".repeat(100) + &"two\n".repeat(100));
    alice.say("ee\n");
    alice.hear("three\n".repeat(100));
    alice.half_close();
    alice.hear_the_end();
}

/// The answers to what it has read are far more than an outbox may hold. They come as the client reads, and all of them.
fn bounds_its_answers_to_one_who_never_reads(example: &str) {
    const LINES: usize = 100_000;
    const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;
    let rung = Rung::start(example);
    let mut alice = rung.call();
    let mut hog = rung.call();
    let mut writer = Caller { stream: hog.stream.try_clone().expect("a descriptor is free") };
    let writing = thread::spawn(move || {
        writer.say("y\n".repeat(LINES));
        writer.half_close();
    });
    alice.say("hello\n");
    alice.hear("hello\n".repeat(100));
    let memory_bytes = rung.memory_bytes();
    assert!(memory_bytes < MEMORY_BYTES_MAX, "{memory_bytes} bytes for two clients");
    let mut heard = Vec::with_capacity(LINES * 200);
    hog.stream.read_to_end(&mut heard).expect("the server ends in order");
    writing.join().expect("all of it was taken");
    assert_eq!(heard.len(), LINES * 200);
    assert!(heard.chunks(2).all(|line| line == b"y\n"));
}

fn ends_a_line_without_end(example: &str) {
    let rung = Rung::start(example);
    let mut alice = rung.call();
    alice.say([b'a'; 999]);
    alice.say("\n");
    for _ in 0..100 {
        assert_eq!(alice.hear_line().len(), 999);
    }
    alice.say([b'a'; 1000]);
    alice.hear_the_end();
}

/// A prime for which the worker needs many seconds.
const SLOW: &str = "18446744073709551557\n";

/// What the worker rung answers on the loop itself.
const HINT: &str = "write a whole number below 2 to the power of 64\n";

fn factors_numbers_in_their_order(example: &str) {
    let rung = Rung::start(example);
    let mut alice = rung.call();
    alice.say("91\r\n0\n1\nsoon\n64\n2147483647\n18446744073709551616\n7");
    alice.hear("91 = 7 * 13\n0 = 0\n1 = 1\n");
    alice.hear(HINT);
    alice.hear("64 = 2 * 2 * 2 * 2 * 2 * 2\n2147483647 = 2147483647\n");
    alice.hear(HINT);
    // The FIN comes while a job is under way: the answer comes first.
    alice.say("5\n");
    alice.half_close();
    drop(alice);
    let mut bob = rung.call();
    bob.say("15\n");
    bob.half_close();
    bob.hear("15 = 3 * 5\n");
    bob.hear_the_end();
}

fn answers_others_while_the_worker_is_busy(example: &str) {
    let rung = Rung::start(example);
    let mut bob = rung.call();
    bob.say(SLOW);
    let mut leaver = rung.call();
    leaver.say("2\n");
    leaver.reset(); // the answer will find nobody
    let mut alice = rung.call();
    for _ in 0..100 {
        alice.say("hello\n");
        alice.hear(HINT);
    }
    bob.say("hello\n"); // its turn is after the prime
    bob.hear_nothing_for(Duration::from_millis(100));
}

fn refuses_jobs_when_too_many_wait(example: &str) {
    let rung = Rung::start(example);
    let mut alice = rung.call();
    let mut callers: Vec<Caller> = (0..80).map(|_| rung.call()).collect();
    // One is under way, and 64 wait.
    for caller in &mut callers {
        caller.say("hello\n");
        caller.hear(HINT);
        caller.say(SLOW);
        // What came before is served by the time that this is answered, as it was ready first.
        alice.say("hello\n");
        alice.hear(HINT);
    }
    alice.say("2\n");
    alice.hear("too many jobs are waiting; try again later\n");
}

/// Says hello on as many connections, and returns which thread answered how often.
#[cfg(feature = "socket-options")]
fn who_answers(rung: &Rung, callers: usize) -> std::collections::BTreeMap<String, usize> {
    let mut answers = std::collections::BTreeMap::new();
    for _ in 0..callers {
        let mut caller = rung.call();
        caller.say("hello\n");
        let line = caller.hear_line();
        let (thread, rest) = line.split_once(", its message ").expect("it names the thread");
        let count = answers.entry(thread.to_owned()).or_insert(0);
        *count += 1;
        assert_eq!(rest, format!("{count}: hello"), "each counts its own");
    }
    answers
}

#[cfg(feature = "socket-options")]
fn spreads_callers_over_its_threads(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0", "3"]);
    // That one of three gets none of them has a chance of 1 in 10^17.
    let answers = who_answers(&rung, 100);
    assert!(answers.keys().eq(["thread 1", "thread 2", "thread 3"]), "{answers:?}");
}

#[cfg(feature = "socket-options")]
fn shares_its_port_with_another_process(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0", "1"]);
    let url = format!("tcp+lines://{}", rung.address());
    let other = Rung::start_with(example, &[&url, "1"]);
    assert_eq!(other.address(), rung.address());
    let mut callers: Vec<Caller> = (0..100).map(|_| rung.call()).collect();
    let mut firsts = 0;
    for caller in &mut callers {
        caller.say("hello\n");
        firsts += usize::from(caller.hear_line() == "thread 1, its message 1: hello");
    }
    assert_eq!(firsts, 2, "each process has a first message");
}

#[cfg(feature = "socket-options")]
fn refuses_to_run_without_threads(example: &str) {
    for wrong in ["0", "-1", "many", ""] {
        let (code, said) = run_in_vain(example, &["tcp+lines://127.0.0.1:0", wrong]);
        assert_eq!(code, Some(2));
        assert!(matches!(&said[..], [line] if line.contains("usage")), "{said:?}");
    }
}

/// How many callers it takes to go beyond FD_SETSIZE.
const CROWD: usize = 1030;

/// Starts a rung with descriptors enough for a crowd, and gets as many for ourselves. Where the system
/// has not got them there is no test, and a line that says so.
#[cfg(feature = "web")]
fn keeps_notes_and_shows_them_as_text(example: &str) {
    let rung = Rung::start_with(example, &["http://127.0.0.1:0"]);
    let address = rung.address();
    let ask = |request: &str| {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.write_all(request.as_bytes()).expect("it reads");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer, and the end");
        answer
    };
    let post = |body: &str| {
        ask(&format!("POST /notes HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    };
    assert!(post("note=<script>alert(1)</script>\r\n").starts_with("HTTP/1.1 303 See Other\r\n"));
    for number in 0..120 {
        post(&number.to_string());
    }
    let page = ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("<p>119</p>"), "{page}");
    assert_eq!(page.matches("<p>").count(), 100, "the oldest are forgotten");
    post("<script>alert(1)</script>");
    let page = ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(page.contains("<p>&lt;script>alert(1)&lt;/script></p>") && !page.contains("<script"), "{page}");
    assert!(ask("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(ask("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert_eq!(rung.stop(), Some(0));
}

#[cfg(feature = "web")]
fn answers_in_order_and_refuses_what_is_no_request(example: &str) {
    let rung = Rung::start_with(example, &["http://127.0.0.1:0"]);
    let mut stream = std::net::TcpStream::connect(rung.address()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let three =
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\nHost: a\n\n";
    stream.write_all(three.as_bytes()).expect("it reads");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answers, and the end");
    let statuses: Vec<&str> = answers.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")).collect();
    assert_eq!(statuses, ["404 Not Found", "200 OK", "400 Bad Request"]);
}

#[cfg(feature = "web")]
fn brings_its_guests_together(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0"]);
    let mut alice = rung.call();
    let mut bob = rung.call();
    alice.hear("* guest2 is here; /nick NAME changes a name\n");
    alice.say("/nick alice\n");
    for guest in [&mut alice, &mut bob] {
        guest.hear("* guest1 is now alice\n");
    }
    bob.say("hello \u{1b}[2Jall\n");
    for guest in [&mut alice, &mut bob] {
        guest.hear("guest2: hello [2Jall\n");
    }
    drop(bob);
    alice.hear("* guest2 left\n");
    assert_eq!(rung.stop(), Some(0));
}

#[cfg(feature = "web")]
fn serves_its_page_to_browsers(example: &str) {
    let rung = Rung::start_with(example, &["http://127.0.0.1:0"]);
    let mut browser = rung.call();
    browser.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    while !browser.hear_line().contains("new WebSocket") {}
    let connect = || {
        let stream = std::net::TcpStream::connect(rung.address()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        tungstenite::client(format!("ws://{}/", rung.address()), stream).expect("they shake hands").0
    };
    let (mut alice, mut bob) = (connect(), connect());
    bob.send(tungstenite::Message::text("hello")).expect("it takes it");
    let _ = alice.read().expect("bob is here");
    for guest in [&mut alice, &mut bob] {
        assert_eq!(guest.read().expect("a message"), tungstenite::Message::text("guest2: hello"));
    }
}

#[cfg(feature = "web")]
fn tells_one_picture_for_each_word(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0"]);
    let (mut alice, mut bob) = (rung.call(), rung.call());
    alice.say("30 40\n");
    assert!(alice.hear_line().contains(" at 30,40"));
    alice.hear_nothing_for(Duration::from_millis(250)); // two ticks and a half
    bob.say("99 0\n");
    let picture = bob.hear_line();
    assert!(picture.contains(" at 30,40") && picture.contains(" at 99,0"), "{picture}");
    for nonsense in ["", "30", "30 100", "1 2 3", "a b", "-1 5"] {
        bob.say(format!("{nonsense}\n"));
        bob.hear("say where you are: two numbers from 0 to 99\n");
    }
    // Many words between two ticks are one position, the last one.
    alice.say("1 1\n2 2\n3 3\n");
    let picture = alice.hear_line();
    assert!(picture.contains(" at 3,3") && !picture.contains(" at 2,2"), "{picture}");
    drop(bob);
    loop {
        alice.say("3 3\n");
        if !alice.hear_line().contains("99,0") {
            break;
        }
    }
    assert_eq!(rung.stop(), Some(0));
}

#[cfg(feature = "web")]
fn sleeps_while_no_player_is_there(example: &str) {
    let rung = Rung::start_with(example, &["tcp+lines://127.0.0.1:0"]);
    let mut alice = rung.call();
    alice.say("1 1\n");
    alice.hear_line();
    drop(alice);
    rung.falls_asleep();
}

fn start_with_a_crowd(example: &str) -> Option<Rung> {
    // The tests run side by side in one process, so several may bring a crowd at once. Three of them fit,
    // and 4096 is a common hard limit.
    const OURS: u64 = 4000;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every system has this limit");
    if hard < OURS {
        eprintln!("skipped: {OURS} descriptors are needed and {hard} allowed");
        return None;
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(OURS), hard).expect("up to the hard limit is free");
    Some(Rung::start_with_descriptors(example, CROWD + 70))
}

/// Bytes that differ from their neighbours, so that a loss or a swap anywhere shows. 251 is a prime:
/// no buffer's size is a multiple of it.
fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// Of rungs 9 and 14 to 18, and the library's examples: one line, and no address is called `--help`.
#[test]
fn later_rungs_explain_their_command_lines_and_errors() {
    let program = std::path::PathBuf::from(env!("CARGO_BIN_EXE_switchboard"));
    let examples = program.parent().expect("a directory").join("examples");
    let run = |name: &str, words: &[&str]| {
        let output = std::process::Command::new(examples.join(name)).args(words).output();
        let output = output.expect("cargo builds the examples with the tests");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let told: Vec<String> =
            said.lines().filter(|line| !line.starts_with("SHA-256")).map(str::to_owned).collect();
        assert_eq!(told.len(), 1, "{name} {words:?}: {said}");
        (output.status.code(), told[0].clone())
    };
    let rungs = ["09_hello", "14_tls", "15_web", "16_chat", "17_relay", "18_cores"];
    for name in rungs.into_iter().chain(["upper", "key_value", "chat_bot", "two_services"]) {
        let (code, said) = run(name, &["--help"]);
        assert!(code == Some(2) && said.starts_with(&format!("usage: {name} [URL")), "{said}");
        let (code, said) = run(name, &["gopher://127.0.0.1:0"]);
        assert!(code == Some(1) && said.starts_with("cannot serve gopher://"), "{said}");
    }
    let (code, said) = run("14_tls", &["tls://127.0.0.1:0", "cert.pem"]);
    assert!(code == Some(2) && said.contains("a certificate needs its key"), "{said}");
    let (code, said) = run("16_chat", &["tcp://127.0.0.1:0"]);
    assert!(code == Some(2) && said.contains("tcp+lines://"), "{said}");
}

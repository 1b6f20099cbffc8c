//! The web service from outside: what is found, what is not, and that nothing is found that lies elsewhere.
#![cfg(all(feature = "cli", feature = "web"))]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::*;

const HTTP: &str = "http://127.0.0.1:0";
const INDEX: &str = "<!doctype html><title>home</title>";
const SECRET: &str = "root:x:0:0";

/// A site with a bit of everything; and beside its root a file that must not be seen.
fn site() -> Directory {
    let directory = Directory::new();
    let at = |name: &str| directory.path(name);
    fs::create_dir_all(at("www/sub/deep")).expect("the directory is ours");
    fs::create_dir_all(at("www/.git")).expect("the directory is ours");
    for (name, text) in [
        ("www/index.html", INDEX),
        ("www/a b.txt", "a and b"),
        ("www/app.js", "console.log(1)"),
        ("www/app.js.gz", "not really gzip"),
        ("www/app.js.br", "not really br"),
        ("www/empty", ""),
        ("www/sub/<i>&.txt", "odd"),
        ("www/.git/config", SECRET),
        ("www/.env", SECRET),
        ("secret", SECRET),
    ] {
        fs::write(at(name), text).expect("the directory is ours");
    }
    fs::write(at("www/big.bin"), pattern(1, 5 * MIB)).expect("there is room");
    symlink("sub/<i>&.txt", at("www/within")).expect("the directory is ours");
    symlink("../secret", at("www/out")).expect("the directory is ours");
    symlink("/", at("www/all")).expect("the directory is ours");
    symlink(at("secret"), at("www/absolute")).expect("the directory is ours");
    symlink("nowhere", at("www/dangling")).expect("the directory is ours");
    symlink("loop", at("www/loop")).expect("the directory is ours");
    let fifo = nix::unistd::mkfifo(&at("www/fifo"), nix::sys::stat::Mode::S_IRUSR);
    fifo.expect("the directory is ours");
    directory
}

/// Has the file be modified `seconds` ago.
fn age(directory: &Directory, name: &str, seconds: u64) {
    let file = fs::File::options().write(true).open(directory.path(name)).expect("it is ours");
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).expect("it is ours");
}

fn serve(directory: &Directory, more: &[&str]) -> Server {
    let root = directory.path("www");
    let root = root.to_str().expect("it is text");
    Server::start(&[&["serve", "web", "--listen", HTTP, "--root", root], more].concat())
}

#[test]
fn files_are_found_with_their_type_and_nothing_else_is() {
    let directory = site();
    let server = serve(&directory, &[]);
    let mut client = server.call();
    for (path, body, kind) in [
        ("/", INDEX, "text/html; charset=utf-8"),
        ("/index.html", INDEX, "text/html; charset=utf-8"),
        ("/index.html?v=2", INDEX, "text/html; charset=utf-8"),
        ("http://localhost/index.html", INDEX, "text/html; charset=utf-8"),
        ("/a%20b.txt", "a and b", "text/plain; charset=utf-8"),
        ("/app.js", "console.log(1)", "text/javascript; charset=utf-8"),
        ("/empty", "", "application/octet-stream"),
        ("/sub/%3Ci%3E%26.txt", "odd", "text/plain; charset=utf-8"),
        ("/within", "odd", "application/octet-stream"),
    ] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text()), (200, body), "{path}");
        assert_eq!(answer.field("content-type"), Some(kind), "{path}");
        let head = client.ask("HEAD", path, "");
        assert_eq!((head.status, head.field("etag")), (200, answer.field("etag")), "{path}");
        assert_eq!(head.field("content-length"), answer.field("content-length"), "{path}");
    }
    for path in [
        "/nothing",
        "/sub/",
        "/sub/nothing",
        "/index.html/",
        "/index.html/x",
        "/out",
        "/all/etc/passwd",
        "/absolute",
        "/dangling",
        "/loop",
        "/fifo",
        "/.env",
        "/.git/config",
        "//etc/passwd",
        "/%2e%2e%2fsecret",
        "/..%2fsecret",
        "/../secret",
        "/sub/../../secret",
        "/%2e%2e/secret",
        "/sub/%2e%2e/index.html",
        "/..\\secret",
        "/..%5csecret",
        "/index.html%00.txt",
        "/C:/Windows",
        "/%",
        "/%zz",
        "/\u{7f}",
    ] {
        let answer = server.call().get(path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        assert!(!answer.text().contains(SECRET), "{path}");
    }
    // In a directory without its slash, relative links would be relative to the one above.
    for (path, location) in [("/sub", "/sub/"), ("/sub?a=b", "/sub/?a=b")] {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.field("location")), (301, Some(location)), "{path}");
    }
    assert_eq!(client.get("/healthz").text(), "ok\n");
    let answer = client.ask("OPTIONS", "*", "");
    assert_eq!((answer.status, answer.field("allow")), (204, Some("GET, HEAD, OPTIONS")));
    for method in ["POST", "PUT", "DELETE", "get"] {
        let answer = client.ask(method, "/index.html", "Content-Length: 0\r\n");
        assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
    }
}

#[test]
fn what_may_not_be_read_is_forbidden() {
    let directory = site();
    let file = directory.path("www/app.js");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).expect("it is ours");
    if fs::read(&file).is_ok() {
        eprintln!("left out: we are root, who may read everything");
        return;
    }
    assert_eq!(serve(&directory, &[]).call().get("/app.js").status, 403);
}

#[test]
fn a_directory_is_listed_where_that_was_asked_for_and_names_are_text() {
    let directory = site();
    let server = serve(&directory, &["--listing"]);
    let mut client = server.call();
    assert_eq!(client.get("/").text(), INDEX, "its index comes first");
    let page = client.get("/sub/");
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("<a href=\"./%3Ci%3E%26.txt\">&lt;i&gt;&amp;.txt</a>"), "{}", page.text());
    assert!(page.text().contains("<a href=\"./deep/\">deep/</a>"), "{}", page.text());
    assert!(!page.text().contains("<i>"), "{}", page.text());
}

#[test]
fn a_large_file_comes_whole_and_holds_up_nobody() {
    let directory = site();
    let server = serve(&directory, &[]);
    let big = pattern(1, 5 * MIB);
    // Somebody who does not read costs an outbox, and nothing else.
    let mut sleeper = Client::prepared(server.url(), small_buffers);
    sleeper.say("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut client = server.call();
    for _ in 0..3 {
        assert_same(&client.get("/big.bin").body, &big);
    }
    assert_eq!(client.get("/").text(), INDEX);
    // Asked for together, they come one after the other.
    client.say("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3));
    for _ in 0..3 {
        assert_same(&client.hear_answer("GET").body, &big);
        assert_eq!(client.hear_answer("GET").text(), INDEX);
    }
    assert_same(&sleeper.hear_answer("GET").body, &big);
    assert_eq!(sleeper.hear_answer("GET").text(), INDEX);
    // Who goes away in the middle costs nobody anything.
    let mut deserter = server.call();
    deserter.say("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    deserter.hear_head();
    deserter.reset();
    assert_eq!(client.get("/").text(), INDEX);
    let old = "GET /big.bin HTTP/1.0\r\n\r\n";
    let mut old_client = server.call();
    old_client.say(old);
    old_client.half_close();
    let answer = old_client.hear_answer("GET");
    assert!(answer.closes());
    assert_same(&answer.body, &big);
    old_client.hear_end();
}

#[cfg(target_os = "linux")]
#[test]
fn what_nobody_reads_does_not_pile_up_in_the_kernel() {
    const KIB: usize = 1024;
    let directory = site();
    let server = serve(&directory, &[]);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::prepared(server.url(), small_buffers)).collect();
    for client in &mut clients {
        client.say("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.hears_something_within(PATIENCE));
    }
    server.at_rest();
    let port = format!(":{:04X}", server.address(0).port());
    let queues = until("a list of sockets with all of ours", || {
        // Its column of bytes that are sent and not acknowledged, or not sent yet; see proc_net(5). Where other sockets come
        // and go while the list is read, it leaves some out.
        let text = fs::read_to_string("/proc/net/tcp").expect("proc is mounted");
        let queues: Vec<usize> = text
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let is_one = fields.get(1)?.ends_with(&port) && *fields.get(3)? == "01";
                is_one.then(|| usize::from_str_radix(fields.get(4)?.split(':').next()?, 16).ok())?
            })
            .collect();
        (queues.len() == clients.len()).then_some(queues)
    });
    assert!(queues.iter().all(|queue| (KIB..256 * KIB).contains(queue)), "of 5 MiB: {queues:?}");
    for client in &mut clients {
        assert_same(&client.hear_answer("GET").body, &pattern(1, 5 * MIB));
    }
}

#[test]
fn slow_downloads_leave_places_for_others() {
    let directory = site();
    let server = serve(&directory, &["--connections-max", "9"]);
    let slow = || {
        let mut client = Client::prepared(server.url(), small_buffers);
        client.say("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.hear_head();
        (client, head)
    };
    // A download is counted twice: its connection, and its file. Files have half of what the connections leave.
    let mut served = Vec::new();
    for _ in 0..3 {
        let (client, head) = slow();
        assert_eq!(head.status, 200);
        served.push(client);
    }
    let (mut late, head) = slow();
    assert_eq!((head.status, head.field("retry-after")), (503, Some("1")));
    let text =
        late.hear_exactly(head.field("content-length").expect("it has one").parse().expect("a number"));
    assert!(String::from_utf8_lossy(&text).contains("Try again"));
    // What takes no descriptor is served.
    assert_eq!(late.get("/").text(), INDEX);
    assert_eq!(late.ask("HEAD", "/big.bin", "").status, 200);
    let mut others: Vec<Client> = (0..2).map(|_| server.call()).collect();
    for other in &mut others {
        assert_eq!(other.get("/").text(), INDEX);
    }
    // Six connections and three files: the next one waits for any of them.
    let mut waiting = server.call();
    waiting.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    server.logs("6 connections and 3 files are open, the most allowed");
    waiting.hear_nothing_for(Duration::from_millis(150));
    assert_same(&served[0].hear_exactly(5 * MIB), &pattern(1, 5 * MIB));
    assert_eq!(waiting.hear_answer("GET").text(), INDEX);
    // With the others gone there are files again.
    drop((others, waiting, served));
    until("a file", || is_served(&mut late).then_some(()));
}

/// Asks for the large file; whether it comes.
fn is_served(client: &mut Client) -> bool {
    let answer = client.get("/big.bin");
    assert!(matches!(answer.status, 200 | 503), "{}", answer.status);
    answer.status == 200
}

#[test]
fn a_stop_delivers_the_file_that_is_on_its_way() {
    let directory = site();
    let server = serve(&directory, &[]);
    let mut client = Client::prepared(server.url(), small_buffers);
    client.say("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.hear_head();
    assert_eq!(head.status, 200);
    server.signal(Signal::SIGTERM);
    server.logs("stopping");
    assert_same(&client.hear_exactly(5 * MIB), &pattern(1, 5 * MIB));
    client.hear_end();
    drop(client);
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn a_file_that_shrinks_on_its_way_breaks_the_connection_off() {
    let directory = site();
    let server = serve(&directory, &[]);
    let mut client = Client::prepared(server.url(), small_buffers);
    client.say("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.hear_head().field("content-length"), Some("5242880"));
    fs::write(directory.path("www/big.bin"), "short").expect("it is ours");
    client.hear_it_break();
    assert_eq!(server.call().get("/big.bin").text(), "short");
    server.logs("a file could not be read to its end");
}

#[test]
fn conditions_spare_what_is_known_and_ranges_what_is_there() {
    let directory = site();
    age(&directory, "www/a b.txt", 60);
    let server = serve(&directory, &[]);
    let mut client = server.call();
    let whole = client.get("/a%20b.txt");
    let etag = whole.field("etag").expect("it has one");
    let modified = whole.field("last-modified").expect("it has one");
    let mut ask = |fields: &str| client.ask("GET", "/a%20b.txt", fields);
    let early = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (fields, status) in [
        (format!("If-None-Match: {etag}\r\n"), 304),
        (format!("If-None-Match: \"x\", W/{etag}\r\n"), 304),
        ("If-None-Match: *\r\n".into(), 304),
        ("If-None-Match: \"x\"\r\n".into(), 200),
        (format!("If-Modified-Since: {modified}\r\n"), 304),
        (format!("If-Modified-Since: {early}\r\n"), 200),
        ("If-Modified-Since: yesterday\r\n".into(), 200),
        (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {modified}\r\n"), 200),
        (format!("If-Match: {etag}\r\n"), 200),
        ("If-Match: \"x\"\r\n".into(), 412),
        (format!("If-Unmodified-Since: {early}\r\n"), 412),
        (format!("If-Unmodified-Since: {modified}\r\n"), 200),
    ] {
        let answer = ask(&fields);
        assert_eq!(answer.status, status, "{fields}");
        if status == 304 {
            assert_eq!(answer.field("etag"), Some(etag), "{fields}");
        }
    }
    for (fields, status, body, range) in [
        ("Range: bytes=0-0\r\n".into(), 206, "a", Some("bytes 0-0/7")),
        ("Range: bytes=2-4\r\n".into(), 206, "and", Some("bytes 2-4/7")),
        ("Range: bytes=-1\r\n".into(), 206, "b", Some("bytes 6-6/7")),
        ("Range: bytes=6-99\r\n".into(), 206, "b", Some("bytes 6-6/7")),
        ("Range: bytes=0-1,3-4\r\n".into(), 200, "a and b", None),
        ("Range: lines=1-2\r\n".into(), 200, "a and b", None),
        (format!("Range: bytes=2-4\r\nIf-Range: {etag}\r\n"), 206, "and", Some("bytes 2-4/7")),
        (format!("Range: bytes=2-4\r\nIf-Range: {modified}\r\n"), 206, "and", Some("bytes 2-4/7")),
        ("Range: bytes=2-4\r\nIf-Range: \"x\"\r\n".into(), 200, "a and b", None),
    ] {
        let answer: http::Answer = ask(&fields);
        assert_eq!((answer.status, answer.text()), (status, body), "{fields}");
        assert_eq!(answer.field("content-range"), range, "{fields}");
    }
    let beyond = ask("Range: bytes=7-\r\n");
    assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */7")));
    let head = client.ask("HEAD", "/a%20b.txt", "Range: bytes=0-0\r\n");
    assert_eq!((head.status, head.field("content-length")), (200, Some("7")));
    let part = client.ask("GET", "/big.bin", "Range: bytes=1000000-3999999\r\n");
    assert_same(&part.body, &pattern(1, 5 * MIB)[1_000_000..4_000_000]);
}

#[test]
fn what_lies_compressed_beside_a_file_is_for_who_takes_it() {
    let directory = site();
    let server = serve(&directory, &[]);
    let mut client = server.call();
    let mut etags = Vec::new();
    for (fields, body, coding) in [
        ("", "console.log(1)", None),
        ("Accept-Encoding: gzip\r\n", "not really gzip", Some("gzip")),
        ("Accept-Encoding: gzip, br\r\n", "not really br", Some("br")),
        ("Accept-Encoding: gzip, br;q=0\r\n", "not really gzip", Some("gzip")),
        ("Accept-Encoding: identity\r\n", "console.log(1)", None),
    ] {
        let answer = client.ask("GET", "/app.js", fields);
        assert_eq!((answer.text(), answer.field("content-encoding")), (body, coding), "{fields}");
        assert_eq!(answer.field("content-type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        etags.push(answer.field("etag").expect("it has one").to_owned());
    }
    assert!(etags[0] != etags[1] && etags[1] != etags[2], "{etags:?}");
}

#[test]
fn a_list_that_is_spread_over_lines_is_read_whole() {
    let directory = site();
    let server = serve(&directory, &[]);
    let mut client = server.call();
    let etag = client.get("/app.js").field("etag").expect("it has one").to_owned();
    for (fields, status) in [
        (format!("If-Match: \"no\"\r\nIf-Match: {etag}\r\n"), 200),
        (format!("If-None-Match: \"no\"\r\nIf-None-Match: {etag}\r\n"), 304),
        (format!("If-None-Match: \"a,b\", {etag}\r\n"), 304),
        ("If-Match: \"no\"\r\nIf-Match: \"nor this\"\r\n".into(), 412),
    ] {
        assert_eq!(client.ask("GET", "/app.js", &fields).status, status, "{fields}");
    }
    fs::remove_file(directory.path("www/app.js.br")).expect("it is ours");
    let answer = client.ask("GET", "/app.js", "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n");
    assert_eq!(answer.field("content-encoding"), Some("gzip"));
}

#[test]
fn what_is_compressed_is_no_older_than_its_file() {
    let directory = site();
    age(&directory, "www/app.js.br", 60);
    let server = serve(&directory, &[]);
    let mut client = server.call();
    let answer = client.ask("GET", "/app.js", "Accept-Encoding: br\r\n");
    assert_eq!((answer.text(), answer.field("content-encoding")), ("console.log(1)", None));
    let answer = client.ask("GET", "/app.js", "Accept-Encoding: br, gzip\r\n");
    assert_eq!(
        answer.field("content-encoding"),
        Some("gzip"),
        "the other one is as old as the file, or younger"
    );
}

#[test]
fn a_file_of_tomorrow_is_dated_today() {
    let directory = site();
    let file = fs::File::options().write(true).open(directory.path("www/app.js")).expect("it is ours");
    file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).expect("it is ours");
    let server = serve(&directory, &[]);
    let answer = server.call().get("/app.js");
    assert_eq!(answer.field("last-modified"), answer.field("date"));
}

#[test]
fn a_part_of_a_file_that_has_just_changed_is_not_joined_by_its_date() {
    let directory = site();
    let server = serve(&directory, &[]);
    let mut client = server.call();
    let ask = |client: &mut Client| {
        // The file is written in the second in which it is asked for.
        fs::write(directory.path("www/app.js"), "console.log(2)").expect("it is ours");
        let modified = client.get("/app.js").field("last-modified").expect("it has one").to_owned();
        let answer = client.ask("GET", "/app.js", &format!("Range: bytes=0-0\r\nIf-Range: {modified}\r\n"));
        (answer.field("date") == Some(&modified[..])).then_some((answer.status, modified))
    };
    let (status, _) = until("a second that is long enough", || ask(&mut client));
    assert_eq!(status, 200);
    age(&directory, "www/app.js", 60);
    let modified = client.get("/app.js").field("last-modified").expect("it has one").to_owned();
    let answer = client.ask("GET", "/app.js", &format!("Range: bytes=0-0\r\nIf-Range: {modified}\r\n"));
    assert_eq!(answer.status, 206);
}

#[test]
fn an_empty_file_is_shorter_than_every_suffix() {
    let directory = site();
    let server = serve(&directory, &[]);
    let mut client = server.call();
    for (range, status) in [("bytes=-5", 200), ("bytes=-0", 416), ("bytes=0-", 416)] {
        assert_eq!(client.ask("GET", "/empty", &format!("Range: {range}\r\n")).status, status, "{range}");
    }
}

#[test]
fn a_listing_shows_what_can_be_fetched_and_nothing_else() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let directory = site();
    let at = |name: &[u8]| directory.path("www/sub").join(OsStr::from_bytes(name));
    fs::create_dir(at(b".well-known")).expect("it is ours");
    for name in [&b"a:b.txt"[..], b"back\\slash", b"caf\xe9.txt", b"100%.txt", b".hidden", b"new\nline"] {
        fs::write(at(name), "x").expect("it is ours");
    }
    let fifo = nix::unistd::mkfifo(&at(b"fifo"), nix::sys::stat::Mode::S_IRUSR);
    fifo.expect("it is ours");
    for (to, from) in
        [("../../secret", "out"), ("nowhere", "dangling"), ("deep", "within"), ("fifo", "to-fifo")]
    {
        symlink(to, at(from.as_bytes())).expect("it is ours");
    }
    let server = serve(&directory, &["--listing"]);
    let mut client = server.call();
    let page = client.get("/sub/");
    let shown: Vec<&str> =
        page.text().split("href=\"./").skip(1).map(|rest| rest.split('"').next().expect("its end")).collect();
    let expected = [
        ".well-known/",
        "100%25.txt",
        "%3Ci%3E%26.txt",
        "a%3Ab.txt",
        "caf%E9.txt",
        "deep/",
        "new%0Aline",
        "within/",
    ];
    let sorted = |names: &[&str]| {
        let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(sorted(&shown), sorted(&expected));
    for name in shown {
        assert_eq!(client.get(&format!("/sub/{name}")).status, 200, "{name}");
    }
    for name in ["back%5Cslash", ".hidden", "fifo", "out", "dangling", "to-fifo"] {
        assert_ne!(client.get(&format!("/sub/{name}")).status, 200, "{name}");
    }
    // A change is shown at once.
    fs::remove_file(at(b"a:b.txt")).expect("it is ours");
    fs::write(at(b"another"), "x").expect("it is ours");
    let page = client.get("/sub/");
    assert!(!page.text().contains("a%3Ab.txt") && page.text().contains("another"), "{}", page.text());
}

#[test]
fn a_listing_is_made_once_however_often_it_is_asked_for() {
    let directory = site();
    let big = directory.path("www/big");
    fs::create_dir(&big).expect("it is ours");
    for number in 0..3000 {
        fs::write(big.join(format!("{number}")), "").expect("there is room");
    }
    let server = serve(&directory, &["--listing"]);
    let mut client = server.call();
    let page = client.get("/big/");
    assert!(page.text().contains("There are more"), "{}", page.text());
    assert!(page.body.len() < 256 * 1024, "{}", page.body.len());
    let busy = server.cpu();
    client.say("HEAD /big/ HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2000));
    for _ in 0..2000 {
        let head = client.hear_answer("HEAD");
        assert_eq!(head.status, 200);
        let length = head.field("content-length").map(|length| length.parse().expect("a number"));
        assert!(length.is_none_or(|length: usize| length == page.body.len()), "{head:?}");
    }
    // Made for each of them, it would take 2,000 times a millisecond, and twenty times that in a debug build.
    let busy = server.cpu() - busy;
    assert!(busy < Duration::from_secs(2), "{busy:?}");
}

#[test]
fn a_site_that_is_built_again_needs_no_signal() {
    let directory = site();
    let (root, old) = (directory.path("www"), directory.path("old"));
    let server = serve(&directory, &[]);
    let mut client = server.call();
    let mut slow = Client::prepared(server.url(), small_buffers);
    slow.say("GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(slow.hear_head().status, 200);
    assert_eq!(client.get("/").text(), INDEX);

    fs::rename(&root, &old).expect("it is ours");
    assert_eq!(client.get("/").status, 404, "the name leads nowhere");
    server.logs("nothing can be served from");
    fs::create_dir(&root).expect("it is ours");
    fs::write(root.join("index.html"), "new").expect("it is ours");
    assert_eq!(client.get("/").text(), "new");
    server.logs("is served again");
    assert_eq!(client.get("/app.js").status, 404);

    fs::remove_dir_all(&root).expect("it is ours");
    fs::create_dir(&root).expect("it is ours");
    fs::write(root.join("index.html"), "newer").expect("it is ours");
    assert_eq!(client.get("/").text(), "newer");

    // What was on its way comes from the old one.
    fs::remove_dir_all(&old).expect("it is ours");
    assert_same(&slow.hear_exactly(5 * MIB), &pattern(1, 5 * MIB));
}

#[test]
fn a_link_that_moves_to_the_next_release_is_followed() {
    let directory = Directory::new();
    for release in ["1", "2"] {
        fs::create_dir(directory.path(release)).expect("it is ours");
        fs::write(directory.path(release).join("index.html"), release).expect("it is ours");
    }
    symlink("1", directory.path("www")).expect("it is ours");
    let server = serve(&directory, &[]);
    let mut client = server.call();
    for release in ["1", "2", "1"] {
        symlink(release, directory.path("next")).expect("it is ours");
        fs::rename(directory.path("next"), directory.path("www")).expect("it is ours");
        assert_eq!(client.get("/").text(), release);
    }
    let held = server.descriptors().len();
    for number in 0..20 {
        symlink(["1", "2"][number % 2], directory.path("next")).expect("it is ours");
        fs::rename(directory.path("next"), directory.path("www")).expect("it is ours");
        assert_eq!(client.get("/").text(), ["1", "2"][number % 2]);
    }
    assert_eq!(server.descriptors().len(), held, "no release is kept open");
}

/// A full disk is an event for the log and a figure for the metrics, and costs no request.
#[test]
fn an_access_log_on_a_full_disk_is_reported_once_and_counted() {
    let directory = site();
    let server = serve(&directory, &["--access-log", "/dev/full", "--metrics"]);
    for _ in 0..3 {
        assert_eq!(server.call().get("/").text(), INDEX);
    }
    let counted = "switchboard_access_log_lines_dropped_total 3\n";
    until("the lines to be counted", || server.call().get("/metrics").text().contains(counted).then_some(()));
    let end = server.stop();
    let reports = end.log.iter().filter(|line| line.contains("the access log can't be written")).count();
    assert_eq!(reports, 1, "{:#?}", end.log);
}

#[test]
fn each_request_is_a_line_in_the_access_log_and_stays_one() {
    let directory = site();
    let log = directory.path("access.log");
    let arguments = ["--access-log", log.to_str().expect("it is text"), "--log-level", "warn"];
    let server = serve(&directory, &arguments);
    let mut client = server.call();
    client.get("/");
    client.get("/no\"thing\\%0a");
    client.ask("HEAD", "/", "");
    client.get("/big.bin");
    let lines = until("the lines", || {
        let text = fs::read_to_string(&log).ok()?;
        let lines: Vec<String> = text.lines().map(String::from).collect();
        (lines.len() >= 4).then_some(lines)
    });
    let shape = |line: &str| {
        let (before, date) = line.split_once('[').expect("a date");
        let (date, after) = date.split_once(']').expect("its end");
        assert_eq!(date.len(), "24/Nov/2026:18:00:00 +0000".len(), "{line}");
        format!("{before}[]{after}")
    };
    let expected = [
        format!("127.0.0.1 - - [] \"GET / HTTP/1.1\" 200 {}", INDEX.len()),
        "127.0.0.1 - - [] \"GET /no\\\"thing\\\\%0a HTTP/1.1\" 400 25".into(),
        "127.0.0.1 - - [] \"HEAD / HTTP/1.1\" 200 -".into(),
        "127.0.0.1 - - [] \"GET /big.bin HTTP/1.1\" 200 5242880".into(),
    ];
    assert_eq!(lines.iter().map(|line| shape(line)).collect::<Vec<_>>(), expected);

    // As logrotate does it.
    let old = directory.path("access.log.1");
    fs::rename(&log, &old).expect("it is ours");
    server.signal(Signal::SIGHUP);
    // The file is opened beside the loop, and written to from the next turn on.
    until("the new file", || exists(&log).then_some(()));
    until("its line", || {
        client.get("/sub");
        Some(fs::read_to_string(&log).ok()?.contains("\"GET /sub HTTP/1.1\" 301")).filter(|it| *it)
    });
}

#[test]
fn a_file_of_settings_has_sites_and_a_reload_changes_them() {
    let directory = site();
    let config = directory.path("switchboard.toml");
    let write = |root: &Path, listing: bool| {
        let text = format!(
            "[[listener]]\nurl = \"{HTTP}\"\nservice = \"web\"\nroot = {:?}\nlisting = {listing}\n",
            root.to_str().expect("it is text")
        );
        fs::write(&config, text).expect("it is ours");
    };
    write(&directory.path("www"), false);
    let mut command = switchboard();
    command.args(["serve", "--config", config.to_str().expect("it is text")]);
    let mut server = Server::start_command(&mut command, 1);
    server.read_log();
    assert_eq!(server.call().get("/").text(), INDEX);
    assert_eq!(server.call().get("/sub/").status, 404);
    write(&directory.path("www"), true);
    server.signal(Signal::SIGHUP);
    server.logs("reloaded");
    let page =
        until("the listing", || Some(server.call().get("/sub/")).filter(|answer| answer.status == 200));
    assert!(page.text().contains("deep/"));
    write(&directory.path("nothing"), true);
    server.signal(Signal::SIGHUP);
    server.logs("not reloaded");
    assert_eq!(server.call().get("/").text(), INDEX);
    // What can fail comes first: a log that can't be opened leaves the listener as it is, too.
    let wrong = format!(
        "access-log = \"/no/such/log\"\n[[listener]]\nurl = \"{HTTP}\"\nservice = \"web\"\nroot = {:?}\n",
        directory.path("www").to_str().expect("it is text")
    );
    fs::write(&config, wrong).expect("it is ours");
    server.signal(Signal::SIGHUP);
    server.logs("not reloaded, everything stays as it is: --access-log /no/such/log");
    assert_eq!(server.call().get("/sub/").status, 200, "it is still listed");
}

#[test]
fn who_is_slow_to_ask_holds_up_nobody() {
    let directory = site();
    let server = serve(&directory, &["--message-within", "1s"]);
    let mut slow: Vec<Client> = (0..200).map(|_| server.call()).collect();
    for client in &mut slow {
        client.say("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    }
    for _ in 0..50 {
        assert_eq!(server.call().get("/").text(), INDEX);
    }
    for client in &mut slow {
        assert!(client.hears_something_within(Duration::from_secs(8)));
        assert_eq!(client.hear_answer("GET").status, 408);
    }
}

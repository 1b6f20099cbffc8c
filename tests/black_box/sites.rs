//! Pages of other sites: whose requests are served, under which names we are reached, and what a browser can do to a port
//! where no HTTP is spoken.
#![cfg(all(feature = "cli", feature = "web"))]

use crate::support::*;

const HTTP: &str = "http://127.0.0.1:0";
const TCP_LINES: &str = "tcp+lines://127.0.0.1:0";

/// A request for this host, with these fields.
fn ask(client: &mut Client, path: &str, host: &str, fields: &str) -> http::Answer {
    client.say(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
    client.hear_answer("GET")
}

/// The status of a handshake by a page of this origin, if it has one.
fn upgrade(server: &Server, listener: usize, host: &str, origin: Option<&str>) -> u16 {
    let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
    let fields = format!(
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{origin}"
    );
    ask(&mut server.call_at(listener), "/ws", host, &fields).status
}

#[test]
fn a_page_whose_name_was_made_to_resolve_to_us_gets_nothing() {
    let mut server = Server::start(&["serve", "chat", "--listen", HTTP, "--metrics"]);
    server.read_log();
    let mut client = server.call();
    for (path, host) in [
        ("/", "evil.example"),
        ("/", "evil.example:8080"),
        ("/metrics", "localhost.evil.example"),
        ("/healthz", "127.0.0.1.evil.example"),
    ] {
        let answer = ask(&mut client, path, host, "");
        assert_eq!(
            (answer.status, answer.field("content-type")),
            (421, Some("text/plain; charset=utf-8")),
            "{path} of {host}"
        );
        assert!(answer.text().contains("--host") && answer.text().contains(host), "{}", answer.text());
    }
    assert_eq!(upgrade(&server, 0, "evil.example", Some("http://evil.example")), 421);
    // The connection is as good as before, and so are our own names.
    for host in ["localhost", "LocalHost:8080", "127.0.0.1:80", "[::1]", "app.localhost", "nas", "192.0.2.7"]
    {
        assert_eq!(ask(&mut client, "/", host, "").status, 200, "{host}");
    }
    client.say("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.hear_answer("GET").status, 200, "without Host, it is no browser");
    let metrics = ask(&mut client, "/metrics", "localhost", "");
    assert!(
        metrics.text().contains("switchboard_refused_total{reason=\"other-host\"} 5"),
        "{}",
        metrics.text()
    );
    server.logs("for the host \"evil.example\", refused: other-host");
    let summary = server.stop().summary();
    assert_eq!(summary.of("other-host"), 5, "{summary:?}");
}

#[test]
fn names_that_are_given_are_served_and_each_listener_has_its_own() {
    let directory = Directory::new();
    let file = directory.path("switchboard.toml");
    let text = "service = \"reply\"\nmetrics = true\n\
                [[listener]]\nurl = \"http://127.0.0.1:0\"\nhost = \"chat.example.com\"\n\
                [[listener]]\nurl = \"http://127.0.0.1:0\"\nhost = [\"one.example.com\", \"two.example.com\"]\n\
                [[listener]]\nurl = \"http://127.0.0.1:0\"\nhost = \"*\"\n";
    std::fs::write(&file, text).expect("the directory is ours");
    let file = file.display().to_string();
    let checked = run(&["check", "--config", &file]);
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.contains("requests for one.example.com two.example.com"), "{checked}");

    let mut command = switchboard();
    command.args(["serve", "--config", &file]);
    let server = Server::start_command(&mut command, 3);
    for (listener, host, status) in [
        (0, "chat.example.com", 200),
        (0, "Chat.Example.Com.:443", 200),
        (0, "one.example.com", 421),
        (0, "localhost", 200),
        (1, "two.example.com", 200),
        (1, "chat.example.com", 421),
        (2, "anything.example", 200),
    ] {
        let answer = ask(&mut server.call_at(listener), "/", host, "");
        assert_eq!(answer.status, status, "{host} at listener {listener}");
    }
    server.stop();
}

#[test]
fn what_no_browser_can_reach_is_reached_by_any_name() {
    let directory = Directory::new();
    let unix = directory.url("unix+http", "web");
    let any = "http://0.0.0.0:0";
    let proxied = ["--proxy-protocol", "127.1.0.0/16"];
    let server =
        Server::start(&[&["serve", "reply", "--listen", &unix, "--listen", any][..], &proxied].concat());
    assert_eq!(ask(&mut server.call_at(0), "/", "www.example.com", "").status, 200, "a Unix socket");

    let own = address("tcp://127.1.0.1:0");
    let url = server.urls()[1].replace("0.0.0.0", "127.0.0.1");
    let mut by_proxy = Client::prepared(&url, |socket| socket.bind(&own.into()).expect("loopback is ours"));
    by_proxy.say("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n");
    assert_eq!(ask(&mut by_proxy, "/", "www.example.com", "").status, 200, "by way of a proxy");
    // A browser on this machine reaches the same listener by loopback.
    assert_eq!(ask(&mut Client::to(&url), "/", "evil.example", "").status, 421);
    server.stop();
}

#[test]
fn origins_are_compared_by_scheme_host_and_port() {
    let server = Server::start(&[
        "serve",
        "chat",
        "--listen",
        HTTP,
        "--listen",
        "ws://127.0.0.1:0",
        "--origin",
        "https://Friend.example:443/",
    ]);
    for listener in [0, 1] {
        for (host, origin, status) in [
            ("h:443", Some("https://h"), 101),
            ("h", Some("https://h:443"), 101),
            ("h", Some("http://h"), 101),
            ("h:80", Some("http://h"), 101),
            ("h:8080", Some("http://h:8080"), 101),
            ("h", None, 101),
            ("h", Some("https://friend.example"), 101),
            ("h", Some("ftp://h"), 403),
            ("h:443", Some("http://h"), 403),
            ("h:8080", Some("http://h"), 403),
            ("h", Some("http://evil.example"), 403),
            ("h", Some("http://friend.example"), 403),
            ("h", Some("null"), 403),
            ("h", Some("http://h\r\nOrigin: http://evil.example"), 403),
        ] {
            assert_eq!(upgrade(&server, listener, host, origin), status, "{origin:?} at {host}");
        }
    }
    let summary = server.stop().summary();
    assert_eq!(summary.of("other-origin"), 14, "{summary:?}");
}

#[test]
fn an_origin_or_a_host_that_can_never_match_is_refused_in_one_line() {
    for (option, value, hint) in [
        ("--origin", "", "https://example.com"),
        ("--origin", "example.com", "write https://example.com"),
        ("--origin", "https://*.example.com", "no wildcard"),
        ("--origin", "https://example.com/chat", "write https://example.com"),
        ("--origin", "wss://example.com", "write https://example.com"),
        ("--host", "https://example.com", "the name alone"),
        ("--host", "example.com:8080", "write example.com"),
        ("--host", "*.example.com", "no wildcard"),
    ] {
        for command in ["check", "serve"] {
            let output = run(&[command, "chat", "--listen", HTTP, option, value]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{option} {value:?}: {said}");
            assert!(said.lines().count() == 1 && said.contains(option) && said.contains(hint), "{said}");
        }
    }
    let output = run(&["check", "echo", "--listen", TCP, "--host", "example.com"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--host is for http://"), "{said}");
}

#[test]
fn a_web_page_that_posts_to_a_line_protocol_is_not_obeyed() {
    let directory = Directory::new();
    let unix = directory.url("unix+lines", "chat");
    let mut server = Server::start(&["serve", "chat", "--listen", TCP_LINES, "--listen", &unix]);
    server.read_log();
    let mut alice = server.call();
    alice.hear(
        "* welcome to the chat: /help lists the commands\n* you are guest1, in lobby\n* 1 here: guest1\n",
    );
    let body = "/nick admin\nhello, I am the admin\n";
    let post = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n/nick admin\n".to_vec();
    for (number, said) in [post.clone().into_bytes(), post.into_bytes(), tls].into_iter().enumerate() {
        let mut browser = server.call_at(number % 2);
        browser.say(&said);
        let heard = String::from_utf8_lossy(&browser.hear_until_the_end()).into_owned();
        let last = heard.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: the connection began with ") && !heard.contains("admin"), "{heard}");
        browser.hang_up();
        alice.hear(format!("* guest{0} came in\n* guest{0} left\n", number + 2));
    }
    server.logs("refused: other-protocol");
    // A person may speak of HTTP, and of requests later on.
    alice.say("GET is what browsers say\n/who\nGET / HTTP/1.1\n/who\n");
    alice.hear("* 1 here: guest1\n* 1 here: guest1\n");
    let summary = server.stop().summary();
    assert_eq!(summary.of("other-protocol"), 3, "{summary:?}");
}

#[test]
fn haproxys_health_check_is_answered() {
    for service in ["chat", "relay", "reply"] {
        let server = Server::start(&["serve", service, "--listen", HTTP, "--metrics"]);
        for path in ["/", "/healthz", "*"] {
            let mut haproxy = server.call();
            haproxy.say(format!("OPTIONS {path} HTTP/1.0\r\n\r\n"));
            let answer = haproxy.hear_answer("OPTIONS");
            assert!(matches!(answer.status, 200 | 204), "{service} {path}: {}", answer.status);
        }
        server.stop();
    }
}

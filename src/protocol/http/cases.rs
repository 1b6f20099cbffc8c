//! Requests, right and wrong, and what must become of each: tested at every split without a socket (`tests.rs` beside
//! this), and against the real server with one (`tests/black_box/http.rs`).
//!
//! Bodies may have [`BODY_BYTES_MAX`] bytes there.

/// One byte stream of a client, and its end.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) input: Vec<u8>,
    pub(crate) expected: Vec<Expected>,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is served.
    Served {
        method: &'static str,
        target: &'static str,
        body: Vec<u8>,
        /// It is the connection's last, by its own wish.
        last: bool,
    },
    /// It is refused with one of these, and the connection ends.
    Refused(&'static [u16]),
}

pub(crate) const BODY_BYTES_MAX: usize = 1000;

fn get(target: &'static str) -> Expected {
    served("GET", target, b"")
}

fn served(method: &'static str, target: &'static str, body: &[u8]) -> Expected {
    Expected::Served { method, target, body: body.to_vec(), last: false }
}

fn last(expected: Expected) -> Expected {
    match expected {
        Expected::Served { method, target, body, .. } => {
            Expected::Served { method, target, body, last: true }
        }
        refused => refused,
    }
}

fn refused(status: &'static [u16]) -> Expected {
    Expected::Refused(status)
}

/// A POST of a body, as it is framed.
fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// A GET with these fields behind a Host.
fn with(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &'static str, input: &[u8], expected: Vec<Expected>| {
        cases.push(Case { name, input: input.to_vec(), expected });
    };
    let one = |expected: Expected| vec![expected];
    let bad = || vec![refused(&[400])];
    let posted = |body: &[u8]| vec![served("POST", "/p", body)];

    // Right ones.
    add("the least", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", one(get("/")));
    add("a path and a query", b"GET /a/b?c=d&e HTTP/1.1\r\nHost: a\r\n\r\n", one(get("/a/b?c=d&e")));
    add("a whole URL", b"GET http://a:80/x HTTP/1.1\r\nHost: a\r\n\r\n", one(get("http://a:80/x")));
    add("a whole URL in capitals", b"GET HTTP://a/ HTTP/1.1\r\nHost: a\r\n\r\n", one(get("HTTP://a/")));
    add("all of the server", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", one(served("OPTIONS", "*", b"")));
    add("HEAD", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", one(served("HEAD", "/", b"")));
    add("a method of its own", b"PURGE / HTTP/1.1\r\nHost: a\r\n\r\n", one(served("PURGE", "/", b"")));
    add(
        "a method in small letters is another",
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        one(served("get", "/", b"")),
    );
    add(
        "two, one behind the other",
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        vec![get("/1"), get("/2")],
    );
    add("an empty line before", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", one(get("/")));
    add(
        "empty lines between",
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
        vec![get("/1"), get("/2")],
    );
    add("nothing but an empty line", b"\r\n", vec![]);
    add("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", one(get("/")));
    add("a Host with a port", b"GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", one(get("/")));
    add("a Host with an empty port", b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", one(get("/")));
    add(
        "a whole URL of IPv6",
        b"GET http://[::1]:80?x HTTP/1.1\r\nHost: a\r\n\r\n",
        one(get("http://[::1]:80?x")),
    );
    add("a Host of IPv6 without a port", b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", one(get("/")));
    add("a Host of IPv6", b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", one(get("/")));
    add("any case of a field's name", b"GET / HTTP/1.1\r\nhOsT: a\r\n\r\n", one(get("/")));
    add("space around a value", &with("X: \t b \t\r\n"), one(get("/")));
    add("an empty value", &with("X:\r\n"), one(get("/")));
    add("a value beyond ASCII", &with("X: \u{e9}\r\n"), one(get("/")));
    add("a value with quotes and commas", &with("X: \"a,b\", c;d=e\r\n"), one(get("/")));
    add("the last of them", &with("Connection: close\r\n"), one(last(get("/"))));
    add("the last, in a list", &with("Connection: x, Close\r\n"), one(last(get("/"))));
    add("the last, in a second field", &with("Connection: x\r\nConnection: close\r\n"), one(last(get("/"))));
    add(
        "what comes behind the last",
        &[with("Connection: close\r\n"), with("")].concat(),
        one(last(get("/"))),
    );
    add("1.0", b"GET / HTTP/1.0\r\n\r\n", one(last(get("/"))));
    add(
        "1.0 that goes on",
        b"GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
        vec![get("/1"), last(get("/2"))],
    );
    add("100 fields", &with(&"X: y\r\n".repeat(99)), one(get("/")));

    // Right bodies.
    add("a body", &post("Content-Length: 5\r\n", "hello"), posted(b"hello"));
    add("no body", &post("Content-Length: 0\r\n", ""), posted(b""));
    add("neither length nor chunks", &post("", ""), posted(b""));
    add(
        "a body for GET",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        one(served("GET", "/", b"hi")),
    );
    add("leading zeros", &post("Content-Length: 0005\r\n", "hello"), posted(b"hello"));
    add(
        "a body that looks like a request",
        &post("Content-Length: 18\r\n", "GET / HTTP/1.1\r\n\r\n"),
        posted(b"GET / HTTP/1.1\r\n\r\n"),
    );
    add(
        "a body, and another request",
        &[post("Content-Length: 2\r\n", "hi"), with("")].concat(),
        vec![served("POST", "/p", b"hi"), get("/")],
    );
    add("the longest body", &post("Content-Length: 1000\r\n", &"x".repeat(1000)), posted(&[b'x'; 1000]));
    add("chunks", &chunked("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), posted(b"abcde"));
    add("no chunks", &chunked("0\r\n\r\n"), posted(b""));
    add("a size in capitals", &chunked("A\r\n0123456789\r\n0\r\n\r\n"), posted(b"0123456789"));
    add("a size in small letters", &chunked("a\r\n0123456789\r\n0\r\n\r\n"), posted(b"0123456789"));
    add("a size with zeros", &chunked("0003\r\nabc\r\n000\r\n\r\n"), posted(b"abc"));
    add("extensions", &chunked("3;a=b;c=\"d\"\r\nabc\r\n0;e\r\n\r\n"), posted(b"abc"));
    add("an extension behind spaces", &chunked("3 ; a\r\nabc\r\n0\r\n\r\n"), posted(b"abc"));
    add("trailers", &chunked("3\r\nabc\r\n0\r\nX: y\r\nZ:\r\n\r\n"), posted(b"abc"));
    add("a chunk of line ends", &chunked("4\r\n\r\n\r\n\r\n0\r\n\r\n"), posted(b"\r\n\r\n"));
    add("chunks in capitals", &post("Transfer-Encoding: CHUNKED\r\n", "1\r\na\r\n0\r\n\r\n"), posted(b"a"));
    add(
        "chunks, and another request",
        &[chunked("1\r\na\r\n0\r\n\r\n"), with("")].concat(),
        vec![served("POST", "/p", b"a"), get("/")],
    );
    add(
        "the longest in chunks of one",
        &chunked(&("1\r\nx\r\n".repeat(1000) + "0\r\n\r\n")),
        posted(&[b'x'; 1000]),
    );
    add(
        "a body that is waited for",
        &post("Content-Length: 2\r\nExpect: 100-continue\r\n", "hi"),
        posted(b"hi"),
    );
    add(
        "a body that is waited for twice",
        &post("Content-Length: 2\r\nExpect: 100-continue, 100-Continue\r\nExpect:\r\n", "hi"),
        posted(b"hi"),
    );
    add(
        "1.0 can't wait",
        b"POST /p HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
        one(last(served("POST", "/p", b"hi"))),
    );

    // Doubts about the body's end.
    add("two lengths", &post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), bad());
    add("the same length twice", &post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), bad());
    add("two lengths in one", &post("Content-Length: 5, 5\r\n", "hello"), bad());
    add(
        "a length and chunks",
        &post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        bad(),
    );
    add(
        "chunks and a length",
        &post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
        bad(),
    );
    add(
        "a length of zero and chunks",
        &post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        bad(),
    );
    add("a sign", &post("Content-Length: +5\r\n", "hello"), bad());
    add("a length below nothing", &post("Content-Length: -5\r\n", "hello"), bad());
    add("a length in hexadecimal", &post("Content-Length: 0x5\r\n", "hello"), bad());
    add("a length with a space in it", &post("Content-Length: 1 0\r\n", "helloworld"), bad());
    add("a length with a point", &post("Content-Length: 5.0\r\n", "hello"), bad());
    add("an empty length", &post("Content-Length:\r\n", ""), bad());
    add("a length that overflows", &post("Content-Length: 18446744073709551621\r\n", "hello"), bad());
    add(
        "chunks twice",
        &post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        bad(),
    );
    add(
        "chunks twice in one",
        &post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        vec![refused(&[400, 501])],
    );
    add("chunks, but not last", &post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), bad());
    add(
        "chunks twice, and a coding between",
        &post("Transfer-Encoding: chunked, gzip, chunked\r\n", ""),
        bad(),
    );
    add(
        "chunks, and in a second line what comes behind",
        &post("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", "0\r\n\r\n"),
        bad(),
    );
    for (name, fields) in [
        ("a coding that is unknown", "Transfer-Encoding: gzip\r\n"),
        ("a coding that is unknown, and chunks", "Transfer-Encoding: gzip, chunked\r\n"),
        ("the same in two lines", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        ("a coding with a parameter", "Transfer-Encoding: tea;hot=\"yes\", chunked\r\n"),
        ("chunked with a parameter", "Transfer-Encoding: chunked;a=b\r\n"),
        ("identity", "Transfer-Encoding: identity\r\n"),
        ("nearly chunked", "Transfer-Encoding: xchunked\r\n"),
    ] {
        add(name, &post(fields, "0\r\n\r\n"), vec![refused(&[501])]);
    }
    add("nothing, and chunks", &post("Transfer-Encoding: , chunked\r\n", "0\r\n\r\n"), bad());
    add("chunks, and nothing", &post("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n"), bad());
    add("chunked in quotes", &post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), bad());
    add("an empty coding", &post("Transfer-Encoding:\r\n", "0\r\n\r\n"), bad());
    add("chunked behind a vertical tab", &post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), bad());
    add("chunks in 1.0", b"POST /p HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", bad());
    add("a space before the colon", &post("Content-Length : 5\r\n", "hello"), bad());
    add("a tab before the colon", &post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"), bad());
    add("a folded length", &post("Content-Length:\r\n 5\r\n", "hello"), bad());

    // Chunks that are none.
    add("a chunk that is shorter than it says", &chunked("3\r\nab\r\n0\r\n\r\n"), bad());
    add("a chunk that is longer than it says", &chunked("3\r\nabcd\r\n0\r\n\r\n"), bad());
    add("a size of nothing", &chunked("\r\nabc\r\n0\r\n\r\n"), bad());
    add("a size with a sign", &chunked("+3\r\nabc\r\n0\r\n\r\n"), bad());
    add("a size below nothing", &chunked("-3\r\nabc\r\n0\r\n\r\n"), bad());
    add("a size with a prefix", &chunked("0x3\r\nabc\r\n0\r\n\r\n"), bad());
    add("a size behind a space", &chunked(" 3\r\nabc\r\n0\r\n\r\n"), bad());
    add("a size that is no number", &chunked("g\r\nabc\r\n0\r\n\r\n"), bad());
    add("a size that overflows", &chunked("10000000000000003\r\nabc\r\n0\r\n\r\n"), bad());
    add("a size of sixteen digits", &chunked("ffffffffffffffff\r\nabc\r\n"), vec![refused(&[413])]);
    add("a size that ends in LF", &chunked("3\nabc\r\n0\r\n\r\n"), bad());
    add("a size that ends in CR", &chunked("3\rabc\r\n0\r\n\r\n"), bad());
    add("a chunk that ends in LF", &chunked("3\r\nabc\n0\r\n\r\n"), bad());
    add("an end in LF", &chunked("3\r\nabc\r\n0\r\n\n"), bad());
    add("an extension with a NUL", &chunked("3;\0\r\nabc\r\n0\r\n\r\n"), bad());
    add("a trailer without a colon", &chunked("0\r\nX\r\n\r\n"), bad());
    add("a trailer with a space before the colon", &chunked("0\r\nX : y\r\n\r\n"), bad());
    add("a folded trailer", &chunked("0\r\nX: y\r\n z\r\n\r\n"), bad());
    add("an extension without end", &chunked(&format!("3;{}", "x".repeat(20_000))), bad());
    add("extensions without end", &chunked(&format!("1;{}\r\nx\r\n", "x".repeat(3000)).repeat(10)), bad());
    add(
        "trailers without end",
        &chunked(&("0\r\n".to_owned() + &"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(1000))),
        bad(),
    );

    // Too much.
    let mut too_much = |name, input: &[u8], status: &'static [u16]| add(name, input, vec![refused(status)]);
    too_much("a body that is too long", &post("Content-Length: 1001\r\n", ""), &[413]);
    too_much("a body of a gibibyte", &post("Content-Length: 1073741824\r\n", ""), &[413]);
    too_much("a body of all there is", &post("Content-Length: 18446744073709551615\r\n", ""), &[413]);
    too_much(
        "a body that need not be sent",
        &post("Content-Length: 1001\r\nExpect: 100-continue\r\n", ""),
        &[413],
    );
    too_much("chunks that are too long together", &chunked(&"1f4\r\n".replace("1f4", "3e9")), &[413]);
    too_much(
        "a chunk more than there may be",
        &chunked(&format!("3e8\r\n{}\r\n1\r\n", "x".repeat(1000))),
        &[413],
    );
    too_much("101 fields", &with(&"X: y\r\n".repeat(100)), &[431]);
    too_much("10,000 fields", &with(&"X: y\r\n".repeat(10_000)), &[431]);
    too_much("a field that is too long", &with(&format!("X: {}\r\n", "y".repeat(20_000))), &[431]);
    too_much(
        "a field without end",
        format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(20_000)).as_bytes(),
        &[431],
    );
    too_much("a name that is too long", &with(&format!("{}: y\r\n", "X".repeat(20_000))), &[431]);
    too_much(
        "a path that is too long",
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000)).as_bytes(),
        &[414],
    );
    too_much("a path without end", format!("GET /{}", "x".repeat(20_000)).as_bytes(), &[414]);
    too_much("a method without end", "X".repeat(20_000).as_bytes(), &[400, 414]);

    // Lines that are none.
    let mut wrong = |name, input: &[u8]| add(name, input, vec![refused(&[400])]);
    wrong("LF", b"GET / HTTP/1.1\nHost: a\n\n");
    wrong("LF behind the request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n");
    wrong("LF behind a field", b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n");
    wrong("LF for the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n");
    wrong("LF before", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n");
    wrong("CR in the request line", b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("CR, CR, LF", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n");
    wrong("only empty lines", &b"\r\n".repeat(50));
    wrong("NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n");
    wrong("NUL in the path", b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a control byte in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX\x01: y\r\n\r\n");
    wrong("a folded value", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n");
    wrong("a folded first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n");
    wrong("no colon", b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n");
    wrong("no name", b"GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n");
    wrong("a space in a name", b"GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n");
    wrong("a name in brackets", b"GET / HTTP/1.1\r\nHost: a\r\n(X): y\r\n\r\n");
    wrong("no Host", b"GET / HTTP/1.1\r\n\r\n");
    wrong("two Hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    wrong("the same Host twice", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n");
    wrong("a Host with a port that is no number", b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n");
    wrong("a Host with a sign in its port", b"GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n");
    wrong("a Host with a port that is too large", b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n");
    wrong("a Host with two ports", b"GET / HTTP/1.1\r\nHost: a:80:81\r\n\r\n");
    wrong("a Host of IPv6 without brackets", b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n");
    wrong("a Host of IPv6 with half a bracket", b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n");
    wrong("a Host with something behind its bracket", b"GET / HTTP/1.1\r\nHost: [::1]a:80\r\n\r\n");
    wrong("a Host with a bracket within", b"GET / HTTP/1.1\r\nHost: a[b]\r\n\r\n");
    wrong("a whole URL with a port that is no number", b"GET http://a:b/ HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a whole URL with a name to log in", b"GET http://me@a/ HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a whole URL of nothing", b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a Host with a path", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n");
    wrong("a Host with a space", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    wrong("a Host with markup", b"GET / HTTP/1.1\r\nHost: <a>\r\n\r\n");
    wrong("no path", b"GET HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a tab", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a space before", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a space behind", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n");
    wrong("a space in the path", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a fragment", b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a path without a slash", b"GET index.html HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a path beyond ASCII", "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes());
    wrong("another scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a star for GET", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("a method with a bracket", b"GE{T / HTTP/1.1\r\nHost: a\r\n\r\n");
    wrong("0.9", b"GET /\r\n\r\n");
    wrong("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n");
    wrong("cut off in the request line", b"GET / HT");
    wrong("cut off in the head", b"GET / HTTP/1.1\r\nHost: a\r\n");
    wrong("cut off in the body", &post("Content-Length: 5\r\n", "hell"));
    wrong("cut off in a chunk", &chunked("3\r\nab"));
    wrong("cut off behind the chunks", &chunked("3\r\nabc\r\n0\r\n"));

    // Not here.
    let mut not_here = |name, input: &[u8], status: &'static [u16]| add(name, input, vec![refused(status)]);
    not_here("2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", &[505]);
    not_here("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505]);
    not_here("1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", &[505]);
    not_here("a version in small letters", b"GET / http/1.1\r\nHost: a\r\n\r\n", &[400, 505]);
    not_here("CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", &[400, 501]);
    not_here("another expectation", &post("Content-Length: 2\r\nExpect: tea\r\n", "hi"), &[417]);
    let two = "Content-Length: 2\r\nExpect: 100-continue\r\nExpect: tea\r\n";
    not_here("another expectation in a second line", &post(two, "hi"), &[417]);
    add(
        "a right one, and a wrong one",
        &[with(""), b"GET\r\n\r\n".to_vec()].concat(),
        vec![get("/"), refused(&[400])],
    );
    add(
        "smuggled",
        &[post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), with("")].concat(),
        bad(),
    );
    cases
}

//! A real browser: headless Chromium, told what to do over its DevTools protocol (one WebSocket, JSON).
//!
//! Keys and text go in as a keyboard's would; what a page shows is asked of the page. Each window is in a browser context
//! of its own, as if it were another person's machine.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use base64::Engine;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::{Directory, PATIENCE, until};

/// A page has more to do than an echo.
const PAGE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// What Chromium is called, where it is installed.
const PROGRAMS: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

pub(crate) struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    asked: u64,
    /// Exceptions and errors that pages have reported.
    complaints: Vec<String>,
    _profile: Directory,
}

/// A window, by its session.
#[derive(Debug, Clone)]
pub(crate) struct Window(String);

impl Browser {
    /// `None` where there is none; then a line says what is left out. Where the environment has `CI`, there must be one.
    pub(crate) fn start(what: &str) -> Option<Browser> {
        let Some(program) = program() else {
            assert!(std::env::var_os("CI").is_none(), "there is no browser: apt-get install chromium");
            // Written past the test's own capture, which would show it only for one that fails.
            let _ = writeln!(
                io::stderr(),
                "left out, because no Chromium is installed: {what}; apt-get install chromium, and cargo test --test black_box browser::"
            );
            return None;
        };
        let profile = Directory::new();
        let mut child = Command::new(program)
            .args([
                "--headless=new",
                "--no-sandbox", // tests may run as root, and the pages are our own
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--no-first-run",
                "--no-default-browser-check",
                "--lang=en",
                "--host-resolver-rules=MAP evil.example 127.0.0.1", // what its owner could do, too
                "--remote-debugging-port=0",
                "about:blank",
            ])
            .arg(format!("--user-data-dir={}", profile.path("profile").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let url = loop {
            let mut line = String::new();
            let count = stderr.read_line(&mut line).expect("it says where it listens");
            assert!(count > 0, "the browser ends at once");
            if let Some((_, url)) = line.trim().split_once("DevTools listening on ") {
                break url.to_owned();
            }
        };
        std::thread::spawn(move || io::copy(&mut stderr, &mut io::sink())); // it writes on
        let address = url.trim_start_matches("ws://").split('/').next().expect("a host").to_owned();
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PAGE_PATIENCE)).expect("not zero");
        let (socket, _) = tungstenite::client(&url, stream).expect("they shake hands");
        Some(Browser { child, socket, asked: 0, complaints: Vec::new(), _profile: profile })
    }

    fn ask_at(&mut self, session: Option<&Window>, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        let mut what = json!({"id": id, "method": method, "params": params});
        if let Some(Window(session)) = session {
            what["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(what.to_string())).expect("the browser is there");
        loop {
            let Message::Text(text) = self.socket.read().expect("the browser answers") else { continue };
            let mut said: Value = serde_json::from_str(&text).expect("it is JSON");
            if said["id"] == id {
                assert!(said["error"].is_null(), "{method}: {}", said["error"]);
                return said["result"].take();
            }
            match said["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(said["params"].to_string()),
                Some("Log.entryAdded") if said["params"]["entry"]["level"] == "error" => {
                    self.complaints.push(said["params"]["entry"].to_string());
                }
                _ => {}
            }
        }
    }

    /// Opens a window of somebody else, of this size.
    pub(crate) fn open(&mut self, url: &str, (width, height): (u32, u32)) -> Window {
        let context = self.ask_at(None, "Target.createBrowserContext", json!({}));
        let target = self.ask_at(
            None,
            "Target.createTarget",
            json!({"url": "about:blank", "browserContextId": context["browserContextId"], "width": width, "height": height}),
        );
        let attached = self.ask_at(
            None,
            "Target.attachToTarget",
            json!({"targetId": target["targetId"], "flatten": true}),
        );
        let window = Window(attached["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            self.ask_at(Some(&window), domain, json!({}));
        }
        // Each window is the one in front, for itself.
        self.ask_at(Some(&window), "Emulation.setFocusEmulationEnabled", json!({"enabled": true}));
        self.ask_at(
            Some(&window),
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
        self.ask_at(Some(&window), "Page.navigate", json!({"url": url}));
        self.wait(&window, "document.readyState === 'complete' && location.href !== 'about:blank'");
        window
    }

    /// Light or dark.
    pub(crate) fn set_scheme(&mut self, window: &Window, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.ask_at(Some(window), "Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// What an expression is, in the page.
    #[track_caller]
    pub(crate) fn eval(&mut self, window: &Window, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.ask_at(Some(window), "Runtime.evaluate", asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait(&mut self, window: &Window, expression: &str) {
        let began = Instant::now();
        while self.eval(window, expression) != Value::Bool(true) {
            if began.elapsed() > PAGE_PATIENCE {
                let page = self.eval(window, "document.body.innerText");
                panic!("never true: {expression}; the page: {page}; complaints: {:#?}", self.complaints);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Types where the cursor is.
    pub(crate) fn write(&mut self, window: &Window, text: &str) {
        self.ask_at(Some(window), "Input.insertText", json!({"text": text}));
    }

    /// Presses a key that has a name.
    pub(crate) fn press(&mut self, window: &Window, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "ArrowLeft" => (37, ""),
            "ArrowRight" => (39, ""),
            other => panic!("which key is {other}?"),
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event =
                json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.ask_at(Some(window), "Input.dispatchKeyEvent", event);
        }
    }

    /// A key that goes down, or up.
    pub(crate) fn key(&mut self, window: &Window, key: &str, down: bool) {
        let kind = if down { "rawKeyDown" } else { "keyUp" };
        self.ask_at(Some(window), "Input.dispatchKeyEvent", json!({"type": kind, "key": key, "code": key}));
    }

    /// A finger that touches, and lets go.
    pub(crate) fn touch(&mut self, window: &Window, (x, y): (u32, u32)) {
        for (kind, points) in [("touchStart", json!([{"x": x, "y": y}])), ("touchEnd", json!([]))] {
            let event = json!({"type": kind, "touchPoints": points});
            self.ask_at(Some(window), "Input.dispatchTouchEvent", event);
        }
    }

    /// Writes what the window shows to a file that can be looked at, and returns its path.
    pub(crate) fn screenshot(&mut self, window: &Window, name: &str) -> PathBuf {
        let shot = self.ask_at(Some(window), "Page.captureScreenshot", json!({"format": "png"}));
        let data = shot["data"].as_str().expect("it is there");
        let png = base64::engine::general_purpose::STANDARD.decode(data).expect("it is base64");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
        std::fs::write(&path, png).expect("it can be written");
        path
    }

    /// Whatever pages have complained of since this was asked.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.complaints)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it ends its own children, too.
        let close = json!({"id": 0, "method": "Browser.close", "params": {}});
        if self.socket.send(Message::text(close.to_string())).is_ok() && !std::thread::panicking() {
            let _ = until("the browser to end", || self.child.try_wait().ok().flatten());
        }
        let began = Instant::now();
        while began.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = PROGRAMS.iter().flat_map(|program| {
        std::env::split_paths(&path).map(move |folder| folder.join(program)).collect::<Vec<_>>()
    });
    candidates.into_iter().find(|candidate| candidate.is_file())
}

//! The pages, in a real browser, beside clients at a terminal: what their users see.
//!
//! What the windows showed is in `target/tmp/*.png` afterwards, to be looked at.
#![cfg(all(feature = "cli", feature = "load", feature = "web"))]

use crate::support::browser::{Browser, Window};
use crate::support::*;

const DESKTOP: (u32, u32) = (1000, 640);
const PHONE: (u32, u32) = (390, 780);

/// Enters a room by the keyboard alone.
fn come_in(browser: &mut Browser, window: &Window, name: &str) {
    browser.wait(window, "document.activeElement.id === 'name'");
    browser.eval(window, "document.activeElement.select()");
    browser.write(window, name);
    browser.press(window, "Enter");
}

fn say(browser: &mut Browser, window: &Window, text: &str) {
    browser.wait(window, "document.activeElement.id === 'text'");
    browser.write(window, text);
    browser.press(window, "Enter");
}

/// That some entry of the log is this.
fn sees(browser: &mut Browser, window: &Window, nick: &str, text: &str) {
    let (nick, text) = (serde_json::to_string(nick), serde_json::to_string(text));
    let (nick, text) = (nick.expect("a string"), text.expect("a string"));
    browser.wait(
        window,
        &format!(
            "[...document.querySelectorAll('#log li')].some((item) => \
             (item.querySelector('.nick')?.textContent ?? '') === {nick} && \
             item.querySelector('.text').textContent === {text})"
        ),
    );
}

/// Where another player is drawn.
fn other(browser: &mut Browser, window: &Window, id: u64) -> (f64, f64) {
    let at = browser.eval(window, &format!("latest?.others.get({id}) ?? null"));
    (at[0].as_f64().unwrap_or(-1.0), at[1].as_f64().unwrap_or(-1.0))
}

#[test]
fn two_windows_see_each_other_move() {
    let Some(mut browser) = Browser::start("the relay's page") else { return };
    let server = Server::start(&[
        "serve",
        "relay",
        "--listen",
        "http://127.0.0.1:0",
        "--tick",
        "60",
        "--drain-for",
        "2s",
    ]);
    let alice = browser.open(server.url(), DESKTOP);
    let bob = browser.open(server.url(), PHONE);
    for (window, at) in [(&alice, 30_000), (&bob, 33_000)] {
        browser.eval(window, &format!("x = {at}; y = 30000"));
    }
    for window in [&alice, &bob] {
        browser.wait(window, "document.getElementById('state').textContent === 'connected'");
        browser.wait(window, "document.getElementById('around').textContent.includes('see 1 near you')");
    }
    let ids = [&alice, &bob].map(|window| browser.eval(window, "me").as_u64().expect("a number"));
    assert_ne!(ids[0], ids[1]);

    // By the keyboard in one, by a finger in the other.
    let (before, _) = other(&mut browser, &bob, ids[0]);
    browser.key(&alice, "ArrowRight", true);
    browser.wait(&bob, &format!("latest.others.get({})?.[0] > {}", ids[0], before + 1000.0));
    browser.key(&alice, "ArrowRight", false);
    browser.touch(&bob, (195, 400));
    browser.wait(&alice, &format!("Math.abs((latest.others.get({})?.[0] ?? 0) - 32768) < 500", ids[1]));
    // The picture is drawn from what is so: not one colour all over.
    browser.wait(
        &alice,
        "(() => { const { width, height } = world; const pixels = world.getContext('2d').getImageData(0, 0, width, height).data; \
         return new Set(new Uint32Array(pixels.buffer)).size > 20; })()",
    );
    browser
        .wait(&alice, "graphs.late.length > 100 && graphs.jitter.length > 100 && graphs.latency.length > 50");
    browser.wait(&bob, "document.documentElement.scrollWidth <= innerWidth");
    browser.screenshot(&alice, "relay");
    browser.screenshot(&bob, "relay-phone");
    browser.set_scheme(&bob, "dark");
    browser.screenshot(&bob, "relay-phone-dark");
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");

    // Out of sight is out of mind; and who comes back is somebody.
    browser.eval(&bob, "x = 60000; y = 60000");
    browser.wait(&alice, "latest.others.size === 0");
    let page = server.url().to_owned();
    server.stop();
    browser.wait(&alice, "document.getElementById('state').textContent.includes('trying again')");
    let server = Server::start(&["serve", "relay", "--listen", &page]);
    browser.eval(&bob, "x = 40000; y = 30000");
    browser.wait(&alice, "latest?.others.size === 1");
    server.stop();
}

fn hears(terminal: &mut Client, text: &str) {
    let mut heard = String::new();
    while !heard.contains(text) {
        heard.push(terminal.hear_exactly(1)[0] as char);
    }
}

#[test]
fn a_chat_of_two_windows_and_a_terminal() {
    let Some(mut browser) = Browser::start("the chat's page") else { return };
    let server = Server::start(&[
        "serve",
        "chat",
        "--listen",
        "http://127.0.0.1:0",
        "--listen",
        TCP,
        "--drain-for",
        "2s",
    ]);
    let mut carol = server.call_at(1);
    carol.say("/nick carol\n");
    hears(&mut carol, "now carol\n");

    let alice = browser.open(server.url(), DESKTOP);
    come_in(&mut browser, &alice, "alice");
    browser.wait(&alice, "document.getElementById('state').textContent === 'connected'");
    hears(&mut carol, "* alice came in\n");

    // A name that is taken, and another one; on a phone.
    let bob = browser.open(server.url(), PHONE);
    come_in(&mut browser, &bob, "Alice");
    browser.wait(&bob, "document.getElementById('refusal').textContent.includes('taken')");
    browser.screenshot(&bob, "chat-name-taken");
    come_in(&mut browser, &bob, "bob");
    hears(&mut carol, "* bob came in\n");
    sees(&mut browser, &alice, "", "bob came in");
    browser.wait(&alice, "document.getElementById('count').textContent === '3'");
    browser.wait(&bob, "document.getElementById('people').open === false");

    // Both ways, and whatever they say, it is text.
    say(&mut browser, &alice, "hello from a window");
    sees(&mut browser, &bob, "alice", "hello from a window");
    hears(&mut carol, "alice: hello from a window\n");
    carol.say("hello from a terminal\n");
    sees(&mut browser, &alice, "carol", "hello from a terminal");
    let markup = "<script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">";
    say(&mut browser, &bob, markup);
    sees(&mut browser, &alice, "bob", markup);
    browser.wait(
        &alice,
        "document.querySelector('#log script, #log img') === null && !document.title.includes('broken')",
    );
    say(&mut browser, &bob, "/msg alice only you");
    sees(&mut browser, &alice, "bob, to you", "only you");
    sees(&mut browser, &bob, "to alice", "only you");
    say(&mut browser, &alice, "/topic tea & cake");
    browser.wait(&bob, "document.getElementById('topic').textContent === 'tea & cake'");
    say(&mut browser, &alice, "/nonsense");
    browser.wait(&alice, "document.getElementById('problem').textContent.includes('/help')");
    browser.eval(&alice, "document.activeElement.value = ''");
    say(&mut browser, &alice, "/help");
    browser
        .wait(&alice, "document.querySelector('#log li:last-child').textContent.includes('/msg NAME TEXT')");

    // More than fits: who looks at what was said before is told how much is new, and not moved.
    for number in 0..25 {
        carol.say(format!("line {number}\n"));
    }
    sees(&mut browser, &bob, "carol", "line 24");
    browser.eval(&bob, "document.getElementById('said').scrollTop = 0");
    carol.say("are you there?\n");
    browser.wait(&bob, "document.getElementById('newer').textContent === '1 new message' && document.title.startsWith('(1)')");
    browser.wait(&bob, "document.getElementById('said').scrollTop === 0");
    browser.screenshot(&bob, "chat-phone-unread");
    browser.eval(&bob, "document.getElementById('newer').click()");
    browser.wait(&bob, "document.getElementById('newer').hidden && !document.title.startsWith('(')");
    // Nothing is wider than the phone.
    browser.wait(&bob, "document.documentElement.scrollWidth <= innerWidth");
    browser.screenshot(&bob, "chat-phone");
    browser.set_scheme(&bob, "dark");
    browser.screenshot(&bob, "chat-phone-dark");
    browser.screenshot(&alice, "chat");
    browser.set_scheme(&alice, "dark");
    browser.screenshot(&alice, "chat-dark");
    // Where something was missed it is said, once: by the server's word for it, or by the numbers alone.
    browser.eval(&alice, "hear({type: 'said', seq: next + 2, at: 0, nick: 'carol', text: 'after a gap'})");
    sees(&mut browser, &alice, "", "2 messages were missed here");
    browser.eval(&alice, "hear({type: 'gap', missed: 5}); hear({type: 'said', seq: next + 5, at: 0, nick: 'carol', text: 'later'})");
    sees(&mut browser, &alice, "carol", "later");
    let gaps = browser.eval(&alice, "document.querySelectorAll('#log .gap').length");
    assert_eq!(gaps, 2);
    // Several come, go and are renamed at once: first all that are gone, then all that are there.
    browser.eval(
        &alice,
        "hear({type: 'roster', seq: next, at: 0, count: 5000, came: ['dave', 'bob'], went: ['carol'], \
         renamed: [{nick: 'bob', to: 'rob'}], more: 4990})",
    );
    sees(
        &mut browser,
        &alice,
        "",
        "carol left; bob (now rob) changed their names; dave, bob came in; 4990 more came or left",
    );
    browser.wait(&alice, "document.getElementById('count').textContent === '5000'");
    browser.wait(&alice, "[...members].sort().join() === 'alice,bob,dave,rob'");
    // It knows that its list is not complete, and asks for it, without a word to its user.
    browser.wait(&alice, "document.getElementById('count').textContent === '3'");
    browser.wait(&alice, "[...members].sort().join() === 'alice,bob,carol'");
    browser.wait(
        &alice,
        "document.querySelector('#log li:last-child').textContent.includes('more came or left')",
    );
    let complaints = browser.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");

    // The server goes and comes back; the windows come back by themselves.
    let (page, terminals) = (server.url().to_owned(), server.urls()[1].clone());
    server.stop();
    browser.wait(&alice, "document.getElementById('state').textContent.includes('trying again')");
    say(&mut browser, &alice, "is anybody there?");
    browser.wait(&alice, "document.getElementById('problem').textContent.includes('1 message waits')");
    browser.wait(&alice, "document.getElementById('text').value === ''");
    browser.screenshot(&alice, "chat-connection-lost");
    let server = Server::start(&["serve", "chat", "--listen", &page, "--listen", &terminals]);
    for window in [&alice, &bob] {
        browser.wait(window, "document.getElementById('state').textContent === 'connected'");
    }
    browser.wait(&alice, "document.getElementById('count').textContent === '2'");
    // What waited is sent, and the notice is gone.
    sees(&mut browser, &bob, "alice", "is anybody there?");
    browser.wait(&alice, "document.getElementById('problem').textContent === ''");
    sees(&mut browser, &bob, "carol", "line 24"); // what was there is there
    server.stop();
}

/// What the server does not take, or would not, is still in the field, with the reason.
#[test]
fn a_text_that_is_refused_stays_with_its_reason() {
    let Some(mut browser) = Browser::start("the chat's page") else { return };
    let rate = ["--messages-per-member", "2/2"];
    let server = Server::start(&[&["serve", "chat", "--listen", "http://127.0.0.1:0"][..], &rate].concat());
    let alice = browser.open(server.url(), DESKTOP);
    come_in(&mut browser, &alice, "alice");
    browser.wait(&alice, "!document.getElementById('empty').hidden");
    let problem = |text: &str| format!("document.getElementById('problem').textContent.includes({text:?})");
    // 2,000 characters, each of three bytes.
    browser.eval(&alice, "document.getElementById('text').value = '\u{8a9e}'.repeat(2000)");
    browser.eval(&alice, "document.getElementById('speak').requestSubmit()");
    browser.wait(&alice, &problem("too long by 2000 of at most 4000 bytes"));
    browser.wait(&alice, "document.getElementById('text').value.length === 2000");
    browser.eval(&alice, "document.getElementById('text').value = ''");
    // Of many at once most are too fast. Nothing of them is lost.
    browser.eval(
        &alice,
        "for (let i = 0; i < 9; i++) { document.getElementById('text').value = `line ${i}`; \
         document.getElementById('speak').requestSubmit(); }",
    );
    browser.wait(&alice, "document.body.textContent.includes('too fast')");
    let nine = "[...document.querySelectorAll('#log .text')].map((it) => it.textContent)\
                .concat(document.getElementById('text').value).filter((it) => /line \\d/.test(it)).length === 9";
    browser.wait(&alice, nine);
    server.stop();
}

#[test]
fn an_address_is_a_link_and_a_topic_is_asked_and_not_cleared() {
    let Some(mut browser) = Browser::start("the chat's page") else { return };
    let server = Server::start(&["serve", "chat", "--listen", "http://127.0.0.1:0"]);
    let alice = browser.open(server.url(), DESKTOP);
    come_in(&mut browser, &alice, "alice");
    say(&mut browser, &alice, "see https://example.com/a?b=1, and http://[");
    browser.wait(&alice, "document.querySelector('#log .text a')?.href === 'https://example.com/a?b=1'");
    browser.wait(&alice, "document.querySelectorAll('#log .text a').length === 1");
    browser.wait(&alice, "document.querySelector('#log .text a').rel === 'noopener noreferrer'");
    say(&mut browser, &alice, "/topic tea");
    browser.wait(&alice, "document.getElementById('topic').textContent === 'tea'");
    say(&mut browser, &alice, "/topic");
    say(&mut browser, &alice, "/rooms");
    sees(&mut browser, &alice, "", "1 room: lobby (1)");
    browser.wait(&alice, "document.getElementById('topic').textContent === 'tea'");
    assert!(browser.complaints().is_empty());
    server.stop();
}

#[test]
fn names_of_any_script_and_a_text_that_turns_around() {
    let Some(mut browser) = Browser::start("the chat's page") else { return };
    let server = Server::start(&["serve", "chat", "--listen", "http://127.0.0.1:0", "--listen", TCP]);
    let mut carol = server.call_at(1);
    let alice = browser.open(server.url(), DESKTOP);
    come_in(&mut browser, &alice, "Jose\u{301}");
    browser.wait(&alice, "document.querySelector('#members .me')?.textContent === 'Jos\\u00e9 (you)'");
    carol.say("/nick \u{5d3}\u{5e0}\u{5d9}\n/nick al\u{ad}ice\n");
    sees(&mut browser, &alice, "", "guest1 is now \u{2068}\u{5d3}\u{5e0}\u{5d9}\u{2069}");
    carol.say("\u{2069}\u{202e}:\u{e9}soJ\n");
    let shown = "\u{2068}\u{202e}:\u{e9}soJ\u{2069}";
    sees(&mut browser, &alice, "\u{5d3}\u{5e0}\u{5d9}", shown);
    // The author stands before the text.
    browser.wait(
        &alice,
        "(() => { const item = [...document.querySelectorAll('#log li')].at(-1); \
         const at = (part) => item.querySelector(part).getBoundingClientRect(); \
         return at('time').right <= at('.nick').left && at('.nick').right <= at('.text').left; })()",
    );
    browser.screenshot(&alice, "chat-scripts");
    server.stop();
}

#[test]
fn a_page_of_another_site_reaches_neither_the_page_nor_the_lines() {
    let Some(mut browser) = Browser::start("what pages of other sites can do") else { return };
    let server = Server::start(&["serve", "chat", "--listen", "http://127.0.0.1:0", "--listen", TCP]);
    let mut carol = server.call_at(1);
    hears(&mut carol, "* 1 here: guest1\n");
    // Its owner has its name resolve to us.
    let port = server.address(0).port();
    let evil = browser.open(&format!("http://evil.example:{port}/"), DESKTOP);
    browser.wait(&evil, "document.body?.textContent.includes('--host')");
    let post = "fetch('http://127.0.0.1:PORT/', {method: 'POST', mode: 'no-cors', body: '/nick admin\\nhello\\n'}).then(() => 1, () => 2)";
    let outcome = browser.eval(&evil, &post.replace("PORT", &server.address(1).port().to_string()));
    assert!(!outcome.is_string(), "{outcome}");
    hears(&mut carol, "* guest2 came in\n* guest2 left\n");
    let socket = format!(
        "new Promise((tell) => {{ const it = new WebSocket('ws://127.0.0.1:{port}/ws'); it.onopen = () => tell('open'); it.onerror = () => tell('refused'); }})"
    );
    assert_eq!(browser.eval(&evil, &socket), "refused");
    let summary = server.stop().summary();
    assert_eq!((summary.of("other-origin"), summary.of("other-protocol") > 0), (1, true), "{summary:?}");
}

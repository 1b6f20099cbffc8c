//! Who may come in: lists from files, and what is wrong with them.
#![cfg(feature = "cli")]

mod support;

use std::fs;

use support::*;

#[test]
fn lists_may_stand_in_files() {
    let directory = Directory::new();
    let (allow, deny) = (directory.path("allow"), directory.path("deny"));
    fs::write(&allow, "# this machine\n127.0.0.0/8\n").unwrap();
    fs::write(&deny, "\n127.0.0.1 # ourselves\n").unwrap();
    let (allow, deny) = (allow.to_str().unwrap(), deny.to_str().unwrap());

    let server = Server::start(&["serve", "--listen", TCP, "--allow-file", allow]);
    server.call().echo("hello");
    let server = Server::start(&["serve", "--listen", TCP, "--allow-file", allow, "--deny-file", deny]);
    assert!(server.call().hear_until_the_end().is_empty());
    let summary = server.summary();
    assert!(summary.text().contains("refused 1 (denied 1)"), "{summary:?}");
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    let directory = Directory::new();
    let path = directory.path("list");
    let name = path.to_str().unwrap();
    let complaint = |option: &str| {
        let output = run(&["serve", "--listen", TCP, option, name]);
        assert_eq!(output.status.code(), Some(2));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains(&format!("{option} {name}")), "{complaint}");
        complaint
    };
    assert!(complaint("--deny-file").contains("cannot read it"));
    fs::write(&path, "10.0.0.0/8\n\n10.0.0.0/99\n").unwrap();
    for option in ["--allow-file", "--deny-file"] {
        assert!(complaint(option).contains(&format!("{name}:3: \"10.0.0.0/99\"")));
    }
    fs::write(&path, "# nobody yet\n").unwrap();
    assert!(complaint("--allow-file").contains("names no network"));
}

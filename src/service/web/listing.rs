//! A directory's page: its names, as links. Names are text, whatever they hold.

use std::fmt::Write;
use std::fs::File;
use std::io;

/// More are not shown: the page is made by the loop, at once.
const NAMES_MAX: usize = 1000;

/// # Errors
/// Where the directory can't be read.
pub(super) fn page(directory: &File, path: &str) -> io::Result<String> {
    let mut names = Vec::new();
    let mut more = false;
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.starts_with('.') {
            continue;
        }
        if names.len() == NAMES_MAX {
            more = true;
            break;
        }
        let slash = if entry.file_type() == rustix::fs::FileType::Directory { "/" } else { "" };
        names.push(format!("{name}{slash}"));
    }
    names.sort_unstable();
    Ok(render(&names, path, more))
}

fn render(names: &[String], path: &str, more: bool) -> String {
    let title = text(path);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>body{{font:16px/1.6 system-ui,sans-serif;max-width:50em;margin:2em auto;padding:0 1em;\
         color-scheme:light dark}}</style>\n<h1>{title}</h1>\n<ul>\n"
    );
    if path != "/" {
        page += "<li><a href=\"../\">../</a>\n";
    }
    for name in names {
        // "./" so that no name is taken for a scheme.
        let _ = writeln!(page, "<li><a href=\"./{}\">{}</a>", encoded(name), text(name));
    }
    page += "</ul>\n";
    if more {
        let _ = writeln!(page, "<p>There are more than {NAMES_MAX}; these are some of them.");
    }
    page
}

fn text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '&' => escaped += "&amp;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// In percent where it is no plain letter.
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_text_and_never_markup() {
        let names =
            ["<script>alert(1)</script>".into(), "a\"b'&c".into(), "javascript:x".into(), "sub/".into()];
        let page = render(&names, "/x\"><i>/", false);
        assert!(!page.contains("<script>") && !page.contains("<i>"), "{page}");
        assert!(page.contains("href=\"./%3Cscript%3Ealert%281%29%3C/script%3E\">&lt;script&gt;"), "{page}");
        assert!(page.contains("href=\"./a%22b%27%26c\">a&quot;b&#39;&amp;c<"), "{page}");
        assert!(page.contains("href=\"./javascript%3Ax\""), "{page}");
        assert!(page.contains("href=\"./sub/\">sub/<"), "{page}");
    }
}

//! From the path of a URL to one below the root.
//!
//! It is decoded once, and whatever could lead elsewhere, or could be taken for something else by somebody in front of us,
//! is refused, not put right: clients resolve `.` and `..` themselves (RFC 3986 section 5.2.4).

/// The path below the root: without its first slash, and with its last one. It is bytes, as the names of files are. An
/// error is the status that says so.
pub(super) fn decode(path: &str) -> Result<Vec<u8>, u16> {
    let encoded = path.strip_prefix('/').ok_or(400u16)?;
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let [byte, behind @ ..] = rest {
        rest = behind;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or(400u16)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(400); // `from_str_radix` would take a sign
        }
        let byte = u8::from_str_radix(digits, 16).map_err(|_| 400u16)?;
        if byte == b'/' {
            return Err(400);
        }
        decoded.push(byte);
        rest = &rest[2..];
    }
    judge(&decoded).map(|()| decoded)
}

/// Whether a decoded path may be looked for. A listing asks this, too: so it shows what can be fetched.
pub(super) fn judge(decoded: &[u8]) -> Result<(), u16> {
    if decoded.is_empty() {
        return Ok(());
    }
    let parts = || decoded.strip_suffix(b"/").unwrap_or(decoded).split(|byte| *byte == b'/');
    let leads_elsewhere = decoded.iter().any(|byte| matches!(byte, 0 | b'\\'))
        || parts().any(|part| matches!(part, b"." | b".."))
        || parts().next().is_some_and(is_drive);
    if leads_elsewhere {
        return Err(400);
    }
    // An empty part would be an absolute path, or one with two names. What is hidden stays so.
    if parts().any(|part| part.is_empty() || (part.starts_with(b".") && part != b".well-known")) {
        return Err(404);
    }
    Ok(())
}

/// `C:`, which other systems take for an absolute path.
fn is_drive(part: &[u8]) -> bool {
    matches!(part, [letter, b':'] if letter.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn what_names_something_below_the_root_is_decoded_once() {
        for (path, decoded) in [
            ("/", ""),
            ("/index.html", "index.html"),
            ("/a/b/", "a/b/"),
            ("/a%20b", "a b"),
            ("/gr%C3%BC%C3%9Fe", "grüße"),
            ("/100%25", "100%"),
            ("/%252e%252e/x", "%2e%2e/x"),
            ("/.well-known/x", ".well-known/x"),
            ("/a..b/c...", "a..b/c..."),
            ("/a+b", "a+b"),
            ("/a:b.txt", "a:b.txt"),
        ] {
            assert_eq!(decode(path).as_deref(), Ok(decoded.as_bytes()), "{path}");
        }
        assert_eq!(decode("/caf%E9").as_deref(), Ok(&b"caf\xe9"[..]), "a name need not be text");
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for (path, status) in [
            ("", 400),
            ("index.html", 400),
            ("/..", 400),
            ("/../x", 400),
            ("/a/../b", 400),
            ("/a/..", 400),
            ("/./a", 400),
            ("/%2e%2e/x", 400),
            ("/%2E%2e/x", 400),
            ("/.%2e/x", 400),
            ("/a/%2e%2e%2fx", 400),
            ("/a%2fb", 400),
            ("/a%5cb", 400),
            ("/..\\x", 400),
            ("/a%00b", 400),
            ("/%", 400),
            ("/%4", 400),
            ("/%zz", 400),
            ("/%+1", 400),
            ("/C:/x", 400),
            ("/c%3a/x", 400),
            ("//etc/passwd", 404),
            ("/a//b", 404),
            ("/a//", 404),
            ("/.git/config", 404),
            ("/a/.env", 404),
            ("/%2eenv", 404),
        ] {
            assert_eq!(decode(path), Err(status), "{path}");
        }
    }
}

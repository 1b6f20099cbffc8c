//! Names: which are allowed, which are the same, and which look the same.
//!
//! A name is an identifier (UAX 31: `XID_Start`, then `XID_Continue`) that may also begin with a digit and contain `-`. It is
//! kept in NFC, so a name that was typed with combining marks is the same as one that was not. What cannot be seen
//! (default-ignorable characters, bidi controls) is in no name.
//!
//! Two names are the same if they differ in case only. Two names look the same if their skeletons (UTS 39 section 4) are
//! equal as they are written, or both in lower case, or both in upper case: `al1ce` is a copy of `alice` to a person who
//! reads it, and so is a name whose `a` is Cyrillic.
//!
//! Invariant: no two names in [`Names`] are the same or look the same.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};

use super::super::ambient::Chance;

use unicode_normalization::{IsNormalized, UnicodeNormalization, char::is_combining_mark, is_nfc_quick};
use unicode_security::skeleton;

use super::words::{NICK_CHARS_MAX, ROOM_CHARS_MAX, Trouble};

/// Marks on one letter (UTS 39 section 5.4): more of them only cover the lines above and below.
const MARKS_MAX: usize = 4;

/// A nickname as it is shown.
///
/// # Errors
/// Where it is none.
pub(super) fn nick(text: &str) -> Result<Cow<'_, str>, Trouble> {
    name("nickname", text, NICK_CHARS_MAX)
}

/// A room's name as it is shown.
///
/// # Errors
/// Where it is none.
pub(super) fn room(text: &str) -> Result<Cow<'_, str>, Trouble> {
    name("room's name", text, ROOM_CHARS_MAX)
}

fn name<'a>(what: &'static str, text: &'a str, chars_max: usize) -> Result<Cow<'a, str>, Trouble> {
    let too_long = Trouble::TooLong { what, most: chars_max, unit: "characters" };
    // One character of NFC may come as several, of up to 16 bytes together; more than that is not even normalized.
    if text.len() > 16 * chars_max {
        return Err(too_long);
    }
    let name = match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        _ => Cow::Owned(text.nfc().collect()),
    };
    if name.chars().count() > chars_max {
        return Err(too_long);
    }
    match is_name(&name) {
        true => Ok(name),
        false => Err(Trouble::NotPrintable(what)),
    }
}

fn is_name(name: &str) -> bool {
    let begins = |c| unicode_ident::is_xid_start(c) || (c.is_numeric() && unicode_ident::is_xid_continue(c));
    let mut marks = 0;
    name.starts_with(begins)
        && name.chars().all(|c| {
            marks = if is_combining_mark(c) { marks + 1 } else { 0 };
            (unicode_ident::is_xid_continue(c) || c == '-') && marks <= MARKS_MAX && !is_ignorable(c)
        })
}

/// Whether it is shown as nothing (`Default_Ignorable_Code_Point`): a skeleton leaves out exactly these.
fn is_ignorable(c: char) -> bool {
    !c.is_ascii() && skeleton(c.encode_utf8(&mut [0; 4])).next().is_none()
}

/// A name as it is compared: Alice is alice.
pub(super) fn fold(name: &str) -> String {
    match name.is_ascii() {
        true => name.to_ascii_lowercase(),
        false => name.nfc().collect::<String>().to_lowercase().nfc().collect(),
    }
}

/// How a name looks: hashes of its skeletons as it is written, in lower case and in upper case. The hash is keyed, so
/// nobody can make two names collide.
type Looks = [u64; 3];

/// Names, and what has each of them.
#[derive(Debug)]
pub(super) struct Names<T> {
    /// By their folded names.
    /// (Trees, here and in all of the chat, and not hash tables: these are freed as members go. A large table that is
    /// freed also makes glibc keep twice as much of what is freed later.)
    holders: BTreeMap<String, (T, Looks)>,
    looks: BTreeMap<u64, T>,
    key: Chance,
}

impl<T> Names<T> {
    /// None.
    pub(super) fn new(key: Chance) -> Names<T> {
        Names { holders: BTreeMap::new(), looks: BTreeMap::new(), key }
    }
}

impl<T: Clone + PartialEq> Names<T> {
    /// What has this name, in any case.
    pub(super) fn get(&self, name: &str) -> Option<T> {
        self.holders.get(&fold(name)).map(|(holder, _)| holder.clone())
    }

    /// Whether something other than `holder` has a name that looks like this one.
    pub(super) fn is_like_anothers<Q: PartialEq + ?Sized>(&self, name: &str, holder: Option<&Q>) -> bool
    where
        T: Borrow<Q>,
    {
        let mut others = self.looks(name).into_iter().filter_map(|look| self.looks.get(&look));
        others.any(|other| Some(other.borrow()) != holder)
    }

    /// From now on `holder` has this name. No other may have it, or one that looks like it.
    pub(super) fn insert(&mut self, name: &str, holder: T) {
        let looks = self.looks(name);
        for look in looks {
            self.looks.insert(look, holder.clone());
        }
        self.holders.insert(fold(name), (holder, looks));
    }

    /// The name is free.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some((_, looks)) = self.holders.remove(&fold(name)) {
            for look in looks {
                self.looks.remove(&look);
            }
        }
    }

    fn looks(&self, name: &str) -> Looks {
        let hash = |kind: u8, name: &str| {
            let mut hasher = self.key.build_hasher();
            hasher.write_u8(kind);
            skeleton(name).for_each(|c| hasher.write_u32(c.into()));
            hasher.finish()
        };
        [hash(0, name), hash(1, &name.to_lowercase()), hash(2, &name.to_uppercase())]
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ambient::Ambient;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_words_of_any_script_and_bounded() {
        for name in [
            "a",
            "Alice",
            "grüße-1_2",
            "ひらがな",
            "हिन्दी",
            "தமிழ்",
            "ส้ม",
            "שָׁ",
            "မြန်မာ",
            "ᏣᎳᎩ",
            "7",
            "x-",
            &"x".repeat(24),
            &"한".repeat(24),
        ] {
            assert_eq!(nick(name).as_deref(), Ok(name));
        }
        let hangul: String = "한".repeat(24).nfd().collect();
        assert_eq!(nick(&hangul).as_deref(), Ok(&*"한".repeat(24)), "it is counted as it is shown");
        for name in [
            "",
            " ",
            "a b",
            "-a",
            "_a",
            "a:",
            "a.b",
            "<b>",
            "a\n",
            "\u{1b}[31m",
            "\u{301}a",
            "a\u{2028}",
            "\u{e000}",
            "½",
            "😀",
            &"x".repeat(25),
            &"x".repeat(4096),
        ] {
            assert!(nick(name).is_err(), "{name:?}");
        }
        assert_eq!(fold("ALICE"), fold("alice"));
    }

    #[test]
    fn a_name_with_what_cannot_be_seen_in_it_is_none() {
        let ignorable = "\u{ad}\u{34f}\u{61c}\u{115f}\u{17b4}\u{180b}\u{200b}\u{200c}\u{200d}\u{2060}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{e0061}\u{e0100}";
        let bidi = "\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        for c in ignorable.chars().chain(bidi.chars()) {
            assert!(nick(&format!("al{c}ice")).is_err(), "{c:?}");
            assert!(nick(&format!("{c}alice")).is_err(), "{c:?}");
            assert!(nick(&format!("alice{c}")).is_err(), "{c:?}");
        }
        assert!(
            nick("a\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}").is_err(),
            "marks that cover the next line"
        );
    }

    #[test]
    fn both_forms_of_a_name_are_the_same() {
        let (one, other) = (nick("José").expect("a name"), nick("Jose\u{301}").expect("a name"));
        assert_eq!((&*one, fold("JOSE\u{301}")), (&*other, fold("José")));
        let mut names = Names::new(Ambient::machine().chance());
        names.insert(&one, 1);
        assert_eq!(names.get("jose\u{301}"), Some(1));
    }

    /// Whether the second is refused while the first is there.
    fn is_copy(present: &str, name: &str) -> bool {
        let mut names = Names::new(Ambient::machine().chance());
        names.insert(&nick(present).expect(present), 1);
        names.is_like_anothers(&nick(name).expect(name), Some(&2))
    }

    #[test]
    fn a_confusable_copy_of_a_name_that_is_there_is_told() {
        for (present, copy) in [
            ("alice", "alice"),
            ("alice", "Alice"),
            ("alice", "аlice"), // Cyrillic
            ("alice", "АLICE"),
            ("alice", "al\u{456}ce"),
            ("Ivan", "lvan"),
            ("bob", "b0b"),
            ("Bob", "B0B"),
            ("paypal", "paypa1"),
            ("modem", "rnodem"),
            ("Straße", "STRASSE"),
            ("José", "Jose\u{301}"),
        ] {
            assert!(is_copy(present, copy), "{copy} beside {present}");
            assert!(is_copy(copy, present), "{present} beside {copy}");
        }
        for (present, other) in [
            ("alice", "alicia"),
            ("Ali", "Al"),
            ("guest1", "guest2"),
            ("guest1", "guest11"),
            ("Анна", "Anna2"),
        ] {
            assert!(!is_copy(present, other), "{other} beside {present}");
        }
    }

    #[test]
    fn numbered_names_do_not_collide() {
        let mut names = Names::new(Ambient::machine().chance());
        for number in 0..5000 {
            let name = format!("guest{number}");
            assert!(!names.is_like_anothers(&name, None::<&u32>), "{name}");
            names.insert(&name, number);
        }
    }

    #[test]
    fn a_name_that_was_given_up_is_free() {
        let mut names = Names::new(Ambient::machine().chance());
        names.insert("Alice", 1);
        assert!(!names.is_like_anothers("a1ice", Some(&1)), "a copy of one's own name is no copy");
        names.remove("aLICE");
        assert_eq!(names.get("alice"), None);
        assert!(!names.is_like_anothers("alice", Some(&2)));
        assert!(names.looks.is_empty() && names.holders.is_empty());
    }

    proptest! {
        #[test]
        fn a_name_stays_the_same_name(text in "\\PC{0,30}") {
            if let Ok(name) = nick(&text) {
                prop_assert_eq!(nick(&name), Ok(name.clone()));
                prop_assert_eq!(fold(&fold(&name)), fold(&name));
                let decomposed: String = name.nfd().collect();
                prop_assert_eq!(nick(&decomposed), Ok(name));
            }
        }
    }
}

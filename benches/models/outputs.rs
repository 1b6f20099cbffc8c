//! The files: `models.json`, `models.svg` and `models.html` in cargo's target directory.
//!
//! They are written after every cell, so that a run that is cut short leaves what it had.

use super::Outcome;
use super::charts;
use super::findings::Findings;
use super::tables;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use switchboard::load::plot::escape;

pub(crate) fn write(findings: &Findings) -> Outcome<()> {
    let json = serde_json::to_string_pretty(findings)
        .map_err(|error| format!("cannot write the findings as JSON: {error}"))?;
    let picture = charts::picture(findings);
    put("models.json", &json)?;
    put("models.html", &page(findings, &picture))?;
    put("models.svg", &picture)
}

/// Where they are.
pub(crate) fn folder() -> PathBuf {
    // What cargo names to us is the folder `tmp` in it.
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp).to_path_buf()
}

fn put(name: &str, text: &str) -> Outcome<()> {
    let path = folder().join(name);
    // A reader never finds half a file.
    let draft = path.with_extension("draft");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, &path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// One page without anything beside it, light or dark as the reader has it.
fn page(findings: &Findings, picture: &str) -> String {
    let mut page = String::from(HEAD);
    for line in tables::introduction(findings) {
        let _ = writeln!(page, "<p>{}</p>", escape(&line));
    }
    let _ = writeln!(page, "<figure>{picture}</figure>\n<h2>Who takes part, and where each waits</h2>\n<dl>");
    for model in &findings.models {
        let _ = writeln!(page, "<dt>{}</dt><dd>{}</dd>", escape(model.label), escape(model.waits));
    }
    page.push_str("</dl>\n");
    for table in tables::tables(findings) {
        let _ = writeln!(page, "<h2>{}</h2>\n{}", escape(&table.heading), table.html());
    }
    let remarks = findings.remarks();
    if !remarks.is_empty() {
        page.push_str("<h2>Remarks</h2>\n<ul>\n");
        for remark in remarks {
            let _ = writeln!(page, "<li>{}</li>", escape(&remark));
        }
        page.push_str("</ul>\n");
    }
    page + "</body>\n</html>\n"
}

/// The colours come with the picture.
const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<meta name=\"color-scheme\" content=\"light dark\">
<title>Ways to wait</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  background: var(--paper); color: var(--ink); }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
figure { margin: 1.5rem 0; }
figure svg { width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { font-weight: 600; }
dd { margin: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .85rem; display: block; overflow-x: auto; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
th:first-child { text-align: left; }
@media print { h2 { break-after: avoid; } table { break-inside: avoid; } }
</style>
</head>
<body>
<h1>Ways to wait</h1>
";

//! The page.
use super::report::Report;
pub fn render(_report: &Report) -> String {
    String::new()
}

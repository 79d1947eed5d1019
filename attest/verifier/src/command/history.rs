//! `history`: who did what when, oldest first.

use serde_json::json;

use super::{print_json, with_registry};
use crate::clock;
use crate::config::Config;
use crate::error::Error;
use crate::registry::Entry;

pub fn run(node: Option<String>, json: bool, config: &Config) -> Result<(), Error> {
    with_registry(config, |registry| async move {
        let node = node.unwrap_or_default();
        let mut last = 0;
        loop {
            let page = registry.history_after(last, &node).await?;
            let Some(end) = page.last() else {
                return Ok(());
            };
            last = end.id;
            page.iter().for_each(|entry| print(entry, json));
        }
    })
}

fn print(entry: &Entry, as_json: bool) {
    let Entry {
        id,
        at,
        who,
        what,
        node,
        detail,
    } = entry;
    if as_json {
        print_json(&json!({ "id": id, "at": at, "who": who, "what": what, "node": node, "detail": detail }));
    } else {
        let words = [what.as_str(), node, detail]
            .into_iter()
            .filter(|word| !word.is_empty());
        println!("{}  {who}  {}", clock::show(*at), words.collect::<Vec<_>>().join("  "));
    }
}

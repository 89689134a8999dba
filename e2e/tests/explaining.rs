//! The pages for whoever is called: every command of the runbooks and of the page on troubles works.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use stockpredictor_e2e::page::{Shell, blocks, prepare};
use stockpredictor_e2e::with_namespace;

/// The pages by name, with their commands.
fn pages() -> Result<BTreeMap<String, String>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir(docs.join("runbooks"))? {
        let path = entry?.path();
        let name = path.file_name().context("a name")?.to_string_lossy();
        pages.insert(name.into_owned(), std::fs::read_to_string(&path)?);
    }
    let name = "troubleshooting.md";
    pages.insert(name.to_owned(), std::fs::read_to_string(docs.join(name))?);
    Ok(pages)
}

#[test]
fn every_runbook_has_commands() {
    let pages = pages().unwrap();
    assert!(pages.len() > 20, "{:?}", pages.keys());
    for (name, page) in pages.iter().filter(|(name, _)| *name != "README.md") {
        assert!(!blocks(page).is_empty(), "{name} has no commands");
    }
}

#[tokio::test]
#[ignore = "needs a cluster: make test-e2e"]
async fn the_commands_of_runbooks_and_troubleshooting_work() {
    with_namespace("pages", |sandbox| async move {
        prepare(&sandbox).await?;
        let shell = Shell::open(&sandbox).await?;
        // Where a page takes an image with a shell, the reader's own is at hand.
        let image = std::env::var("TOOLBOX_IMAGE").context("TOOLBOX_IMAGE")?;
        let mut failures = Vec::new();
        for (name, page) in pages()? {
            for block in blocks(&page) {
                println!("--- {name}\n{block}");
                let script = format!("export IMAGE={image}\n{block}");
                if let Err(error) = shell.run(&script).await {
                    failures.push(format!("{name}: {error:#}"));
                }
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
        Ok(())
    })
    .await;
}

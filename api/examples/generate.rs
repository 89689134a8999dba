//! Writes the files that are generated from this crate; `make crds` runs it.

use std::path::Path;

use stockpredictor_api::{crd, reference};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    crd::write(&root.join("crds"))?;
    // Helm only packs what lies inside the chart.
    crd::write(&root.join("charts/stockpredictor/files/crds"))?;
    std::fs::write(root.join("docs/reference/api.md"), reference::markdown()?)?;
    Ok(())
}

//! The rendered CRDs, kept as files so that a change of the API is seen in review. `UPDATE_GOLDEN=1` rewrites them.

use drover_api::crds;
use std::{fs, path::PathBuf};

#[test]
fn every_definition_is_as_recorded() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/crds");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    if update {
        fs::create_dir_all(&folder).expect("the folder can be made");
    }
    for crd in crds::crds() {
        let name = crd
            .metadata
            .name
            .as_deref()
            .expect("every definition has a name");
        let file = folder.join(format!("{name}.yaml"));
        // Through a value, so that the keys are sorted.
        let value = serde_json::to_value(&crd).expect("a definition is JSON");
        let text = serde_saphyr::to_string(&value).expect("a definition is YAML");
        if update {
            fs::write(&file, &text).expect("the file can be written");
        }
        let recorded = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            recorded,
            text,
            "{} differs; UPDATE_GOLDEN=1 rewrites it",
            file.display()
        );
    }
}

use drover_protocol::Work;

use super::*;

fn open(path: &Path, source: &str) -> Result<SqliteDisk<Work>, DiskError> {
    SqliteDisk::open(path, source, &DataType::MANIFEST_BUNDLES)
}

fn owned(uid: &str, version: &str, unsent: Option<Action>) -> Row<Work> {
    let mut work = Work::default();
    uid.clone_into(&mut work.metadata.uid);
    version.clone_into(&mut work.metadata.resource_version);
    let object = Arc::new(work);
    Row::Owned { object, unsent }
}

fn buried(generation: Option<i64>, version: Option<i64>) -> Row<Work> {
    let cluster = "c1".to_owned();
    let unsent = version.map(|version| Unsent { cluster, version });
    Row::Buried { generation, unsent }
}

/// Stores one batch after the other; afterwards another process finds `expected`.
#[track_caller]
fn check(batches: &[&[(&str, Row<Work>)]], expected: &[(&str, Row<Work>)]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.db");
    let mut disk = open(&path, "hub-a").unwrap();
    for batch in batches {
        let rows = batch.iter().map(|(uid, row)| ((*uid).into(), row.clone()));
        disk.store(&rows.collect()).unwrap();
    }
    drop(disk);
    let mut found = open(&path, "hub-a").unwrap().load().unwrap();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let expected: Vec<_> = expected
        .iter()
        .cloned()
        .map(|(uid, row)| (uid.to_owned(), row))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn rows_are_found_again() {
    let new = owned("a", "1", Some(Action::Create));
    let Row::Owned { object, .. } = new.clone() else {
        unreachable!()
    };
    let sent = Row::Owned {
        object,
        unsent: None,
    };
    check(&[], &[]);
    check(&[&[("a", new.clone())]], &[("a", new.clone())]);
    check(
        &[&[("a", new.clone())], &[("a", sent.clone())]],
        &[("a", sent.clone())],
    );
    let newer = owned("a", "2", Some(Action::Update));
    check(
        &[&[("a", sent.clone())], &[("a", newer.clone())]],
        &[("a", newer.clone())],
    );
    let grave = buried(Some(7), Some(7));
    check(
        &[&[("a", sent.clone())], &[("a", grave.clone())]],
        &[("a", grave.clone())],
    );
    check(
        &[&[("a", grave.clone())], &[("a", buried(Some(7), None))]],
        &[("a", buried(Some(7), None))],
    );
    check(
        &[&[("a", grave.clone())], &[("a", newer.clone())]],
        &[("a", newer)],
    );
    check(&[&[("a", grave)], &[("a", Row::Nothing)]], &[]);
    let order = buried(None, Some(3));
    check(
        &[&[("a", sent.clone()), ("b", order.clone())]],
        &[("a", sent), ("b", order)],
    );
}

#[test]
fn a_file_belongs_to_one_source_and_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("source.db");
    let refused = |source: &str| open(&path, source).err().unwrap().why;
    let disk = open(&path, "hub-a").unwrap();
    assert!(refused("hub-a").contains("another process uses it"));
    drop(disk);
    assert!(refused("hub-b").starts_with("it belongs to the source \"hub-a\""));
    std::fs::write(&path, "a letter to somebody").unwrap();
    assert!(refused("hub-a").starts_with("it is no database"));
}

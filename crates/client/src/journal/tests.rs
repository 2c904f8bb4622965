use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A disk that is full for as long as somebody says so.
struct Model {
    full: Arc<AtomicBool>,
    rows: Arc<Mutex<HashMap<Arc<str>, Row<u32>>>>,
}

impl Disk<u32> for Model {
    fn load(&mut self) -> Result<Vec<(String, Row<u32>)>, DiskError> {
        Ok(Vec::new())
    }

    fn store(&mut self, rows: &HashMap<Arc<str>, Row<u32>>) -> Result<(), DiskError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(DiskError {
                place: "a model".into(),
                why: "it is full".into(),
            });
        }
        self.rows.lock().unwrap().extend(rows.clone());
        Ok(())
    }
}

fn owned(value: u32) -> Row<u32> {
    Row::Owned {
        object: Arc::new(value),
        unsent: None,
    }
}

#[tokio::test]
async fn a_full_disk_holds_everything_back_and_loses_nothing() {
    let (full, rows) = (Arc::new(AtomicBool::new(true)), Arc::default());
    let disk = Model {
        full: Arc::clone(&full),
        rows: Arc::clone(&rows),
    };
    let journal = Journal::start(Box::new(disk)).unwrap();
    assert!(journal.gate().is_none(), "nothing waits for nothing");
    journal.put("a".into(), owned(1), true);
    journal.put("b".into(), owned(1), false);
    let error = journal.flush().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to keep the state of the source in a model: it is full"
    );
    assert!(journal.failures() > 0);
    journal.put("a".into(), owned(2), true);
    let gate = journal.gate().expect("the newest is not stored");
    full.store(false, Ordering::SeqCst);
    gate.opened().await;
    while journal.flush().await.is_err() {}
    let want = HashMap::from([("a".into(), owned(2)), ("b".into(), owned(1))]);
    assert_eq!(*rows.lock().unwrap(), want);
    assert!(journal.gate().is_none());
    journal.put("c".into(), owned(3), false);
    journal.close();
    assert_eq!(
        rows.lock().unwrap().len(),
        3,
        "the rest is written at the end"
    );
}

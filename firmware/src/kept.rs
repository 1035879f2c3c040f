//! A small file in the data directory that the loop keeps up to date without waiting for the disk.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the file says last, and who writes it. There is one writer, so that the last change is the one that stays.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    latest: watch::Sender<Option<T>>,
    writer: JoinHandle<()>,
}

impl<T: Serialize + Clone + Send + Sync + 'static> Kept<T> {
    /// `failure` is what people are told where the file cannot be written: what that means for them.
    pub(crate) fn at(path: PathBuf, failure: &'static str) -> Kept<T> {
        let (latest, mut changes) = watch::channel(None::<T>);
        let writer = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let (value, path) = (changes.borrow_and_update().clone(), path.clone());
                let written = tokio::task::spawn_blocking(move || store(&path, value.as_ref()));
                if let Ok(Err(error)) = written.await {
                    tracing::error!(%error, "{failure}");
                }
            }
        });
        Kept { latest, writer }
    }

    /// `None`: there shall be no file.
    pub(crate) fn keep(&self, value: Option<T>) {
        self.latest.send_replace(value);
    }

    /// Waits until the disk has the last value.
    pub(crate) async fn shutdown(self) {
        drop(self.latest);
        let _ = self.writer.await;
    }
}

/// The file changes at once or not at all.
pub(crate) fn store<T: Serialize>(path: &Path, value: Option<&T>) -> std::io::Result<()> {
    match value {
        Some(value) => {
            let temporary = path.with_extension("tmp");
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(&serde_json::to_vec(value)?)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)?;
        }
        None => match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        },
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(dir)?.sync_all()
}

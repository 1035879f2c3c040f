//! Paths within a broadcast: `video/0000/12.m4s`. The root directory is the empty path.

use crate::StoreError;

/// Longest name in bytes, as on any file system, so that a broadcast can be copied to one.
const MAX_NAME: usize = 255;

/// Checks a file's path and splits it into directory and name.
pub(crate) fn split(path: &str) -> Result<(&str, &str), StoreError> {
    let invalid = |reason| {
        Err(StoreError::InvalidPath {
            path: path.to_owned(),
            reason,
        })
    };
    for name in path.split('/') {
        match name {
            "" => return invalid("it has an empty component"),
            "." | ".." => return invalid("it has a dot component"),
            _ if name.len() > MAX_NAME => return invalid("it has a name of more than 255 bytes"),
            _ if name.contains('\0') => return invalid("it has a zero byte"),
            _ => {}
        }
    }
    Ok(parent(path))
}

/// The directory of a path other than the root, and its name.
pub(crate) fn parent(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_owned()
    } else {
        format!("{dir}/{name}")
    }
}

/// The directory itself and all above it, the root last.
pub(crate) fn ancestors(dir: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(dir), |dir| (!dir.is_empty()).then(|| parent(dir).0))
}

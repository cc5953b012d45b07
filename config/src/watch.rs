//! Files that are followed while krocket runs: the configuration, certificates, users, tokens.
//!
//! Their bytes are read again and again instead of asking for change notices: those miss files that are replaced by
//! rename, and Kubernetes, which swaps a symbolic link to the folder.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// A file's bytes, or why they cannot be read.
pub type Content = Result<Vec<u8>, String>;

/// Files that change together, such as a certificate and its key. A change counts when it was seen at two looks: the
/// first half of a file is often valid, and of two files one is written first.
pub struct Watch {
    paths: Vec<PathBuf>,
    /// What is kept of the files to find changes is their hash: some hold passwords.
    hasher: RandomState,
    /// As they were last taken over or refused.
    known: Vec<Result<u64, String>>,
    /// As they were a look ago, where that differs.
    seen: Option<Vec<Result<u64, String>>>,
}

impl Watch {
    /// What the files hold now, in their order, and a watch that finds what differs from it.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> (Self, Vec<Content>) {
        let paths: Vec<_> = paths.into_iter().collect();
        let mut watch = Watch { paths, hasher: RandomState::new(), known: Vec::new(), seen: None };
        let contents = watch.read();
        watch.known = watch.print(&contents);
        (watch, contents)
    }

    /// What the files hold, once for every change. That they cannot be read any more is a change, too.
    pub fn look(&mut self) -> Option<Vec<Content>> {
        let contents = self.read();
        let now = self.print(&contents);
        if now == self.known {
            self.seen = None;
            return None;
        }
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now);
            return None;
        }
        (self.known, self.seen) = (now, None);
        Some(contents)
    }

    fn read(&self) -> Vec<Content> {
        let read = |path| fs::read(path).map_err(|error: std::io::Error| format!("cannot read it: {error}"));
        self.paths.iter().map(read).collect()
    }

    fn print(&self, contents: &[Content]) -> Vec<Result<u64, String>> {
        contents
            .iter()
            .map(|content| content.as_ref().map(|it| self.hasher.hash_one(it)).map_err(String::clone))
            .collect()
    }
}

/// Looks every second until it is dropped. `look` may block.
pub async fn follow(look: impl Fn() + Send + Sync + 'static) {
    look_every(EVERY, look).await;
}

async fn look_every(every: Duration, look: impl Fn() + Send + Sync + 'static) {
    let look = Arc::new(look);
    loop {
        tokio::time::sleep(every).await;
        let look = look.clone();
        // It fails when a look panicked, which was said; the next one may do better.
        let _ = tokio::task::spawn_blocking(move || look()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn watch(paths: &[&Path]) -> (Watch, Vec<Content>) {
        Watch::new(paths.iter().map(|path| path.to_path_buf()))
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).expect("written");
    }

    /// Two looks, of which the first must find nothing.
    fn look_twice(watch: &mut Watch) -> Option<Vec<Content>> {
        assert_eq!(watch.look(), None, "a change counts when it was seen twice");
        watch.look()
    }

    #[test]
    fn a_change_is_found_once_and_not_before_it_was_seen_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        write(&one, "a");
        write(&two, "b");
        let (mut watch, contents) = watch(&[&one, &two]);
        assert_eq!(contents, [Ok(b"a".to_vec()), Ok(b"b".to_vec())]);
        assert_eq!(look_twice(&mut watch), None);

        write(&two, "c");
        assert_eq!(look_twice(&mut watch), Some(vec![Ok(b"a".to_vec()), Ok(b"c".to_vec())]));
        assert_eq!(look_twice(&mut watch), None);

        // Half of it, then the rest.
        write(&one, "d");
        assert_eq!(watch.look(), None);
        write(&one, "de");
        assert_eq!(look_twice(&mut watch), Some(vec![Ok(b"de".to_vec()), Ok(b"c".to_vec())]));

        // Back before it counted.
        write(&one, "f");
        assert_eq!(watch.look(), None);
        write(&one, "de");
        assert_eq!(look_twice(&mut watch), None);
        write(&one, "f");
        assert_eq!(watch.look(), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_said_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        write(&path, "a");
        let (mut watch, _) = watch(&[&path]);

        fs::remove_file(&path).expect("removed");
        let found = look_twice(&mut watch).expect("a change");
        assert!(found[0].as_ref().is_err_and(|why| why.starts_with("cannot read it: ")), "{found:?}");
        assert_eq!(look_twice(&mut watch), None);

        write(&path, "a");
        assert_eq!(look_twice(&mut watch), Some(vec![Ok(b"a".to_vec())]));
    }

    #[test]
    fn renames_and_swapped_links_are_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(path(version)).expect("a folder");
            write(&path(version).join("file"), version);
        }
        symlink("v1", path("..data")).expect("a link");
        symlink("..data/file", path("file")).expect("a link");
        let (mut watch, contents) = watch(&[&path("file")]);
        assert_eq!(contents, [Ok(b"v1".to_vec())]);

        // As Kubernetes does it.
        symlink("v2", path("..data_tmp")).expect("a link");
        fs::rename(path("..data_tmp"), path("..data")).expect("swapped");
        assert_eq!(look_twice(&mut watch), Some(vec![Ok(b"v2".to_vec())]));

        // As most editors do it.
        write(&path("new"), "v3");
        fs::rename(path("new"), path("file")).expect("renamed");
        assert_eq!(look_twice(&mut watch), Some(vec![Ok(b"v3".to_vec())]));
    }

    #[tokio::test]
    async fn following_goes_on_after_a_panic() {
        let (looks, mut seen) = tokio::sync::watch::channel(0);
        let look = move || {
            looks.send_modify(|count| *count += 1);
            assert!(*looks.borrow() != 1, "the first look panics");
        };
        let end = async { seen.wait_for(|count| *count == 3).await.map(drop) };
        tokio::select! {
            () = look_every(Duration::from_millis(1), look) => unreachable!("it has no end"),
            seen = end => seen.expect("the looks go on"),
        }
    }
}

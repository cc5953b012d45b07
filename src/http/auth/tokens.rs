//! The tokens file: lines of `token = "User:name"`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use krocket_config::watch::{self, Content, Watch};
use krocket_stack::Principal;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Shorter tokens are refused: they can be guessed.
const MIN_TOKEN: usize = 16;

/// Tokens and whose they are.
#[derive(Default)]
pub struct Tokens {
    known: ArcSwap<Known>,
    file: Option<(PathBuf, Mutex<Watch>)>,
}

type Known = Vec<(String, Principal)>;

impl Tokens {
    /// Of this file, which must be right now.
    pub fn open(file: &Path) -> Result<Self, String> {
        let (watch, contents) = Watch::new([file.to_owned()]);
        let known = parse(file, &contents[0])?;
        Ok(Tokens { known: ArcSwap::from_pointee(known), file: Some((file.to_owned(), Mutex::new(watch))) })
    }

    /// Follows the file until `stop`; an invalid one changes nothing.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(watch::follow(move || self.look())).await;
    }

    fn look(&self) {
        let Some((file, watch)) = &self.file else { return };
        let Some(contents) = watch.lock().look() else { return };
        match parse(file, &contents[0]) {
            Ok(tokens) => {
                tracing::info!(count = tokens.len(), "the tokens of the HTTP API were read again");
                self.known.store(Arc::new(tokens));
            }
            Err(why) => tracing::error!("the tokens of the HTTP API stay as they were: {why}"),
        }
    }

    /// Whose token this is. It takes as long for a token that is nearly right as for one that is not.
    pub fn find(&self, token: &str) -> Option<Principal> {
        let tokens = self.known.load();
        let same =
            |known: &str| aws_lc_rs::constant_time::verify_slices_are_equal(known.as_bytes(), token.as_bytes()).is_ok();
        // Not `find`: every token is looked at.
        tokens.iter().fold(None, |found, (known, principal)| if same(known) { Some(principal.clone()) } else { found })
    }
}

/// An error never holds what is in the file.
fn parse(file: &Path, content: &Content) -> Result<Known, String> {
    let at = file.display();
    let bytes = content.as_ref().map_err(|why| format!("{at}: {why}"))?;
    let text = std::str::from_utf8(bytes).map_err(|_| format!("{at}: it is not UTF-8"))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..text.floor_char_boundary(span.start)].lines().count().max(1));
        format!("{at}: line {line} is not of the form token = \"User:name\"")
    })?;
    let token = |(token, user): (String, toml::Value)| match user.as_str().and_then(Principal::parse) {
        Some(_) if token.len() < MIN_TOKEN => Err(format!("{at}: a token is shorter than {MIN_TOKEN} characters")),
        Some(principal) => Ok((token, principal)),
        None => Err(format!("{at}: a token is not given to a user such as \"User:name\"")),
    };
    table.into_iter().map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "0123456789abcdef = \"User:alice\"\n";

    #[test]
    fn tokens_are_found_and_follow_their_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokens.toml");
        std::fs::write(&file, ALICE).expect("written");
        let tokens = Tokens::open(&file).expect("valid");
        assert_eq!(tokens.find("0123456789abcdef"), Some(Principal::user("alice")));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg"] {
            assert_eq!(tokens.find(wrong), None, "{wrong}");
        }

        let twice = || (tokens.look(), tokens.look());
        std::fs::write(&file, "fedcba9876543210 = \"User:bob-the-builder\"\n").expect("written");
        twice();
        assert_eq!(tokens.find("0123456789abcdef"), None);
        assert_eq!(tokens.find("fedcba9876543210"), Some(Principal::user("bob-the-builder")));

        std::fs::write(&file, "nonsense").expect("written");
        twice();
        assert_eq!(tokens.find("fedcba9876543210"), Some(Principal::user("bob-the-builder")), "as it was");
        std::fs::remove_file(&file).expect("removed");
        twice();
        assert_eq!(tokens.find("fedcba9876543210"), Some(Principal::user("bob-the-builder")), "as it was");
    }

    #[test]
    fn an_error_says_where_and_never_what() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokens.toml");
        for (text, why) in [
            ("\n0123456789secret = User:alice", "line 2"),
            ("0123456789secret = \"alice\"", "\"User:name\""),
            ("0123456789secret = 5", "\"User:name\""),
            ("secret = \"User:alice\"", "shorter than 16"),
        ] {
            std::fs::write(&file, text).expect("written");
            let error = Tokens::open(&file).err().expect(text);
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
        assert_eq!(Tokens::default().find(""), None);
    }
}

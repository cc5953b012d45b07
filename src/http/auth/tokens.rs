//! The tokens file: lines of `token = "User:name"`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use krocket_stack::Principal;
use parking_lot::Mutex;

/// Shorter tokens are refused: they can be guessed.
const MIN_TOKEN: usize = 16;

/// Tokens and whose they are. The file is looked at when somebody asks, and read again when it changed.
pub struct Tokens {
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    stamp: Option<Stamp>,
    tokens: Arc<Vec<(String, Principal)>>,
}

/// What a file looks like from outside.
type Stamp = (SystemTime, u64);

impl Tokens {
    /// Without any.
    pub fn none() -> Self {
        Tokens { file: None, known: Mutex::default() }
    }

    /// Of this file, which must be right now.
    pub fn open(file: &Path) -> Result<Self, String> {
        let known = Known { stamp: stamp(file), tokens: Arc::new(read(file)?) };
        Ok(Tokens { file: Some(file.to_owned()), known: Mutex::new(known) })
    }

    /// Whose token this is. It takes as long for a token that is nearly right as for one that is not.
    pub fn find(&self, token: &str) -> Option<Principal> {
        let tokens = self.now();
        let same =
            |known: &str| aws_lc_rs::constant_time::verify_slices_are_equal(known.as_bytes(), token.as_bytes()).is_ok();
        // Not `find`: every token is looked at.
        tokens.iter().fold(None, |found, (known, principal)| if same(known) { Some(principal.clone()) } else { found })
    }

    /// The tokens as the file has them; as it had them, where it cannot be read.
    fn now(&self) -> Arc<Vec<(String, Principal)>> {
        let mut known = self.known.lock();
        if let Some(file) = &self.file {
            let stamp = stamp(file);
            if stamp != known.stamp {
                known.stamp = stamp;
                match read(file) {
                    Ok(tokens) => {
                        tracing::info!(count = tokens.len(), "the tokens of the HTTP API were read again");
                        known.tokens = Arc::new(tokens);
                    }
                    Err(why) => tracing::error!("the tokens of the HTTP API stay as they were: {why}"),
                }
            }
        }
        known.tokens.clone()
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len()))
}

/// Reads the file; an error never holds what is in it.
fn read(file: &Path) -> Result<Vec<(String, Principal)>, String> {
    let at = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{at}: {error}"))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].lines().count().max(1));
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

        std::fs::write(&file, "fedcba9876543210 = \"User:bob-the-builder\"\n").expect("written");
        assert_eq!(tokens.find("0123456789abcdef"), None);
        assert_eq!(tokens.find("fedcba9876543210"), Some(Principal::user("bob-the-builder")));

        std::fs::write(&file, "nonsense").expect("written");
        assert_eq!(tokens.find("fedcba9876543210"), Some(Principal::user("bob-the-builder")), "as it was");
        std::fs::remove_file(&file).expect("removed");
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
        assert_eq!(Tokens::none().find(""), None);
    }
}

//! What a server keeps of a SCRAM password, and how it is made (RFC 5802, section 3).

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2, rand};

/// The hash that a credential is made with; the numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub enum ScramMechanism {
    /// SCRAM-SHA-256
    Sha256 = 1,
    /// SCRAM-SHA-512
    Sha512 = 2,
}

/// Fewest iterations of a credential (Kafka's ScramMechanism).
pub const MIN_ITERATIONS: i32 = 4096;
/// Most iterations of a credential (Kafka's ScramControlManager).
pub const MAX_ITERATIONS: i32 = 16_384;
/// Length of the salts that Kafka's own tools make, and these are indistinguishable from.
const SALT_LENGTH: usize = 26;

/// What proves that somebody knows a password, without being the password.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// Makes equal passwords look different.
    pub salt: Vec<u8>,
    /// How often the hash runs.
    pub iterations: i32,
    /// H(ClientKey): what a proof is checked against.
    pub stored_key: Vec<u8>,
    /// What the server proves itself with.
    pub server_key: Vec<u8>,
}

impl fmt::Debug for ScramCredential {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "ScramCredential({} iterations)", self.iterations)
    }
}

impl ScramMechanism {
    /// The mechanism of Kafka's number.
    pub fn from_number(number: i8) -> Option<Self> {
        [ScramMechanism::Sha256, ScramMechanism::Sha512].into_iter().find(|it| *it as i8 == number)
    }

    /// Bytes of a hash.
    pub fn length(self) -> usize {
        match self {
            ScramMechanism::Sha256 => 32,
            ScramMechanism::Sha512 => 64,
        }
    }

    /// HMAC(key, data)
    pub fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            ScramMechanism::Sha256 => hmac::HMAC_SHA256,
            ScramMechanism::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec()
    }

    /// H(data)
    pub fn hash(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            ScramMechanism::Sha256 => &digest::SHA256,
            ScramMechanism::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }

    /// Hi(password, salt, iterations). It takes milliseconds: that is its point.
    pub fn salted(self, password: &[u8], salt: &[u8], iterations: i32) -> Vec<u8> {
        let algorithm = match self {
            ScramMechanism::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            ScramMechanism::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        };
        let mut out = vec![0; self.length()];
        let iterations = u32::try_from(iterations).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        pbkdf2::derive(algorithm, iterations, salt, password, &mut out);
        out
    }

    /// The credential of a salted password, which is forgotten.
    pub fn credential(self, salted: &[u8], salt: Vec<u8>, iterations: i32) -> ScramCredential {
        let client_key = self.hmac(salted, b"Client Key");
        let server_key = self.hmac(salted, b"Server Key");
        ScramCredential { salt, iterations, stored_key: self.hash(&client_key), server_key }
    }

    /// The credential of a password, with a new salt.
    pub fn derive(self, password: &str, iterations: i32) -> ScramCredential {
        let mut random = [0; SALT_LENGTH];
        // It fails where the operating system has no randomness, which is no state to run in.
        rand::fill(&mut random).expect("the system's random numbers");
        let salt = printable(&random);
        self.credential(&self.salted(password.as_bytes(), &salt, iterations), salt, iterations)
    }

    /// True when the credential is this password's. As slow as [`ScramMechanism::salted`].
    pub fn is_password(self, credential: &ScramCredential, password: &str) -> bool {
        let salted = self.salted(password.as_bytes(), &credential.salt, credential.iterations);
        let stored_key = self.hash(&self.hmac(&salted, b"Client Key"));
        constant_time::verify_slices_are_equal(&stored_key, &credential.stored_key).is_ok()
    }

    /// A credential that nobody has, the same for the same name: an unknown user looks like a known one.
    pub fn nobody(self, secret: &[u8], name: &str) -> ScramCredential {
        let seed = self.hmac(secret, name.as_bytes());
        let random = self.hmac(&seed, b"salt");
        let stored_key = self.hmac(&seed, b"stored key");
        let server_key = self.hmac(&seed, b"server key");
        ScramCredential { salt: printable(&random[..SALT_LENGTH]), iterations: MIN_ITERATIONS, stored_key, server_key }
    }
}

/// Kafka's tools make salts of digits and small letters.
fn printable(random: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    random.iter().map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_password_is_salted_as_rfc_6070s_method_says_for_sha_256() {
        // The widely published vector of PBKDF2-HMAC-SHA256.
        let salted = ScramMechanism::Sha256.salted(b"password", b"salt", 4096);
        assert_eq!(hex(&salted), "c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a");
    }

    #[test]
    fn a_credential_knows_its_password_and_no_other() {
        for mechanism in [ScramMechanism::Sha256, ScramMechanism::Sha512] {
            let credential = mechanism.derive("secret", MIN_ITERATIONS);
            assert!(mechanism.is_password(&credential, "secret"));
            for other in ["Secret", "secret ", ""] {
                assert!(!mechanism.is_password(&credential, other), "{other:?}");
            }
            assert_ne!(mechanism.derive("secret", MIN_ITERATIONS).salt, credential.salt);
        }
    }

    #[test]
    fn nobody_is_always_the_same_nobody() {
        let nobody = |name| ScramMechanism::Sha256.nobody(b"secret", name);
        assert_eq!(nobody("eve"), nobody("eve"));
        assert_ne!(nobody("eve").salt, nobody("mallory").salt);
        assert_ne!(nobody("eve").salt, ScramMechanism::Sha256.nobody(b"other", "eve").salt);
        assert_eq!(nobody("eve").salt.len(), ScramMechanism::Sha256.derive("x", MIN_ITERATIONS).salt.len());
    }

    #[test]
    fn a_credential_is_not_shown() {
        let credential = ScramMechanism::Sha256.derive("secret", MIN_ITERATIONS);
        assert_eq!(format!("{credential:?}"), "ScramCredential(4096 iterations)");
    }
}

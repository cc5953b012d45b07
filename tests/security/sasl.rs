//! SASL: who comes in, who does not, what they are told, and for how long it holds.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    AlterUserScramCredentialsRequest, ScramCredentialUpsertion,
};
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest, SaslAuthenticateRequest};
use kafka_protocol::protocol::StrBytes;
use krocket_config::Config;
use krocket_config::security::Mechanism;
use krocket_stack::security::ScramMechanism;
use krocket_testkit::{Client, Krocket, PATIENCE, soon};
use tokio::io::AsyncReadExt;

use crate::sasl_client::{bearer, handshake, plain, scram, scram_first, token};
use crate::tokens::Provider;
use crate::world::{Authority, connect, listener, tls};

const FAILED: i16 = 58;
const ILLEGAL_STATE: i16 = 34;
const UNSUPPORTED_MECHANISM: i16 = 33;
const PLAIN_REFUSAL: &str = "Authentication failed: Invalid username or password";

fn scram_refusal(mechanism: &str) -> (i16, String) {
    (
        FAILED,
        format!(
            "Authentication failed during authentication due to invalid credentials with SASL mechanism {mechanism}"
        ),
    )
}

/// One listener `sasl` with these mechanisms, alice and bob in the users file, and one, `open`, for everybody.
async fn start(folder: &Path, mechanisms: &[Mechanism], change: impl FnOnce(&mut Config)) -> Krocket {
    let users = folder.join("users.toml");
    std::fs::write(&users, "alice = \"wonder land\"\nbob = \"builder\"\n").expect("written");
    Krocket::start_with(|config| {
        let mut sasl = listener("sasl", None);
        sasl.sasl = mechanisms.to_vec();
        config.listeners = vec![listener("open", None), sasl];
        config.security.users_file = Some(users);
        change(config);
    })
    .await
}

const PASSWORDS: &[Mechanism] = &[Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512];

async fn client(krocket: &Krocket) -> Client {
    Client::connect(krocket.listener("sasl")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_of_the_users_file_open_and_others_do_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let krocket = start(folder.path(), PASSWORDS, |_| {}).await;
    for (user, password, good) in
        [("alice", "wonder land", true), ("bob", "builder", true), ("alice", "builder", false), ("eve", "x", false)]
    {
        let mut by_plain = client(&krocket).await;
        let expected = if good { Ok(0) } else { Err((FAILED, PLAIN_REFUSAL.to_owned())) };
        assert_eq!(plain(&mut by_plain, user, password).await, expected, "{user}");
        for (mechanism, name) in [(ScramMechanism::Sha256, "SCRAM-SHA-256"), (ScramMechanism::Sha512, "SCRAM-SHA-512")]
        {
            let mut by_scram = client(&krocket).await;
            let expected = if good { Ok(0) } else { Err(scram_refusal(name)) };
            assert_eq!(scram(&mut by_scram, mechanism, user, password).await, expected, "{user} {name}");
            match good {
                true => assert_eq!(by_scram.call(12, &MetadataRequest::default()).await.brokers.len(), 1),
                false => by_scram.expect_close().await,
            }
        }
        match good {
            true => assert_eq!(by_plain.call(12, &MetadataRequest::default()).await.brokers.len(), 1),
            false => by_plain.expect_close().await,
        }
    }
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_client_is_known_it_may_do_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let krocket = start(folder.path(), PASSWORDS, |_| {}).await;

    // Versions may be asked for.
    let mut early = client(&krocket).await;
    assert_eq!(early.call(0, &ApiVersionsRequest::default()).await.error_code, 0);
    early.send_request(12, &MetadataRequest::default()).await;
    early.expect_close().await;

    let mut between = client(&krocket).await;
    handshake(&mut between, 1, "PLAIN").await;
    between.send_request(12, &MetadataRequest::default()).await;
    between.expect_close().await;

    let mut hasty = client(&krocket).await;
    assert_eq!(token(&mut hasty, "\0alice\0wonder land").await.error_code, ILLEGAL_STATE);
    hasty.expect_close().await;

    let mut foreign = client(&krocket).await;
    let answer = handshake(&mut foreign, 1, "GSSAPI").await;
    let names: Vec<&str> = answer.mechanisms.iter().map(|name| name.as_str()).collect();
    assert_eq!((answer.error_code, names), (UNSUPPORTED_MECHANISM, vec!["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]));
    foreign.expect_close().await;

    // Half a megabyte is enough for a token.
    let mut big = client(&krocket).await;
    big.send(&(600_i32 << 10).to_be_bytes()).await;
    big.expect_close().await;

    // Where nobody has to say who they are, nobody can.
    let mut open = Client::connect(krocket.listener("open")).await;
    assert_eq!(handshake(&mut open, 1, "PLAIN").await.error_code, ILLEGAL_STATE);
    assert_eq!(token(&mut open, "\0a\0b").await.error_code, ILLEGAL_STATE);
    open.call(12, &MetadataRequest::default()).await;
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_old_handshake_tokens_come_without_a_request_round_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let krocket = start(folder.path(), PASSWORDS, |_| {}).await;
    let mut good = client(&krocket).await;
    assert_eq!(handshake(&mut good, 0, "PLAIN").await.error_code, 0);
    good.send_frame(b"\0alice\0wonder land").await;
    assert_eq!(soon("an empty token", good.stream.read_i32()).await.expect("a length"), 0);
    assert_eq!(good.call(12, &MetadataRequest::default()).await.brokers.len(), 1);

    let mut bad = client(&krocket).await;
    handshake(&mut bad, 0, "PLAIN").await;
    bad.send_frame(b"\0alice\0x").await;
    bad.expect_close().await;
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_are_sent_away_and_known_clients_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let patience = Duration::from_millis(300);
    let krocket = start(folder.path(), PASSWORDS, |config| config.limits.receive_timeout = patience).await;
    let mut known = client(&krocket).await;
    plain(&mut known, "alice", "wonder land").await.expect("comes in");
    let mut stranger = client(&krocket).await;
    assert_eq!(stranger.call(0, &ApiVersionsRequest::default()).await.error_code, 0);
    stranger.expect_close().await;
    known.call(12, &MetadataRequest::default()).await;
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_made_with_kafkas_call_come_in_by_every_password_mechanism_and_survive() {
    let folder = tempfile::tempdir().expect("a folder");
    let krocket = start(folder.path(), PASSWORDS, |_| {}).await;
    let upsert = |user: &'static str, mechanism: ScramMechanism, password: &str| {
        ScramCredentialUpsertion::default()
            .with_name(StrBytes::from_static_str(user))
            .with_mechanism(mechanism as i8)
            .with_iterations(8192)
            .with_salt(b"salt"[..].into())
            .with_salted_password(mechanism.salted(password.as_bytes(), b"salt", 8192).into())
    };
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![
        upsert("carol", ScramMechanism::Sha512, "new"),
        // bob's password of the file no longer counts.
        upsert("bob", ScramMechanism::Sha256, "new"),
    ]);
    let response = Client::connect(krocket.listener("open")).await.call(0, &request).await;
    assert!(response.results.iter().all(|result| result.error_code == 0), "{response:?}");

    let krocket = krocket.restart().await;
    assert_eq!(plain(&mut client(&krocket).await, "carol", "new").await, Ok(0));
    assert_eq!(plain(&mut client(&krocket).await, "bob", "new").await, Ok(0));
    assert!(plain(&mut client(&krocket).await, "bob", "builder").await.is_err());
    assert_eq!(scram(&mut client(&krocket).await, ScramMechanism::Sha512, "carol", "new").await, Ok(0));
    assert_eq!(scram(&mut client(&krocket).await, ScramMechanism::Sha256, "bob", "new").await, Ok(0));
    let other = scram(&mut client(&krocket).await, ScramMechanism::Sha256, "carol", "new").await;
    assert_eq!(other, Err(scram_refusal("SCRAM-SHA-256")), "there is none for this mechanism");
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_cannot_be_found_out_by_their_salts() {
    let folder = tempfile::tempdir().expect("a folder");
    let krocket = start(folder.path(), PASSWORDS, |_| {}).await;
    let salt = async |krocket: &Krocket, user: &str| {
        let bare = format!("n={user},r=abc");
        let answer = scram_first(&mut client(krocket).await, ScramMechanism::Sha256, &bare).await;
        assert_eq!(answer.error_code, 0);
        let text = String::from_utf8(answer.auth_bytes.to_vec()).expect("text");
        let (_, rest) = text.split_once(",s=").expect("a salt");
        let (salt, iterations) = rest.split_once(",i=").expect("iterations");
        (BASE64.decode(salt).expect("base64"), iterations.to_owned())
    };
    let (alice, eve) = (salt(&krocket, "alice").await, salt(&krocket, "eve").await);
    assert_eq!((alice.0.len(), &alice.1), (eve.0.len(), &eve.1));
    assert_eq!((&salt(&krocket, "alice").await, &salt(&krocket, "eve").await), (&alice, &eve));
    assert_ne!(salt(&krocket, "mallory").await, eve);
    let krocket = krocket.restart().await;
    assert_eq!(salt(&krocket, "eve").await, eve);

    // Delegation tokens are another thing, and not here.
    let bare = "n=alice,r=abc,tokenauth=true";
    let answer = scram_first(&mut client(&krocket).await, ScramMechanism::Sha256, bare).await;
    assert_eq!(answer.error_code, FAILED);
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_users_file_holds_for_the_next_login() {
    let folder = tempfile::tempdir().expect("a folder");
    let krocket = start(folder.path(), PASSWORDS, |_| {}).await;
    std::fs::write(folder.path().join("users.toml"), "alice = \"other\"\n").expect("written");
    let changed = async { while plain(&mut client(&krocket).await, "alice", "other").await.is_err() {} };
    tokio::time::timeout(PATIENCE, changed).await.expect("the new password counts");
    assert!(plain(&mut client(&krocket).await, "alice", "wonder land").await.is_err());
    assert!(plain(&mut client(&krocket).await, "bob", "builder").await.is_err());
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_unless_the_same_user_proves_it_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let reauth = Duration::from_secs(2);
    let krocket = start(folder.path(), PASSWORDS, |config| config.security.max_reauth = Some(reauth)).await;
    let lifetime = 2000;

    let mut renewed = client(&krocket).await;
    assert_eq!(scram(&mut renewed, ScramMechanism::Sha256, "alice", "wonder land").await, Ok(lifetime));
    let mut left = client(&krocket).await;
    assert_eq!(plain(&mut left, "alice", "wonder land").await, Ok(lifetime));
    // Version 0 does not tell the lifetime, and it holds all the same.
    let mut old = client(&krocket).await;
    handshake(&mut old, 1, "PLAIN").await;
    let request = SaslAuthenticateRequest::default().with_auth_bytes("\0alice\0wonder land".into());
    assert_eq!(old.call(0, &request).await.error_code, 0);

    let started = tokio::time::Instant::now();
    while started.elapsed() < reauth + Duration::from_millis(100) {
        renewed.call(12, &MetadataRequest::default()).await;
        assert_eq!(scram(&mut renewed, ScramMechanism::Sha256, "alice", "wonder land").await, Ok(lifetime));
    }
    renewed.call(12, &MetadataRequest::default()).await;
    for mut expired in [left, old] {
        expired.send_request(12, &MetadataRequest::default()).await;
        expired.expect_close().await;
    }

    let mut other = client(&krocket).await;
    scram(&mut other, ScramMechanism::Sha256, "alice", "wonder land").await.expect("comes in");
    let refused = scram(&mut other, ScramMechanism::Sha256, "bob", "builder").await;
    let message = "Cannot change principals during re-authentication from User:alice to User:bob";
    assert_eq!(refused, Err((FAILED, message.to_owned())));
    other.expect_close().await;

    let mut weaker = client(&krocket).await;
    scram(&mut weaker, ScramMechanism::Sha256, "alice", "wonder land").await.expect("comes in");
    let (code, message) = plain(&mut weaker, "alice", "wonder land").await.expect_err("another mechanism");
    assert!(code == FAILED && message.contains("not supported for re-authentication"), "{message}");
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_provider_open_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let provider = Provider::new("k1");
    let keys = folder.path().join("jwks.json");
    std::fs::write(&keys, provider.jwks()).expect("written");
    let krocket = start(folder.path(), &[Mechanism::OauthBearer], |config| {
        config.security.oauthbearer = Some(provider.config(&keys.display().to_string()));
    })
    .await;

    let good = provider.token(|_| {});
    let mut known = client(&krocket).await;
    let lifetime = bearer(&mut known, &good).await.expect("comes in");
    assert!((1..=60_000).contains(&lifetime), "{lifetime}");
    known.call(12, &MetadataRequest::default()).await;

    let refused = (FAILED, r#"{"status":"invalid_token"}"#.to_owned());
    let now = Provider::now();
    for (what, jwt) in [
        ("expired", provider.token(|claims| claims["exp"] = (now - 120).into())),
        ("without an end", provider.token(|claims| drop(claims.as_object_mut().expect("an object").remove("exp")))),
        ("not yet valid", provider.token(|claims| claims["nbf"] = (now + 600).into())),
        ("another issuer", provider.token(|claims| claims["iss"] = "https://evil.example".into())),
        ("another audience", provider.token(|claims| claims["aud"] = "other".into())),
        ("without a subject", provider.token(|claims| claims["sub"] = 7.into())),
        ("another key of that name", Provider::new("k1").token(|_| {})),
        ("an unsigned one", provider.unsigned()),
        ("signed with the public key as a secret", provider.signed_with_public_key()),
        ("cut off", good[..good.len() - 4].to_owned()),
        ("nonsense", "nonsense".to_owned()),
    ] {
        let mut stranger = client(&krocket).await;
        assert_eq!(bearer(&mut stranger, &jwt).await, Err(refused.clone()), "{what}");
        stranger.expect_close().await;
    }

    // The provider has a new key: the first token that names it has the keys read again.
    let next = Provider::new("k2");
    std::fs::write(&keys, next.jwks()).expect("written");
    let changed = async { while bearer(&mut client(&krocket).await, &next.token(|_| {})).await.is_err() {} };
    tokio::time::timeout(PATIENCE, changed).await.expect("the new key counts");
    assert!(bearer(&mut client(&krocket).await, &good).await.is_err(), "the old key is gone");
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_the_providers_address_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let provider = Provider::new("k1");
    let secure = provider.serve(Some(&authority.sign("id"))).await;
    let krocket = start(folder.path(), &[Mechanism::OauthBearer], |config| {
        let mut oauth = provider.config(&secure);
        oauth.jwks_ca = Some(authority.file());
        config.security.oauthbearer = Some(oauth);
    })
    .await;
    let known = async { while bearer(&mut client(&krocket).await, &provider.token(|_| {})).await.is_err() {} };
    tokio::time::timeout(PATIENCE, known).await.expect("the keys are fetched");
    krocket.stop().await;

    let open = provider.serve(None).await;
    let krocket = start(folder.path(), &[Mechanism::OauthBearer], |config| {
        config.security.oauthbearer = Some(provider.config(&open));
    })
    .await;
    let known = async { while bearer(&mut client(&krocket).await, &provider.token(|_| {})).await.is_err() {} };
    tokio::time::timeout(PATIENCE, known).await.expect("the keys are fetched");
    krocket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sasl_goes_over_tls_and_a_token_ends_the_session() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    let provider = Provider::new("k1");
    let keys = folder.path().join("jwks.json");
    std::fs::write(&keys, provider.jwks()).expect("written");
    let krocket = start(folder.path(), &[], |config| {
        let mut both = listener("both", Some(tls(&authority.sign("krocket"))));
        both.sasl = vec![Mechanism::Plain, Mechanism::OauthBearer];
        config.listeners.push(both);
        config.security.oauthbearer = Some(provider.config(&keys.display().to_string()));
    })
    .await;
    let trusting = authority.client(None);
    let mut by_password = connect(krocket.listener("both"), &trusting).await;
    assert_eq!(plain(&mut by_password, "alice", "wonder land").await, Ok(0));
    by_password.call(12, &MetadataRequest::default()).await;

    let mut short = connect(krocket.listener("both"), &trusting).await;
    let jwt = provider.token(|claims| claims["exp"] = (Provider::now() + 2).into());
    let lifetime = bearer(&mut short, &jwt).await.expect("comes in");
    assert!((1..=2000).contains(&lifetime), "{lifetime}");
    tokio::time::sleep(Duration::from_millis(lifetime as u64 + 50)).await;
    short.send_request(12, &MetadataRequest::default()).await;
    short.expect_close().await;
    krocket.stop().await;
}

//! One document by HTTP or HTTPS: all that a provider's keys need.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls;

/// From the connection to the answer's last byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer.
const MAX_BYTES: u64 = 1 << 20;

/// An address of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    secure: bool,
    host: String,
    port: u16,
    /// Host and port as they were written.
    authority: String,
    path: String,
    authorities: Option<PathBuf>,
}

impl Url {
    /// `authorities` are the ones to trust instead of the system's.
    pub(super) fn parse(text: &str, authorities: Option<&Path>) -> Result<Self, String> {
        let wrong = || "not an http or https URL without user name".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let secure = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
            return Err(wrong());
        }
        let bracket = authority.rfind(']').unwrap_or(0);
        let (host, port) = match authority[bracket..].rfind(':') {
            Some(at) => (&authority[..bracket + at], authority[bracket + at + 1..].parse().map_err(|_| wrong())?),
            None => (authority, if secure { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong());
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let authorities = authorities.map(Path::to_owned);
        Ok(Url { secure, host: host.to_owned(), port, authority: authority.to_owned(), path, authorities })
    }
}

/// The document.
pub(super) async fn get(url: &Url) -> Result<Vec<u8>, String> {
    match timeout(PATIENCE, get_slowly(url)).await {
        Ok(document) => document,
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}

async fn get_slowly(url: &Url) -> Result<Vec<u8>, String> {
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| error.to_string())?;
    if !url.secure {
        return ask(stream, url).await;
    }
    let name = ServerName::try_from(url.host.clone()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(tls::client(url.authorities.as_deref())?));
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    ask(stream, url).await
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, url: &Url) -> Result<Vec<u8>, String> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nUser-Agent: krocket\r\nConnection: close\r\n\r\n",
        url.path, url.authority
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    stream.flush().await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    match stream.take(MAX_BYTES + 1).read_to_end(&mut answer).await {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error.to_string()),
        _ if answer.len() as u64 > MAX_BYTES => Err(format!("the answer is longer than {MAX_BYTES} bytes")),
        _ => body(&answer),
    }
}

/// The body of a whole answer.
fn body(answer: &[u8]) -> Result<Vec<u8>, String> {
    let short = || "the answer is not complete".to_owned();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(short)?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| "the answer is not HTTP".to_owned())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    if status != "200" {
        return Err(format!("the answer's status is {status:?}"));
    }
    let headers = || lines.clone().filter_map(|line| line.split_once(':'));
    let header = |name: &str| headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    let body = &answer[end + 4..];
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return unchunk(body).ok_or_else(short);
    }
    match header("content-length").map(str::parse::<usize>) {
        Some(Ok(length)) => body.get(..length).map(<[u8]>::to_vec).ok_or_else(short),
        Some(Err(_)) => Err("the answer's length is not a number".to_owned()),
        None => Ok(body.to_vec()),
    }
}

fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let line = body.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&body[..line]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        body = &body[line + 2..];
        if size == 0 {
            return Some(out);
        }
        out.extend_from_slice(body.get(..size)?);
        body = body.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, expected) in [
            ("https://id.example/keys?x=1", Some((true, "id.example", 443, "/keys?x=1"))),
            ("http://127.0.0.1:8080", Some((false, "127.0.0.1", 8080, "/"))),
            ("http://[::1]:8080/a", Some((false, "::1", 8080, "/a"))),
            ("https://[::1]/a", Some((true, "::1", 443, "/a"))),
            ("ftp://a/", None),
            ("http:///a", None),
            ("http://user:password@a/", None),
            ("http://a:b/", None),
            ("http://a/\r\nX: y", None),
        ] {
            let url = Url::parse(text, None).ok();
            let parts = url.as_ref().map(|url| (url.secure, url.host.as_str(), url.port, url.path.as_str()));
            assert_eq!(parts, expected, "{text}");
        }
    }

    #[test]
    fn answers_are_read_whole_or_refused() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Some("{}")),
            ("HTTP/1.0 200 OK\r\n\r\n{}", Some("{}")),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n", Some("{}")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", None),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}", None),
            ("HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\n", None),
            ("", None),
        ] {
            assert_eq!(body(answer.as_bytes()).ok().as_deref(), expected.map(str::as_bytes), "{answer}");
        }
    }
}

//! Plays wire bytes back to the client, a few at a time.

use super::*;
use std::io::Cursor;

/// A stream that plays back bytes a few at a time, as a network may.
struct Playback {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Playback {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let few = buf.len().min(3);
        self.input.read(&mut buf[..few])
    }
}

impl Write for Playback {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn playback(bytes: &[u8]) -> Connection<Playback> {
    Connection::new(Playback {
        input: Cursor::new(bytes.to_vec()),
        output: Vec::new(),
    })
}

#[test]
fn two_responses_on_one_connection_are_told_apart() {
    let mut connection = playback(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\r\nWWW-Authenticate: A\r\nwww-authenticate:B \r\n\
          Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nt: 1\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP",
    );
    let first = connection.read_response().unwrap();
    assert_eq!((first.status, first.text().as_str()), (401, "abcde"));
    assert_eq!(first.all("www-authenticate").collect::<Vec<_>>(), [b"A", b"B"]);
    assert_eq!(first.trailers, [(b"t".to_vec(), b"1".to_vec())]);
    let second = connection.read_response().unwrap();
    assert_eq!((second.status, second.text().as_str()), (200, "ok"));
    assert!(matches!(connection.read_response(), Err(HttpError::Closed(rest)) if rest == b"HTTP"));
}

#[test]
fn header_bytes_go_out_as_given() {
    let mut connection = playback(b"HTTP/1.1 204 No Content\r\n\r\n");
    let request = Request::get("/").header("x", b"\xff\x80").host("h");
    connection.exchange(&request).unwrap();
    assert_eq!(
        connection.stream().output,
        b"GET / HTTP/1.1\r\nhost: h\r\nx: \xff\x80\r\n\r\n"
    );
}

#[test]
fn a_body_cut_short_is_an_error() {
    let mut connection = playback(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort");
    assert!(matches!(connection.read_response(), Err(HttpError::Closed(_))));
}

#[test]
fn a_refusal_of_the_brokers_that_says_what_was_sent_is_an_error() {
    let secret = "c2VjcmV0LW9mLXRoZS1yZWZ1c2FsLXRlc3Qtb25l";
    let answer = |body: String| {
        let head = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n", body.len());
        let request = Request::post("/oauth2/token", format!("subject_token={secret}"));
        playback(format!("{head}{body}").as_bytes()).exchange(&request)
    };
    let told = answer(format!(
        r#"{{"error":"invalid_grant","error_description":"not {secret}"}}"#
    ));
    assert!(matches!(told, Err(HttpError::Leaked(_))), "{told:?}");
    // The acceptor's own token is the filter's to have.
    assert!(answer(format!(r#"{{"error":"invalid_grant","negotiate":"{secret}"}}"#)).is_ok());
    assert!(answer(r#"{"error":"invalid_grant"}"#.to_owned()).is_ok());
}

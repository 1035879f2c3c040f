//! Answering with a file: ETag, If-None-Match, a single Range, HEAD (RFC 9110 sections 13 and 14).

use std::ops::Range;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cid::Cid;
use node::Node;

use super::{PLAYLIST, header_value};
use crate::live::LiveText;

/// What is not known to be something else.
pub(crate) const OCTETS: &str = "application/octet-stream";

/// Bytes at a file's beginning that tell what it is, where its name does not (WHATWG, MIME Sniffing, 5.2).
pub(crate) const SNIFFED: u64 = 512;

/// From this size on text is compressed. What is smaller comes at once either way: a connection begins with ten packets (RFC 6928).
const LARGE: u64 = 16 << 10;

/// A file that never changes.
pub(crate) struct Content {
    /// What identifies its bytes.
    tag: String,
    media_type: String,
    size: u64,
    place: Place,
}

enum Place {
    Memory(Vec<Bytes>),
    Store(Node, Cid),
}

impl Content {
    pub(crate) fn memory(
        tag: impl ToString,
        media_type: impl Into<String>,
        parts: Vec<Bytes>,
    ) -> Content {
        Content {
            tag: tag.to_string(),
            media_type: media_type.into(),
            size: parts.iter().map(|part| part.len() as u64).sum(),
            place: Place::Memory(parts),
        }
    }

    pub(crate) fn stored(
        node: &Node,
        cid: Cid,
        media_type: impl Into<String>,
        size: u64,
    ) -> Content {
        Content {
            tag: cid.to_string(),
            media_type: media_type.into(),
            size,
            place: Place::Store(node.clone(), cid),
        }
    }

    /// Under another tag than its own.
    pub(crate) fn tagged(self, tag: impl ToString) -> Content {
        let tag = tag.to_string();
        Content { tag, ..self }
    }

    /// A broadcast's player and its long playlists.
    fn shrinks(&self) -> bool {
        let kind = self.media_type.as_str();
        self.size >= LARGE && (kind == PLAYLIST || kind.starts_with("text/html"))
    }

    /// Whether the answer is left to be compressed. Its bytes are then not those of the file: it has no ranges and a weak tag, or who
    /// goes on with `If-Range` would get the end of one behind the beginning of the other.
    fn is_compressed_for(&self, request: &HeaderMap) -> bool {
        let accepted = request.get_all(header::ACCEPT_ENCODING).iter();
        let mut accepted = accepted.filter_map(|accepted| accepted.to_str().ok());
        self.shrinks()
            && !request.contains_key(header::RANGE)
            && accepted.any(|accepted| accepted.contains("gzip"))
    }

    pub(crate) fn respond(self, request: &HeaderMap, cache: &str) -> Response {
        let etag = format!("\"{}\"", self.tag);
        let mut headers = HeaderMap::new();
        let compressed = self.is_compressed_for(request);
        let weak = if compressed { "W/" } else { "" };
        headers.insert(header::ETAG, header_value(&format!("{weak}{etag}")));
        headers.insert(header::CACHE_CONTROL, header_value(cache));
        if self.shrinks() {
            headers.append(header::VARY, header_value("accept-encoding"));
        }
        if matches_etag(request, &etag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(header::CONTENT_TYPE, header_value(&self.media_type));
        if !compressed {
            headers.insert(header::ACCEPT_RANGES, header_value("bytes"));
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, header_value("nosniff"));
        let (status, range) = match requested_range(request, &etag, self.size) {
            Requested::All => (StatusCode::OK, 0..self.size),
            Requested::Part(range) => {
                let value = format!("bytes {}-{}/{}", range.start, range.end - 1, self.size);
                headers.insert(header::CONTENT_RANGE, header_value(&value));
                (StatusCode::PARTIAL_CONTENT, range)
            }
            Requested::Unsatisfiable => {
                let value = format!("bytes */{}", self.size);
                headers.insert(header::CONTENT_RANGE, header_value(&value));
                return (StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response();
            }
        };
        let length = range.end - range.start;
        headers.insert(header::CONTENT_LENGTH, header_value(&length.to_string()));
        let body = match self.place {
            Place::Memory(parts) => Body::from_stream(futures::stream::iter(
                slices(parts, range).map(Ok::<_, std::convert::Infallible>),
            )),
            Place::Store(node, cid) => Body::from_stream(node.read(cid, range)),
        };
        (status, headers, body).into_response()
    }
}

impl LiveText {
    /// Answers with a playlist of the origin. It is small and has no ranges.
    pub(crate) fn respond(self, request: &HeaderMap, cache: &str) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, header_value(&self.etag));
        headers.insert(header::CACHE_CONTROL, header_value(cache));
        if matches_etag(request, self.etag.trim_start_matches("W/")) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(header::CONTENT_TYPE, header_value(PLAYLIST));
        (headers, self.bytes).into_response()
    }
}

/// The pieces of `parts` that lie in `range`, without a copy.
fn slices(parts: Vec<Bytes>, range: Range<u64>) -> impl Iterator<Item = Bytes> + Send + 'static {
    let mut at = 0;
    parts.into_iter().filter_map(move |part| {
        let start = at;
        at += part.len() as u64;
        let from = range.start.clamp(start, at) - start;
        let to = range.end.clamp(start, at) - start;
        (from < to).then(|| part.slice(from as usize..to as usize))
    })
}

/// `If-None-Match` (RFC 9110 section 13.1.2): a list of tags, weak comparison.
pub(crate) fn matches_etag(request: &HeaderMap, etag: &str) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag == etag)
}

#[derive(Debug, PartialEq, Eq)]
enum Requested {
    All,
    Part(Range<u64>),
    Unsatisfiable,
}

/// One range. Of several the first: an answer says itself what it is (RFC 9110 section 15.3.7). One that is not understood gets
/// the whole file, which a server may always send.
fn requested_range(request: &HeaderMap, etag: &str, size: u64) -> Requested {
    let Some(value) = request
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok())
    else {
        return Requested::All;
    };
    if let Some(condition) = request.get(header::IF_RANGE)
        && condition.as_bytes() != etag.as_bytes()
    {
        return Requested::All;
    }
    let Ok(parsed) = http_range_header::parse_range_header(value) else {
        return Requested::All;
    };
    match parsed.validate(size) {
        Ok(ranges) => ranges.first().map_or(Requested::All, |range| {
            Requested::Part(*range.start()..*range.end() + 1)
        }),
        Err(_) => Requested::Unsatisfiable,
    }
}

/// Media type by file name (RFC 8216 section 4, Apple authoring specification 1.14 for segments).
pub(crate) fn known_media_type(path: &str) -> Option<String> {
    let kind = match path.rsplit('.').next() {
        Some("m3u8") => PLAYLIST,
        Some("m4s") => "video/iso.segment",
        Some("mp4") => "video/mp4",
        _ => {
            return mime_guess::from_path(path)
                .first()
                .map(|kind| kind.to_string());
        }
    };
    Some(kind.to_owned())
}

pub(crate) fn media_type(path: &str) -> String {
    known_media_type(path).unwrap_or_else(|| OCTETS.to_owned())
}

/// Whether a file that begins so is text: UTF-8, which may be cut off, without what a terminal would not show.
pub(crate) fn looks_like_text(head: &[u8]) -> bool {
    let text = match str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_some() => return false,
        Err(error) => str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
    };
    let is_shown = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\x0c' | '\r' | '\x1b');
    text.chars().all(is_shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_range(range: &str, if_range: Option<&str>, expected: Requested) {
        let mut request = HeaderMap::new();
        request.insert(header::RANGE, header_value(range));
        if let Some(condition) = if_range {
            request.insert(header::IF_RANGE, header_value(condition));
        }
        assert_eq!(
            requested_range(&request, "\"tag\"", 1000),
            expected,
            "{range}"
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_range_is_asked_for_it_is_within_the_file(
            range in "(bytes)?=?[0-9]{0,20}-?[0-9]{0,20}(,[ -~]{0,8})?",
            size in 0u64..5000,
        ) {
            let mut request = HeaderMap::new();
            request.insert(header::RANGE, header_value(&range));
            if let Requested::Part(part) = requested_range(&request, "", size) {
                assert!(part.start < part.end && part.end <= size, "{range}: {part:?} of {size}");
            }
        }
    }

    #[test]
    fn a_single_range_is_served() {
        check_range("bytes=0-99", None, Requested::Part(0..100));
        check_range("bytes=900-", None, Requested::Part(900..1000));
        check_range("bytes=-100", None, Requested::Part(900..1000));
        check_range("bytes=0-5000", None, Requested::Part(0..1000));
        check_range("bytes=0-99", Some("\"tag\""), Requested::Part(0..100));
        check_range("bytes=0-99", Some("\"other\""), Requested::All);
        check_range("bytes=1000-", None, Requested::Unsatisfiable);
        check_range("bytes=6-16,0-4", None, Requested::Part(6..17));
        check_range("lines=0-1", None, Requested::All);
        check_range("bytes=nonsense", None, Requested::All);
    }

    /// The tag, whether ranges are offered, and the status.
    fn check_large_text(asked: &[(header::HeaderName, &str)], expected: (&str, bool, u16)) {
        let mut request = HeaderMap::new();
        for (name, value) in asked {
            request.insert(name, header_value(value));
        }
        let text = Bytes::from(vec![b'#'; LARGE as usize]);
        let response = Content::memory("tag", PLAYLIST, vec![text]).respond(&request, "");
        let headers = response.headers();
        assert_eq!(headers[header::VARY], "accept-encoding");
        let ranges = headers.contains_key(header::ACCEPT_RANGES);
        let etag = headers[header::ETAG].to_str().unwrap();
        assert_eq!(
            (etag, ranges, response.status().as_u16()),
            expected,
            "{asked:?}"
        );
    }

    #[test]
    fn what_is_compressed_cannot_be_mixed_with_what_is_not() {
        use header::{ACCEPT_ENCODING, IF_NONE_MATCH, IF_RANGE, RANGE};
        let gzip = (ACCEPT_ENCODING, "gzip, br");
        let range = (RANGE, "bytes=9-");
        check_large_text(&[], ("\"tag\"", true, 200));
        check_large_text(std::slice::from_ref(&gzip), ("W/\"tag\"", false, 200));
        let known = (IF_NONE_MATCH, "W/\"tag\"");
        check_large_text(&[gzip.clone(), known], ("W/\"tag\"", false, 304));
        // The file's own bytes go on, whoever asks; the compressed ones begin anew.
        let strong = (IF_RANGE, "\"tag\"");
        let weak = (IF_RANGE, "W/\"tag\"");
        check_large_text(
            &[gzip.clone(), range.clone(), strong],
            ("\"tag\"", true, 206),
        );
        check_large_text(&[gzip, range, weak], ("\"tag\"", true, 200));
    }

    #[test]
    fn text_is_told_from_what_is_not() {
        for (head, expected) in [
            (&b""[..], true),
            (b"hello\n\tworld\r\n", true),
            ("zażółć".as_bytes(), true),
            // Cut within a character, as 512 bytes may be.
            (&"zażółć".as_bytes()[..9], true),
            (b"\xc5x", false),
            (b"\xff\xfe", false),
            (b"GIF89a\0", false),
            (b"\x7fELF", false),
        ] {
            assert_eq!(looks_like_text(head), expected, "{head:?}");
        }
    }

    #[test]
    fn ranges_cut_across_parts() {
        let parts = vec![
            Bytes::from_static(b"abc"),
            Bytes::from_static(b"defg"),
            Bytes::from_static(b"h"),
        ];
        for start in 0..8 {
            for end in start + 1..=8 {
                let joined: Vec<u8> = slices(parts.clone(), start..end).flatten().collect();
                assert_eq!(joined, &b"abcdefgh"[start as usize..end as usize]);
            }
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for (value, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
        ] {
            let mut request = HeaderMap::new();
            request.insert(header::IF_NONE_MATCH, header_value(value));
            assert_eq!(matches_etag(&request, "\"a\""), expected, "{value}");
        }
    }
}

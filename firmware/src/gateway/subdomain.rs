//! The subdomain gateway (<https://specs.ipfs.tech/http-gateways/subdomain-gateway/>), where a host name is configured: each
//! content has an origin of its own, `<cid>.ipfs.<host>`, so that pages of one cannot act as another.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header, uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use cid::Cid;
use cid::multibase::Base;
use node::Name;

use super::header_value;

/// Longest label of a host name in bytes (RFC 1035 section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// The request came to the host name of its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subdomain;

/// Answers for the host name and its subdomains before `router` sees the request; for every other host nothing changes.
pub(crate) fn serve(host: String, router: Router) -> Router {
    Router::new()
        .fallback_service(router)
        .layer(from_fn_with_state(host, direct))
}

async fn direct(State(host): State<String>, mut request: Request, next: Next) -> Response {
    match place(&host, request.headers(), request.uri()) {
        Place::Elsewhere => {}
        Place::Moved(location) => {
            let to = [(header::LOCATION, header_value(&location))];
            return (StatusCode::MOVED_PERMANENTLY, to).into_response();
        }
        Place::Content(uri) => {
            *request.uri_mut() = uri;
            request.extensions_mut().insert(Subdomain);
        }
        Place::Wrong(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    }
    next.run(request).await
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Not a matter of subdomains.
    Elsewhere,
    /// The address where its content has an origin of its own.
    Moved(String),
    /// The same request to the path gateway.
    Content(Uri),
    Wrong(&'static str),
}

fn place(gateway: &str, headers: &HeaderMap, asked: &Uri) -> Place {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text("host") else {
        return Place::Elsewhere;
    };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let Some(below) = strip_suffix_ignoring_case(name, gateway) else {
        return Place::Elsewhere;
    };
    let Some(below) = below.strip_suffix('.') else {
        // `other-<host>` is another host.
        return match below.is_empty() {
            true => moved(host, text("x-forwarded-proto"), asked),
            false => Place::Elsewhere,
        };
    };
    let below = below.to_ascii_lowercase();
    let namespace = match below.rsplit_once('.') {
        Some((label, "ipfs")) if label.parse::<Cid>().is_ok() => "ipfs",
        Some((label, "ipns")) if label.parse::<Name>().is_ok() => "ipns",
        _ => return Place::Wrong("no <cid>.ipfs or <name>.ipns before the gateway's host name\n"),
    };
    let label = below.strip_suffix(namespace).unwrap_or_default();
    let label = label.trim_end_matches('.');
    let path = asked.path_and_query().map_or("/", |it| it.as_str());
    let path = format!("/{namespace}/{label}{path}");
    match uri::PathAndQuery::try_from(path) {
        Ok(path) => Place::Content(path.into()),
        Err(_) => Place::Wrong("not an address\n"),
    }
}

/// `/ipfs/<cid>/…` at the gateway's own name; its other pages stay where they are.
fn moved(host: &str, scheme: Option<&str>, asked: &Uri) -> Place {
    let mut pieces = asked.path().splitn(4, '/').skip(1);
    let (Some(namespace), Some(root)) = (pieces.next(), pieces.next()) else {
        return Place::Elsewhere;
    };
    let label = match namespace {
        "ipfs" => root.parse::<Cid>().ok().and_then(|cid| {
            let cid = cid.into_v1().ok()?;
            cid.to_string_of_base(Base::Base32Lower).ok()
        }),
        "ipns" => root.parse::<Name>().ok().map(|name| name.to_string()),
        _ => return Place::Elsewhere,
    };
    // What is no CID or name, and what is too long for a host name, the path gateway answers for.
    let Some(label) = label.filter(|label| label.len() <= LONGEST_LABEL) else {
        return Place::Elsewhere;
    };
    let scheme = scheme.filter(|scheme| *scheme == "https").unwrap_or("http");
    let rest = pieces.next().unwrap_or_default();
    let query = asked.query().map(|query| format!("?{query}"));
    let query = query.unwrap_or_default();
    Place::Moved(format!(
        "{scheme}://{label}.{namespace}.{host}/{rest}{query}"
    ))
}

fn strip_suffix_ignoring_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(suffix.len())?;
    let (before, end) = text.split_at_checked(at)?;
    end.eq_ignore_ascii_case(suffix).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: &str = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354";
    const NAME: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";

    fn check(host: &str, path: &str, expected: Place) {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, header_value(host));
        let found = place("box.example", &headers, &path.parse().unwrap());
        assert_eq!(found, expected, "{host} {path}");
    }

    fn content(path: &str) -> Place {
        Place::Content(path.parse().unwrap())
    }

    #[test]
    fn content_has_an_origin_of_its_own() {
        let own = |rest: &str| format!("{DIRECTORY}.ipfs.box.example{rest}");
        let moved = |to: String| Place::Moved(format!("http://{to}"));
        check(
            "box.example",
            &format!("/ipfs/{DIRECTORY}"),
            moved(own("/")),
        );
        check(
            "BOX.example:8080",
            &format!("/ipfs/{DIRECTORY}/a/b%20c?format=raw"),
            moved(format!(
                "{DIRECTORY}.ipfs.BOX.example:8080/a/b%20c?format=raw"
            )),
        );
        // Of version 0, as older tools print it.
        check(
            "box.example",
            "/ipfs/QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn/",
            moved(own("/")),
        );
        check(
            "box.example",
            &format!("/ipns/{NAME}/x"),
            moved(format!("{NAME}.ipns.box.example/x")),
        );
        check(
            &own(":8080"),
            "/a/?x=y",
            content(&format!("/ipfs/{DIRECTORY}/a/?x=y")),
        );
        check(
            &own("").to_uppercase(),
            "/",
            content(&format!("/ipfs/{DIRECTORY}/")),
        );
        check(
            &format!("{NAME}.ipns.box.example"),
            "/",
            content(&format!("/ipns/{NAME}/")),
        );
        // What looks like the path gateway is a path within the content here.
        check(
            &own(""),
            &format!("/ipfs/{NAME}"),
            content(&format!("/ipfs/{DIRECTORY}/ipfs/{NAME}")),
        );
        for (host, path) in [
            ("box.example", "/"),
            ("box.example", "/live/index.m3u8"),
            ("box.example", "/ipfs/nonsense"),
            ("otherbox.example", "/ipfs/nonsense"),
            ("192.0.2.1:8080", "/ipfs/nonsense"),
        ] {
            check(host, path, Place::Elsewhere);
        }
        for host in [
            "nonsense.ipfs.box.example",
            "www.box.example",
            "ipfs.box.example",
        ] {
            let why = "no <cid>.ipfs or <name>.ipns before the gateway's host name\n";
            check(host, "/", Place::Wrong(why));
        }
    }
}

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

const TOO_LONG: &str = "CID incompatible with DNS label length limit of 63\n";

/// Multicodec `libp2p-key`.
const LIBP2P_KEY: u64 = 0x72;

/// The request came to the host name of its content.
#[derive(Debug, Clone)]
pub(crate) struct Subdomain {
    /// The gateway's own host name, with the port.
    pub(crate) gateway: String,
}

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
            let to = [
                (header::LOCATION, header_value(&location)),
                // Whoever is led by what a proxy says must not lead others.
                (
                    header::VARY,
                    header_value("x-forwarded-host, x-forwarded-proto"),
                ),
            ];
            return (StatusCode::MOVED_PERMANENTLY, to).into_response();
        }
        Place::Content { gateway, uri } => {
            *request.uri_mut() = uri;
            request.extensions_mut().insert(Subdomain { gateway });
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
    Content {
        gateway: String,
        uri: Uri,
    },
    Wrong(&'static str),
}

/// A host name in an address, and its port with the colon, if there is one.
fn split_port(host: &str) -> Option<(&str, &str)> {
    let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
    let digits = port.strip_prefix(':').unwrap_or("0");
    // What is no port would end up in an address that others are sent to.
    let is_port = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_port.then_some((name, port))
}

fn place(gateway: &str, headers: &HeaderMap, asked: &Uri) -> Place {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = text("x-forwarded-proto").filter(|scheme| *scheme == "https");
    let scheme = scheme.unwrap_or("http");
    let host = |name| text(name).and_then(split_port);
    let below = host("host").and_then(|(name, port)| {
        let below = strip_suffix_ignoring_case(name, gateway)?;
        // `other-<host>` is another host.
        (below.is_empty() || below.ends_with('.')).then_some((name, below.to_owned(), port))
    });
    let Some((name, below, port)) = below else {
        // A proxy before the box may give it any name. Whoever else sends this is led to where the content is, and no more: no
        // content is served for the sake of a header that caches do not look at.
        return match host("x-forwarded-host") {
            Some((name, port)) if name.eq_ignore_ascii_case(gateway) => {
                moved(scheme, &format!("{name}{port}"), asked)
            }
            _ => Place::Elsewhere,
        };
    };
    let own = format!("{}{port}", &name[below.len()..]);
    let below = below.to_ascii_lowercase();
    let Some(label_and_namespace) = below.strip_suffix('.') else {
        return moved(scheme, &own, asked);
    };
    let path = asked.path_and_query().map_or("/", |it| it.as_str());
    let label = match label_and_namespace.rsplit_once('.') {
        Some((label, namespace @ ("ipfs" | "ipns"))) => {
            label_of(namespace, label).map(|canonical| (label, namespace, canonical))
        }
        _ => None,
    };
    let Some((label, namespace, canonical)) = label else {
        return Place::Wrong("no <cid>.ipfs or <name>.ipns before the gateway's host name\n");
    };
    match canonical {
        None => return Place::Wrong(TOO_LONG),
        // A CID has one origin for each spelling that is handed out, and only one is. A name is read in others, too.
        Some(canonical) if namespace == "ipns" && canonical != label => {
            return Place::Moved(format!("{scheme}://{canonical}.ipns.{own}{path}"));
        }
        Some(_) => {}
    }
    match uri::PathAndQuery::try_from(format!("/{namespace}/{label}{path}")) {
        Ok(path) => Place::Content {
            gateway: own,
            uri: path.into(),
        },
        Err(_) => Place::Wrong("not an address\n"),
    }
}

/// The label of a root in a host name, if it is a CID or a name; nothing where it is too long for one.
fn label_of(namespace: &str, root: &str) -> Option<Option<String>> {
    let label = match namespace {
        "ipfs" => {
            let cid = root.parse::<Cid>().ok()?.into_v1().ok()?;
            let bases = [Base::Base32Lower, Base::Base36Lower].into_iter();
            let mut labels = bases.filter_map(|base| cid.to_string_of_base(base).ok());
            return Some(labels.find(|label| label.len() <= LONGEST_LABEL));
        }
        // Some write a peer's id as if it were the CID of a directory.
        _ => root.parse::<Name>().ok().or_else(|| {
            let hash = *root.parse::<Cid>().ok()?.hash();
            Cid::new_v1(LIBP2P_KEY, hash).to_string().parse().ok()
        }),
    };
    let label = label?.to_string();
    Some((label.len() <= LONGEST_LABEL).then_some(label))
}

/// `/ipfs/<cid>/…` at the gateway's own name; its other pages stay where they are.
fn moved(scheme: &str, host: &str, asked: &Uri) -> Place {
    let mut pieces = asked.path().splitn(4, '/').skip(1);
    let (Some(namespace @ ("ipfs" | "ipns")), Some(root)) = (pieces.next(), pieces.next()) else {
        return Place::Elsewhere;
    };
    // What is no CID or name, the path gateway answers for.
    let label = match label_of(namespace, root) {
        None => return Place::Elsewhere,
        Some(None) => return Place::Wrong(TOO_LONG),
        Some(Some(label)) => label,
    };
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

    fn check_with(sent: &[(&'static str, &str)], path: &str, expected: Place) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.insert(*name, header_value(value));
        }
        let found = place("box.example", &headers, &path.parse().unwrap());
        assert_eq!(found, expected, "{sent:?} {path}");
    }

    fn check(host: &str, path: &str, expected: Place) {
        check_with(&[("host", host)], path, expected);
    }

    fn content(port: &str, path: &str) -> Place {
        Place::Content {
            gateway: format!("box.example{port}"),
            uri: path.parse().unwrap(),
        }
    }

    fn own(rest: &str) -> String {
        format!("{DIRECTORY}.ipfs.box.example{rest}")
    }

    fn to(address: &str) -> Place {
        Place::Moved(format!("http://{address}"))
    }

    #[test]
    fn content_has_an_origin_of_its_own() {
        check("box.example", &format!("/ipfs/{DIRECTORY}"), to(&own("/")));
        check(
            "BOX.example:8080",
            &format!("/ipfs/{DIRECTORY}/a/b%20c?format=raw"),
            to(&format!(
                "{DIRECTORY}.ipfs.BOX.example:8080/a/b%20c?format=raw"
            )),
        );
        // Of version 0, as older tools print it.
        check(
            "box.example",
            "/ipfs/QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn/",
            to(&own("/")),
        );
        check(
            "box.example",
            &format!("/ipns/{NAME}/x"),
            to(&format!("{NAME}.ipns.box.example/x")),
        );
        check(
            &own(":8080"),
            "/a/?x=y",
            content(":8080", &format!("/ipfs/{DIRECTORY}/a/?x=y")),
        );
        let upper = own("").to_uppercase();
        let expected = Place::Content {
            gateway: "BOX.EXAMPLE".to_owned(),
            uri: format!("/ipfs/{DIRECTORY}/").parse().unwrap(),
        };
        check(&upper, "/", expected);
        check(
            &format!("{NAME}.ipns.box.example"),
            "/",
            content("", &format!("/ipns/{NAME}/")),
        );
        // What looks like the path gateway is a path within the content here.
        check(
            &own(""),
            &format!("/ipfs/{NAME}"),
            content("", &format!("/ipfs/{DIRECTORY}/ipfs/{NAME}")),
        );
        for (host, path) in [
            ("box.example", "/"),
            ("box.example", "/live/index.m3u8"),
            ("box.example", "/ipfs/nonsense"),
            ("box.example", "/ipfs/?uri=ipfs://nonsense"),
            ("otherbox.example", "/ipfs/nonsense"),
            ("192.0.2.1:8080", "/ipfs/nonsense"),
            ("[2001:db8::1]:8080", "/ipfs/nonsense"),
            // Nobody is led to another host by what looks like a port.
            ("box.example:@other.example", "/ipfs/bafkqaaa"),
            ("box.example:", "/ipfs/bafkqaaa"),
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

    /// The names are those of the specification's conformance suite.
    #[test]
    fn a_name_has_one_spelling() {
        let peer = "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK";
        let rsa = "k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger";
        let rsa_peer = "QmcJM7PRfkSbcM5cf1QugM5R37TLRKyJGgBEhXjLTB8uA2";
        for (written, name) in [(peer, NAME), (rsa_peer, rsa)] {
            let expected = to(&format!("{name}.ipns.box.example/a?x=y"));
            check("box.example", &format!("/ipns/{written}/a?x=y"), expected);
        }
        // As if it were a directory, which some tools make of a peer's id.
        let directory = rsa_peer.parse::<Cid>().unwrap().into_v1().unwrap();
        for base in [Base::Base32Lower, Base::Base36Lower] {
            let label = directory.to_string_of_base(base).unwrap();
            let expected = || to(&format!("{rsa}.ipns.box.example/a?x=y"));
            check("box.example", &format!("/ipns/{label}/a?x=y"), expected());
            check(&format!("{label}.ipns.box.example"), "/a?x=y", expected());
        }
    }

    #[test]
    fn what_is_too_long_for_a_host_name_is_told() {
        let hash = cid::multihash::Multihash::<64>::wrap(0x13, &[7; 64]).unwrap();
        let long = Cid::new_v1(0x55, hash).to_string();
        for (host, path) in [
            ("box.example".to_owned(), format!("/ipfs/{long}")),
            (format!("{long}.ipfs.box.example"), "/".to_owned()),
        ] {
            check(&host, &path, Place::Wrong(TOO_LONG));
        }
        // One base is shorter than the other.
        let hash = cid::multihash::Multihash::<64>::wrap(0x00, &[7; 36]).unwrap();
        let cid = Cid::new_v1(0x55, hash);
        let label = cid.to_string_of_base(Base::Base36Lower).unwrap();
        assert!(cid.to_string().len() > LONGEST_LABEL && label.len() <= LONGEST_LABEL);
        let expected = to(&format!("{label}.ipfs.box.example/"));
        check("box.example", &format!("/ipfs/{cid}"), expected);
    }

    #[test]
    fn a_proxy_says_which_host_was_asked() {
        let path = format!("/ipfs/{DIRECTORY}/a");
        let proxied = |host: &'static str| [("host", "10.0.0.1"), ("x-forwarded-host", host)];
        check_with(&proxied("box.example"), &path, to(&own("/a")));
        let tls = [
            &proxied("box.example:8443")[..],
            &[("x-forwarded-proto", "https")],
        ]
        .concat();
        let expected = Place::Moved(format!("https://{}", own(":8443/a")));
        check_with(&tls, &path, expected);
        // It never brings content to another address than where it is asked for: a cache would keep it there.
        let below: &'static str = own("").leak();
        for host in [below, "www.box.example", "other.example", "box.example:x"] {
            check_with(&proxied(host), "/a", Place::Elsewhere);
            check_with(&proxied(host), &path, Place::Elsewhere);
        }
        // And what the request itself says goes before.
        let both = [("host", below), ("x-forwarded-host", "box.example")];
        check_with(&both, "/a", content("", &path));
    }
}

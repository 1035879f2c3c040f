//! The gateway: answers of the box and of Kubo for the same content, side by side, and the player that lies in it.
//!
//! Kubo's gateway is the most used one. Here it gets the box's own broadcast, and then every request of the table goes to both.
//! What may differ stands in the table with its reason. What the specifications' own conformance suite asks for is in `conformance.rs`.

#![expect(
    clippy::print_stdout,
    reason = "what may differ is told with every run"
)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tests::hls;
use tests::http::{self, Answer};
use tests::kubo::{Kubo, text};
use tests::{Config, Podium, judge, wait_for};

/// A request to both, and what may differ.
struct Case {
    group: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    /// Headers that may differ, each with its reason.
    except: Vec<(&'static str, &'static str)>,
    /// The box's status where Kubo's is another, with the reason.
    instead: Option<(u16, &'static str)>,
    body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Same,
    /// For people; each says it in its own words.
    Words,
}

/// What is compared where both have a status of success or a redirect.
const COMPARED: [&str; 13] = [
    "accept-ranges",
    "cache-control",
    "content-disposition",
    "content-length",
    "content-range",
    "content-type",
    "etag",
    "location",
    "x-content-type-options",
    "x-ipfs-path",
    "x-ipfs-roots",
    "access-control-allow-origin",
    "x-stream-error",
];

const MEDIA_TYPE: (&str, &str) = (
    "content-type",
    "RFC 8216 and RFC 9839 name the types of playlists and segments; Kubo guesses from the system's table",
);
const WORDS: &str = "a body for people, or of a redirect: each writes its own";
const BARE: &str = "Kubo leaves it out of this answer to HEAD";
const NOSNIFF: (&str, &str) = (
    "x-content-type-options",
    "the box says it of every file: its types are not guesses",
);
impl Case {
    fn new(group: &'static str, path: impl Into<String>) -> Case {
        Case {
            group,
            method: "GET",
            path: path.into(),
            headers: Vec::new(),
            except: Vec::new(),
            instead: None,
            body: Body::Same,
        }
    }

    /// Of a media file.
    fn media(group: &'static str, path: impl Into<String>) -> Case {
        Case::new(group, path).except(MEDIA_TYPE).except(NOSNIFF)
    }

    fn head(mut self) -> Case {
        self.method = "HEAD";
        self
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Case {
        self.headers.push((name, value.into()));
        self
    }

    fn except(mut self, header: (&'static str, &'static str)) -> Case {
        self.except.push(header);
        self
    }

    fn instead(mut self, status: u16, why: &'static str) -> Case {
        self.instead = Some((status, why));
        self
    }

    /// A body for people.
    fn words(mut self) -> Case {
        self.body = Body::Words;
        self.except(("content-length", WORDS))
            .except(("content-type", WORDS))
    }

    fn ask(&self, gateway: &str) -> Answer {
        let headers: Vec<_> = (self.headers.iter())
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        http::request(self.method, &format!("{gateway}{}", self.path), &headers)
    }

    /// What is wrong with the box's answer, if Kubo's is right.
    fn compare(&self, own: &Answer, kubo: &Answer) -> Vec<String> {
        let mut wrong = Vec::new();
        let expected = self.instead.map_or(kubo.status, |(status, _)| status);
        if own.status != expected {
            wrong.push(format!("status {}, Kubo {}", own.status, kubo.status));
        }
        // Kubo sends no headers with 304, although RFC 9110 section 15.4.5 wants them.
        if own.status != kubo.status || own.status == 304 || own.status >= 400 {
            return wrong;
        }
        for name in COMPARED {
            let excepted = self.except.iter().any(|(header, _)| *header == name);
            if !excepted && own.header(name) != kubo.header(name) {
                let (own, kubo) = (own.header(name), kubo.header(name));
                wrong.push(format!("{name} {own:?}, Kubo {kubo:?}"));
            }
        }
        if self.body == Body::Same && own.body != kubo.body {
            let (own, kubo) = (own.body.len(), kubo.body.len());
            wrong.push(format!("a body of {own} bytes, Kubo {kubo}"));
        }
        wrong
    }
}

/// Every request, for a finished broadcast at `root` that has the segment.
fn cases(root: &str, segment: &str, cid: &str, leaf: &str) -> Vec<Case> {
    let stranger = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
    let at = |path: &str| format!("/ipfs/{root}{path}");
    let (dir, _) = segment.rsplit_once('/').unwrap();
    let segment = at(&format!("/{segment}"));
    let mut cases = Vec::new();

    let unixfs = "path UnixFS";
    let playlist = at("/video/event.m3u8");
    cases.extend([
        Case::media(unixfs, &segment),
        Case::media(unixfs, &segment).head(),
        Case::media(unixfs, &playlist),
        Case::media(unixfs, &playlist).head(),
        Case::media(unixfs, at("/video/../video/vod.m3u8"))
            .instead(200, "Kubo redirects to the address without dots, which no client sends that follows RFC 3986"),
        Case::media(unixfs, at("/video%2F..%2Fvod%2Em3u8")),
        Case::new(unixfs, "/ipfs/bafkqabtimvwgy3yk").except(NOSNIFF),
        Case::media(unixfs, format!("/ipfs/{cid}")),
        Case::media(unixfs, format!("{segment}?filename=a%20talk.m4s")).except((
            "content-disposition",
            "the ASCII form of Kubo is percent-encoded, and old programs would show it like that",
        )),
        Case::media(unixfs, format!("{segment}?filename=talk.m4s&download=true")),
        Case::new(unixfs, at("/video")).words(),
        Case::new(unixfs, at("/video?x=y&z")).words(),
        Case::new(unixfs, at("/video")).words().head(),
        Case::new(unixfs, at("")).words(),
        Case::new(unixfs, at("/nothing")),
        Case::new(unixfs, at(&format!("/{dir}/nothing.m4s"))),
        Case::new(unixfs, at("/index.m3u8/below")),
        Case::new(unixfs, "/ipfs/not-a-cid"),
        Case::new(unixfs, format!("/ipfs/{stranger}")),
        Case::new(unixfs, format!("/ipfs/{stranger}/index.html"))
            .instead(404, "Kubo says 500 to a path below a block that it has not"),
        Case::new(unixfs, at("")).with("service-worker", "script"),
    ]);
    let listing = |case: Case| case.words().except(("etag", WORDS));
    cases.extend([
        listing(Case::new(unixfs, at("/video/"))),
        listing(Case::new(unixfs, at(&format!("/{dir}/")))),
        listing(Case::new(unixfs, at("/video/")).head())
            .except(("cache-control", BARE))
            .except(("x-ipfs-path", BARE))
            .except(("x-ipfs-roots", BARE)),
    ]);
    let index = |case: Case| case.except(NOSNIFF);
    let root_tag = format!("\"{root}\"");
    cases.extend([
        index(Case::new(unixfs, at("/"))),
        index(Case::new(unixfs, at("/")).head()),
        index(Case::new(unixfs, at("/"))).with("if-none-match", root_tag),
        index(Case::new(unixfs, at("/player.html"))),
    ]);

    let range = "range";
    for wanted in [
        "bytes=0-99",
        "bytes=100-",
        "bytes=-100",
        "bytes=0-0",
        "bytes=5000-60000",
        "bytes=999999999-",
    ] {
        cases.push(Case::media(range, &segment).with("range", wanted));
        cases.push(Case::media(range, &playlist).with("range", wanted));
    }
    for nonsense in ["bytes=10-5", "bytes=x-"] {
        let ignored = "Kubo says 400; RFC 9110 section 14.2 wants such a field ignored";
        cases.push(
            Case::media(range, &segment)
                .with("range", nonsense)
                .instead(200, ignored),
        );
    }
    let etag = format!("\"{cid}\"");
    cases.push(
        Case::media(range, &segment)
            .with("range", "bytes=0-9")
            .with("if-range", &etag),
    );
    cases.push(
        Case::media(range, &segment)
            .with("range", "bytes=0-9")
            .with("if-range", "\"x\""),
    );
    let block = format!("/ipfs/{leaf}?format=raw");
    cases.push(Case::new(range, &block).with("range", "bytes=0-99"));
    let first = "Kubo sends all ranges as multipart, the box the first: the suite and RFC 9110 section 15.3.7 allow both";
    cases.push(
        Case::new(range, &block)
            .with("range", "bytes=6-16,0-4")
            .words()
            .except(("content-range", first)),
    );

    let cache = "cache";
    for tag in [
        etag.clone(),
        format!("W/{etag}"),
        format!("\"a\", {etag}"),
        "*".to_owned(),
        "\"a\"".to_owned(),
    ] {
        cases.push(Case::media(cache, &segment).with("if-none-match", tag));
    }
    for method in [Case::head, |case| case] {
        let mut case = method(Case::media(cache, &segment).with("cache-control", "only-if-cached"));
        if case.method == "HEAD" {
            case = (COMPARED.iter()).fold(case, |case, header| case.except((header, BARE)));
        }
        cases.push(case);
        let unknown = Case::new(cache, format!("/ipfs/{stranger}"));
        cases.push(method(unknown.with("cache-control", "only-if-cached")));
    }
    let raw_tag = format!("\"{leaf}.raw\"");
    cases.push(Case::new(cache, format!("/ipfs/{leaf}?format=raw")).with("if-none-match", raw_tag));

    let raw = "raw";
    for path in [
        format!("/ipfs/{leaf}"),
        segment.clone(),
        at(""),
        at("/video/"),
    ] {
        let by_query = if path.contains('?') {
            path.clone()
        } else {
            format!("{path}?format=raw")
        };
        cases.push(Case::new(raw, &by_query));
        cases.push(Case::new(raw, &by_query).head());
        cases.push(Case::new(raw, &path).with("accept", "application/vnd.ipld.raw"));
    }
    cases.push(Case::new(raw, at("/nothing?format=raw")));
    cases.push(Case::new(raw, format!("/ipfs/{stranger}?format=raw")));

    let car = "CAR";
    let of_car = |case: Case| {
        case.except((
            "etag",
            "opaque: a hash of the request, made by each in its own way",
        ))
        .except((
            "content-length",
            "of a short CAR Kubo knows the length by chance: it fits its buffer",
        ))
    };
    let directory = at(&format!("/{dir}"));
    for dups in ["y", "n"] {
        for path in [
            at(""),
            at("/video"),
            directory.clone(),
            segment.clone(),
            playlist.clone(),
            format!("/ipfs/{leaf}"),
        ] {
            for scope in ["block", "entity", "all"] {
                let query = format!("{path}?format=car&dag-scope={scope}&car-dups={dups}");
                cases.push(of_car(Case::new(car, query)));
            }
        }
        for bytes in [
            "0:*",
            "0:99",
            "70000:80000",
            "-1000:*",
            "-100:-1",
            "0:-1",
            "5:5",
            "0:999999999",
        ] {
            for path in [&segment, &playlist, &directory] {
                let query = format!(
                    "{path}?format=car&dag-scope=entity&car-dups={dups}&entity-bytes={bytes}"
                );
                cases.push(of_car(Case::new(car, query)));
            }
        }
        let accept = format!("application/vnd.ipld.car; version=1; order=dfs; dups={dups}");
        cases.push(of_car(Case::new(car, &segment).with("accept", accept)));
    }
    for wrong in [
        "dag-scope=most",
        "entity-bytes=x",
        "entity-bytes=5:1",
        "car-version=2",
        "car-order=bfs",
        "car-dups=maybe",
    ] {
        cases.push(Case::new(car, format!("{segment}?format=car&{wrong}")));
    }
    let trailer = "Kubo says 200 and X-Stream-Error; the specification allows both";
    cases.push(Case::new(car, format!("/ipfs/{stranger}?format=car")).instead(404, trailer));
    cases.push(Case::new(car, at("/nothing?format=car")).instead(404, trailer));
    cases
}

#[test]
fn the_box_answers_as_kubo_does() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut kubo) = Kubo::new(dir.path().join("kubo")) else {
        return;
    };
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    podium.wait_for_segments(3);
    podium.stop();
    let root = podium.cid();
    let number = hls::oldest(&podium);
    let segment = hls::segment_path("video", number);
    kubo.configure("Gateway.NoFetch", "true");
    let record = record_for(&kubo, &podium, dir.path());
    // The box says it so still; by default a Kubo has said it as `Ipfs-Uri` alone since 0.43.1 (IPIP-548).
    kubo.configure("Gateway.DeprecatedXIpfsPath", "true");
    kubo.start();
    kubo.run(&["swarm", "connect", &podium.address("/tcp/")]);
    kubo.run(&[
        "pin",
        "add",
        "--recursive",
        "--timeout=120s",
        &format!("/ipfs/{root}"),
    ]);
    let cid = kubo.line(&["resolve", &format!("/ipfs/{root}/{segment}")]);
    let cid = cid.trim_start_matches("/ipfs/").to_owned();
    let links = kubo.line(&["refs", &cid]);
    let leaf = links.lines().next().unwrap_or(&cid).to_owned();

    check_profile(&kubo, &root);
    let mut table: BTreeMap<&str, (usize, BTreeSet<String>)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases(&root, &segment, &cid, &leaf) {
        let (own, reference) = (case.ask(&podium.viewer), case.ask(&kubo.gateway()));
        let found = case.compare(&own, &reference);
        let row = table.entry(case.group).or_default();
        row.0 += 1;
        row.1.extend(
            case.instead
                .map(|(status, why)| format!("status {status}: {why}")),
        );
        row.1.extend(
            case.except
                .iter()
                .map(|(header, why)| format!("{header}: {why}")),
        );
        if !found.is_empty() {
            let Case {
                method,
                path,
                headers,
                ..
            } = &case;
            wrong.push(format!("{method} {path} {headers:?}: {}", found.join("; ")));
        }
    }
    for (group, (requests, except)) in &table {
        println!("{group}: {requests} requests answered as by Kubo, except for");
        except.iter().for_each(|why| println!("    {why}"));
    }
    assert!(
        wrong.is_empty(),
        "{} answers differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );

    cors(&podium, &kubo, &root);
    canonical_addresses(&podium, &root);
    check_record(&podium, &kubo, &record);

    // A CAR is all that another node needs.
    let car = http::get(&format!("{}/ipfs/{root}?format=car", podium.viewer));
    let file = dir.path().join("broadcast.car");
    std::fs::write(&file, &car.body).unwrap();
    let Some(other) = Kubo::new(dir.path().join("other")) else {
        return;
    };
    let imported = other.line(&["dag", "import", text(&file)]);
    assert!(
        imported.contains(&root) && imported.contains("success"),
        "{imported}"
    );
    assert_eq!(
        other.run(&["cat", "--offline", &format!("/ipfs/{root}/{segment}")]),
        podium.live(&format!("video/{number}.m4s")).body
    );
}

/// `unixfs-v1-2025`: CIDs of version 1 with sha2-256, dag-pb or raw, and leaves of at most 1 MiB.
fn check_profile(kubo: &Kubo, root: &str) {
    let refs = kubo.line(&["refs", "--recursive", "--unique", root]);
    assert!(refs.lines().count() > 20, "{refs}");
    for cid in refs.lines() {
        assert!(
            cid.starts_with("bafybei") || cid.starts_with("bafkrei"),
            "{cid}"
        );
        let block = http::head(&format!("{}/ipfs/{cid}?format=raw", kubo.gateway()));
        let size: usize = block.header("content-length").unwrap().parse().unwrap();
        assert!(size <= 1 << 20, "{cid} has {size} bytes");
    }
}

/// What scripts of other origins may send and read: at least what Kubo allows, letter by letter.
fn cors(podium: &Podium, kubo: &Kubo, root: &str) {
    let preflight = [
        ("origin", "https://example.org"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "range"),
    ];
    let words = |answer: &Answer, name: &str| -> BTreeSet<String> {
        let value = answer.header(name).unwrap_or_default();
        let words = value.split(',').map(|word| word.trim().to_owned());
        words.filter(|word| !word.is_empty()).collect()
    };
    for (method, headers) in [("OPTIONS", &preflight[..]), ("GET", &preflight[..1])] {
        let path = format!("/ipfs/{root}/vod.m3u8");
        let own = http::request(method, &format!("{}{path}", podium.viewer), headers);
        let reference = http::request(method, &format!("{}{path}", kubo.gateway()), headers);
        assert_eq!(own.status, 200);
        for name in [
            "access-control-allow-origin",
            "access-control-allow-methods",
            "access-control-allow-headers",
            "access-control-expose-headers",
        ] {
            let (own, reference) = (words(&own, name), words(&reference, name));
            assert!(
                !own.is_empty() && own.is_superset(&reference),
                "{method} {name}: {own:?}, Kubo {reference:?}"
            );
        }
    }
    println!("CORS: 2 requests allow and expose at least what Kubo does");
}

/// `Ipfs-Uri` (IPIP-548): one form of the content's address, however it was asked for.
fn canonical_addresses(podium: &Podium, root: &str) {
    let name = podium.name();
    for (path, status, uri) in [
        (format!("/ipfs/{root}"), 301, format!("ipfs://{root}")),
        (format!("/ipfs/{root}/"), 200, format!("ipfs://{root}/")),
        (
            format!("/ipfs/{root}/video/?x=y"),
            200,
            format!("ipfs://{root}/video/"),
        ),
        (
            format!("/ipfs/{root}/a%2F..%2Fvod%2Em3u8"),
            200,
            format!("ipfs://{root}/vod.m3u8"),
        ),
        (
            format!("/ipns/{name}/vod.m3u8"),
            200,
            format!("ipns://{name}/vod.m3u8"),
        ),
    ] {
        let answer = http::get(&format!("{}{path}", podium.viewer));
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("ipfs-uri"), Some(&*uri), "{path}");
        let allowed = answer.header("access-control-allow-headers");
        assert!(allowed.is_some_and(|it| it.contains("Range")), "{path}");
    }
}

const RECORD: &str = "application/vnd.ipfs.ipns-record";

/// Gives Kubo the record of the box's name, which it verifies.
fn record_for(kubo: &Kubo, podium: &Podium, dir: &std::path::Path) -> Answer {
    let name = podium.name();
    let record = http::get(&format!("{}/ipns/{name}?format=ipns-record", podium.viewer));
    assert_eq!(record.status, 200);
    let file = dir.join("record");
    std::fs::write(&file, &record.body).unwrap();
    let key = format!("/ipns/{name}");
    kubo.run(&["routing", "put", "--allow-offline", &key, text(&file)]);
    record
}

/// Both serve the record, and content by the name.
fn check_record(podium: &Podium, kubo: &Kubo, record: &Answer) {
    let name = podium.name();
    let at = |gateway: &str, path: &str, headers: &[(&str, &str)]| {
        http::get_with(&format!("{gateway}/ipns/{name}{path}"), headers)
    };
    for (path, headers) in [
        ("?format=ipns-record", &[][..]),
        ("", &[("accept", RECORD)][..]),
    ] {
        let own = at(&podium.viewer, path, headers);
        let reference = at(&kubo.gateway(), path, headers);
        assert_eq!((own.status, reference.status), (200, 200));
        assert!(own.body == record.body && reference.body == record.body);
        for header in ["content-type", "x-content-type-options", "vary"] {
            let (own, reference) = (own.header(header), reference.header(header));
            assert!(
                own == reference || reference.is_none(),
                "{header}: {own:?}, {reference:?}"
            );
        }
        assert_eq!(own.header("content-type"), Some(RECORD));
        assert_eq!(own.header("cache-control"), Some("public, max-age=2"));
    }
    let file = "/vod.m3u8";
    let (own, reference) = (
        at(&podium.viewer, file, &[]),
        at(&kubo.gateway(), file, &[]),
    );
    assert_eq!((own.status, reference.status), (200, 200));
    assert!(own.body == reference.body);
    for header in ["x-ipfs-path", "x-ipfs-roots", "etag"] {
        assert_eq!(own.header(header), reference.header(header));
    }
    for gateway in [&podium.viewer, &kubo.gateway()] {
        let script = at(gateway, "", &[("service-worker", "script")]);
        assert_eq!(script.status, 400, "{gateway}");
    }
    println!("IPNS record: 4 requests answered as by Kubo");
}

/// What Chromium made of the player at an address in so many seconds.
fn play(url: &str, seconds: u32) -> Value {
    played(url, &seconds.to_string(), f64::from(seconds))
}

/// The same where it must play all of these seconds, without leaving one out, and come to the end.
fn play_to_the_end(url: &str, seconds: f64) -> Value {
    let found = played(url, "end", seconds - 0.2);
    assert_eq!(found["ended"], true, "{found}");
    found
}

fn played(url: &str, wanted: &str, least: f64) -> Value {
    let found = judge::node("player.mjs", &[url, wanted]);
    assert_eq!(found["foreign"], serde_json::json!([]), "{found}");
    assert_eq!(found["page_errors"], serde_json::json!([]), "{found}");
    assert!(found["time"].as_f64().unwrap() >= least, "{found}");
    assert!(found["width"].as_f64().unwrap() > 0.0, "{found}");
    found
}

/// What the page at the gateway's host name loads from below `/ipfs` and `/ipns` is led to another origin, and plays.
fn check_watch_page(url: &str, source: &str, pressed: &str) {
    let screenshot = tests::artifact("subdomain.png").display().to_string();
    let plays = format!("#stage[data-source={source}][data-playback=playing]");
    let arguments = [
        url,
        &screenshot,
        "960",
        "600",
        "--click",
        pressed,
        "--until",
        &plays,
    ];
    let page = judge::node("page.mjs", &arguments);
    assert_eq!(page["actions"][1]["done"], true, "{page}");
    for none in ["foreign", "console_errors", "page_errors"] {
        assert_eq!(page[none], serde_json::json!([]), "{page}");
    }
    let (_, own) = url.split_once("//").unwrap();
    let below = own.trim_end_matches('/');
    let hosts = page["hosts"].as_object().unwrap().keys();
    let led = hosts.filter(|host| host.ends_with(&format!(".{below}")));
    assert!(led.count() > 0, "{page}");
}

#[test]
fn a_broadcast_plays_where_its_cid_is_opened() {
    let _turn = crate::turn();
    if !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        viewer: "gateway_host = \"localhost\"\n".to_owned(),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    let port = podium.viewer.rsplit_once(':').unwrap().1.to_owned();
    let name = podium.name();
    let root = || podium.cid();
    podium.go_live();
    podium.wait_for_segments(4);
    let watch = format!("http://localhost:{port}/");
    check_watch_page(&watch, "ipfs", "input[value=ipfs]");
    // By its name it goes on, by a CID it is what it was, from its beginning.
    let live = play(&format!("{}/ipns/{name}/", podium.viewer), 2);
    assert_eq!(live["note"], "Live", "{live}");
    let snapshot = root();
    podium.stop();
    let then = play(&format!("{}/ipfs/{snapshot}/player.html", podium.viewer), 2);
    assert!(
        then["note"]
            .as_str()
            .unwrap()
            .starts_with("The broadcast until"),
        "{then}"
    );
    // Ten minutes later it stops, and leads to where the channel goes on.
    let found = played(&format!("{}/ipfs/{snapshot}/", podium.viewer), "gone", 2.0);
    let told = "This address was kept for ten minutes, and is gone. Open the channel's name";
    assert_eq!(found["gone"]["told"], told, "{found}");
    assert_eq!(found["gone"]["asked_again"], 0, "{found}");
    assert_eq!(found["note"], "Recording", "{found}");
    let finished = root();
    check_watch_page(&watch, "recording", "#watch-recording");
    let moved = http::request(
        "GET",
        &format!("{}/ipfs/{finished}/vod.m3u8?x=y", podium.viewer),
        &[("host", &format!("localhost:{port}"))],
    );
    let expected = format!("http://{finished}.ipfs.localhost:{port}/vod.m3u8?x=y");
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, Some(&expected[..]))
    );
    for url in [
        format!("{}/ipfs/{finished}/", podium.viewer),
        format!("http://{finished}.ipfs.localhost:{port}/"),
        format!("http://{name}.ipns.localhost:{port}/"),
    ] {
        let played = play(&url, 2);
        assert_eq!(played["note"], "Recording", "{url}");
        // With its date, as the reader writes it.
        let title = played["title"].as_str().unwrap();
        assert!(title.starts_with("Whole-box test, "), "{url}: {title}");
    }

    // A recording that breaks off is taken for nothing else, and goes on where it was.
    let url = format!("{}/ipfs/{finished}/", podium.viewer);
    let found = played(&url, "broken", 0.1);
    assert_eq!(found["note"], "Recording", "{found}");
    assert_eq!(found["ended"], true, "{found}");
    let (first, again) = (&found["broken"]["first"], &found["broken"]["again"]);
    assert!(!again.as_array().unwrap().contains(first), "{found}");

    let Some(mut kubo) = Kubo::new(dir.path().join("kubo")) else {
        return;
    };
    kubo.start();
    kubo.run(&["swarm", "connect", &podium.address("/tcp/")]);
    kubo.run(&[
        "pin",
        "add",
        "--recursive",
        "--timeout=120s",
        &format!("/ipfs/{finished}"),
    ]);
    let (_, vod) = podium.vod("video");
    podium.signal(rustix::process::Signal::TERM);
    assert_eq!(podium.join().code, Some(0));
    let gateway = kubo.gateway();
    let port = gateway.rsplit_once(':').unwrap().1;
    let by_path = format!("{gateway}/ipfs/{finished}/player.html");
    let found = play_to_the_end(&by_path, tests::hls::seconds(&vod));
    assert_eq!(found["note"], "Recording", "{found}");
    let by_host = format!("http://{finished}.ipfs.localhost:{port}/");
    assert_eq!(play(&by_host, 2)["note"], "Recording", "{by_host}");
}

/// A cache hands out an old playlist, and by then the name means another directory.
#[test]
fn what_an_old_playlist_names_is_there_in_every_later_directory() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    let name = podium.name();
    let at = |path: &str| http::get(&format!("{}/ipns/{name}/video/{path}", podium.viewer));
    let mut old: Vec<Vec<u8>> = Vec::new();
    wait_for("five playlists", || {
        let playlist = at("event.m3u8").body;
        if old.last() != Some(&playlist) {
            old.push(playlist);
        }
        (old.len() >= 5).then_some(())
    });
    for (playlist, later) in old.iter().zip(&old[1..]) {
        assert!(later.starts_with(playlist), "it is only appended to");
        for segment in tests::hls::media_playlist(playlist).segments {
            assert_eq!(at(&segment.uri).status, 200, "{}", segment.uri);
        }
    }
}

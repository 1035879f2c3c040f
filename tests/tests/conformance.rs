//! What the public conformance suite of gateways (<https://github.com/ipfs/gateway-conformance>) asks for, in our own words.
//!
//! The suite is a Go module that cannot be had where these tests run, so it has been read and not run. Its content is made here after
//! its recipes and has the CIDs that it publishes; each row is one of its checks: the request with `Accept-Encoding: gzip`, as Go's
//! client sends it, and what it wants of the answer. Groups: UnixFS by path (listing, cache, ranges), CORS, `Ipfs-Uri`, order of fields in a block, raw blocks, CARs,
//! canonical names, subdomains, records.
//!
//! [`DECLINED`] are those of its checks in these groups that the box does not answer so, each with its reason. Left out as a whole are
//! the groups for what the box has nothing of: DAG-JSON and DAG-CBOR, TAR, DNSLink and `_redirects`, HTTP proxies.

#![expect(clippy::print_stdout, reason = "the counts are told with every run")]

use std::collections::BTreeMap;
use std::io::Read as _;
use std::ops::RangeInclusive;

use cid::Cid;
use cid::multibase::Base;
use tests::dag::{self, Dag, Linked, Version};
use tests::http::{self, Answer};
use tests::{Config, Podium, root};

/// Checks of the same groups that ask for what the box does not do: how many, and why.
const DECLINED: [(&str, usize, &str); 9] = [
    (
        "UnixFS",
        1,
        "a symlink's target as a file: the box stores no symlinks",
    ),
    (
        "UnixFS",
        4,
        "a directory as DAG-JSON or JSON, which IPIP-524 has taken out of the specification",
    ),
    (
        "UnixFS",
        6,
        "content by another's name: the box looks no names up",
    ),
    ("Ipfs-Uri", 1, "content by another's name"),
    (
        "block order",
        2,
        "paths through a HAMT directory: the box makes and reads none",
    ),
    ("CAR", 8, "CARs of a HAMT directory"),
    ("CAR", 4, "CARs through DAG-CBOR"),
    ("subdomain names", 2, "content by another's name"),
    (
        "IPNS record",
        4,
        "the record of another's name; those of the box's own are asked for in `names.rs`",
    ),
];

const GATEWAY: &str = "gateway.example";
const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car";
const IMMUTABLE: &str = "public, max-age=29030400, immutable";

/// What a header has to be.
#[derive(Debug)]
enum Is {
    Exactly(String),
    /// Each of these is in it.
    With(Vec<String>),
    /// One of its words, between commas, letter by letter.
    Words(&'static [&'static str]),
    Absent,
    /// This, or absent.
    AtMost(String),
}

#[derive(Debug)]
enum Body {
    Is(Vec<u8>),
    With(String),
    Without(String),
    /// A CAR of these blocks in this order, and no other.
    Blocks(Vec<Cid>),
    /// A CAR that has these.
    BlocksWith(Vec<Cid>),
}

/// A check of the suite.
#[derive(Debug)]
struct Check {
    group: &'static str,
    method: &'static str,
    path: String,
    sent: Vec<(&'static str, String)>,
    status: RangeInclusive<u16>,
    headers: Vec<(&'static str, Is)>,
    body: Vec<Body>,
}

impl Check {
    fn new(group: &'static str, path: impl Into<String>) -> Check {
        Check {
            group,
            method: "GET",
            path: path.into(),
            sent: Vec::new(),
            status: 200..=200,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    fn method(mut self, method: &'static str) -> Check {
        self.method = method;
        self
    }

    fn sent(mut self, name: &'static str, value: impl Into<String>) -> Check {
        self.sent.push((name, value.into()));
        self
    }

    /// At another host name than the address that it is reached by.
    fn host(self, host: impl Into<String>) -> Check {
        self.sent("host", host)
    }

    fn status(mut self, status: u16) -> Check {
        self.status = status..=status;
        self
    }

    fn header(mut self, name: &'static str, is: Is) -> Check {
        self.headers.push((name, is));
        self
    }

    fn exactly(self, name: &'static str, value: impl Into<String>) -> Check {
        self.header(name, Is::Exactly(value.into()))
    }

    fn with(self, name: &'static str, part: impl Into<String>) -> Check {
        self.header(name, Is::With(vec![part.into()]))
    }

    fn body(mut self, body: Body) -> Check {
        self.body.push(body);
        self
    }

    fn bytes(self, bytes: &[u8]) -> Check {
        self.body(Body::Is(bytes.to_vec()))
    }

    fn moved(self, status: u16, location: impl Into<String>) -> Check {
        self.status(status).exactly("location", location)
    }

    /// What is wrong with the answer.
    fn judge(&self, answer: &Answer) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.status.contains(&answer.status) {
            wrong.push(format!("status {}", answer.status));
        }
        for (name, is) in &self.headers {
            let found = answer.header(name);
            let right = match is {
                Is::Exactly(value) => found == Some(value),
                Is::With(parts) => {
                    found.is_some_and(|found| parts.iter().all(|part| found.contains(part)))
                }
                Is::Words(words) => found.is_some_and(|found| {
                    let found: Vec<_> = found.split(',').map(str::trim).collect();
                    words.iter().all(|word| found.contains(word))
                }),
                Is::Absent => found.is_none(),
                Is::AtMost(value) => found.is_none_or(|found| found == value),
            };
            if !right {
                wrong.push(format!("{name} {found:?}, not {is:?}"));
            }
        }
        // Of a wrong answer the body is another matter.
        if !wrong.is_empty() {
            return wrong;
        }
        let bytes = plain(answer);
        let text = String::from_utf8_lossy(&bytes);
        for body in &self.body {
            let right = match body {
                Body::Is(expected) => bytes == *expected,
                Body::With(part) => text.contains(part),
                Body::Without(part) => !text.contains(part),
                Body::Blocks(cids) => dag::read_car(&bytes).as_ref() == Some(cids),
                Body::BlocksWith(cids) => dag::read_car(&bytes)
                    .is_some_and(|found| cids.iter().all(|cid| found.contains(cid))),
            };
            if !right {
                let start: String = text.chars().take(200).collect();
                wrong.push(format!("{body:?} is not so: {start:?}"));
            }
        }
        wrong
    }
}

/// The body as Go's client hands it out.
fn plain(answer: &Answer) -> Vec<u8> {
    // An answer to HEAD says how it would be sent.
    if answer.header("content-encoding") != Some("gzip") || answer.body.is_empty() {
        return answer.body.clone();
    }
    let mut bytes = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(&answer.body[..]);
    reader.read_to_end(&mut bytes).expect("gzip");
    bytes
}

/// `bytes=6-16` and such, of what has so many bytes: the check for the part.
fn part(check: Check, range: &str, all: &[u8], part: RangeInclusive<usize>) -> Check {
    let content_range = format!("bytes {}-{}/{}", part.start(), part.end(), all.len());
    check
        .sent("range", range)
        .status(206)
        .exactly("content-range", content_range)
        .bytes(&all[part])
}

/// The suite's content, by the recipes in its `fixtures/`.
struct Fixtures {
    dag: Dag,
    /// `gateway-cache`: the directories from the root down, and the file in the last one.
    cache: Vec<Cid>,
    listing: Cid,
    listed_file: Cid,
    files: Cid,
    multiblock: Vec<Cid>,
    two_files: Vec<Cid>,
    mixed: Vec<Cid>,
    tricky: Cid,
    nested: Cid,
    slash: Cid,
    percent: Cid,
    symlink: Cid,
    raw_block: Vec<Cid>,
    subdomain_dir: Cid,
    /// A file of three blocks of 1024 bytes, and its blocks; the one in the middle is not here.
    incomplete: Vec<Cid>,
    incomplete_bytes: Vec<u8>,
    /// Not of the suite: a directory whose file lies in its own CID.
    inlined: Cid,
}

const ASCII: &[u8] = b"hello application/vnd.ipld.car\n";
const RAW_ASCII: &[u8] = b"hello application/vnd.ipld.raw\n";
const UTF8: &[u8] = b"I am a txt file on path with utf8\n";
const PERCENT: &[u8] = b"hello from a percent encoded filename\n";
const PLAIN: &[u8] = b"plain ascii name\n";

/// `multiblock.txt`: 1026 bytes.
const LOREM: &str = "Lorem ipsum dolor sit amet, consectetur adipiscing elit. Nunc non imperdiet nunc. Proin ac quam ut nibh eleifend aliquet. Vestibulum ante ipsum primis in faucibus orci luctus et ultrices posuere cubilia curae; Sed ligula dolor, imperdiet sagittis arcu et, semper tincidunt urna. Donec et tempor augue, quis sollicitudin metus. Curabitur semper ullamcorper aliquet. Mauris hendrerit sodales lectus eget fermentum. Proin sollicitudin vestibulum commodo. Vivamus nec lectus eu augue aliquet dignissim nec condimentum justo. In hac habitasse platea dictumst. Mauris vel sem neque.\n\nVivamus finibus, enim at lacinia semper, arcu erat gravida lacus, sit amet gravida magna orci sit amet est. Sed non leo lacus. Nullam viverra ipsum a tincidunt dapibus. Nulla pulvinar ligula sit amet ante ultrices tempus. Proin purus urna, semper sed lobortis quis, gravida vitae ipsum. Aliquam mi urna, pulvinar eu bibendum quis, convallis ac dolor. In gravida justo sed risus ullamcorper, vitae luctus massa hendrerit. Pellentesque habitant amet.";

/// The same directory of one entry and the same HAMT directory, each with its data before and after its links (IPIP-550).
const ORDERS: [(&str, &str); 4] = [
    (
        "bafybeigqvyloizmfcdy6scaxnyltftzptaruqa3hnnplfzsbf4sqteiwlm",
        "0a02080112330a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03120968656c6c6f2e7478741806",
    ),
    (
        "bafybeigdcg7pksx2zk5336vrfsktjodlr4rbfz37qr3koc5xboxe5ekv24",
        "12330a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03120968656c6c6f2e74787418060a020801",
    ),
    (
        "bafybeicwgy2rlqmqqu3yy2tqvm2wbgdvy3snu4sbbv4wqpvpnoplpzxz74",
        "0a250805121c80000000000000000000000000000000000000000000000000000000282230800212350a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03120b444668656c6c6f2e7478741806",
    ),
    (
        "bafybeicjwkfslu7gwyywffvqgse5kiibojtktxcdqhgv7ldj5fjdacuceq",
        "12350a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03120b444668656c6c6f2e74787418060a250805121c800000000000000000000000000000000000000000000000000000002822308002",
    ),
];

fn hex(text: &str) -> Vec<u8> {
    let digits = text
        .as_bytes()
        .chunks(2)
        .map(|pair| str::from_utf8(pair).expect("ASCII"));
    digits
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
        .collect()
}

/// It is what the suite publishes.
fn published(linked: Linked, cid: &str) -> Linked {
    assert_eq!(linked.cid.to_string(), cid);
    linked
}

impl Fixtures {
    fn new() -> Fixtures {
        let mut dag = Dag::default();
        let v1 = Version::V1;
        let hello = dag.raw(b"hello\n");

        let root4 = dag.directory(v1, &[("index.html", hello)]);
        let root3 = dag.directory(v1, &[("root4", root4)]);
        let root2 = dag.directory(v1, &[("root3", root3)]);
        let root1 = dag.directory(v1, &[("root2", root2)]);
        published(
            root1,
            "bafybeib3ffl2teiqdncv3mkz4r23b5ctrwkzrrhctdbne6iboayxuxk5ui",
        );

        let listed_file = dag.raw(UTF8);
        let inner = dag.directory(v1, &[("file-źł.txt", listed_file)]);
        let outer = dag.directory(v1, &[("ę", inner)]);
        let mut entries = vec![("ą", outer)];
        for name in ["api", "ipfs", "ipns"] {
            let text = format!("I am a txt file in confusing /{name} dir\n");
            let file = dag.raw(text.as_bytes());
            entries.push((name, dag.directory(v1, &[("file.txt", file)])));
        }
        let listing = dag.directory(v1, &entries);
        published(
            listing,
            "bafybeig6ka5mlwkl4subqhaiatalkcleo4jgnr3hqwvpmsqfca27cijp3i",
        );

        let ascii = dag.raw(ASCII);
        let world = dag.raw(b"hello world\n");
        let multiblock = dag.chunked(LOREM.as_bytes(), 256);
        published(
            multiblock,
            "bafybeigcisqd7m5nf3qmuvjdbakl5bdnh4ocrmacaqkpuh77qjvggmt2sa",
        );
        let leaves = LOREM.as_bytes().chunks(256).map(|leaf| dag.raw(leaf).cid);
        let multiblock_blocks: Vec<_> = [multiblock.cid].into_iter().chain(leaves).collect();
        let files = dag.directory(
            v1,
            &[
                ("ascii-copy.txt", ascii),
                ("ascii.txt", ascii),
                ("hello.txt", world),
                ("multiblock.txt", multiblock),
            ],
        );
        published(
            files,
            "bafybeihchr7vmgjaasntayyatmp5sv6xza57iy2h4xj7g46bpjij6yhrmy",
        );
        let subdir = dag.directory(v1, &[("ascii.txt", ascii), ("hello.txt", world)]);
        let two_files = dag.directory(v1, &[("subdir", subdir)]);
        published(
            two_files,
            "bafybeietjm63oynimmv5yyqay33nui4y4wx6u3peezwetxgiwvfmelutzu",
        );
        let mixed_subdir = dag.directory(
            v1,
            &[
                ("ascii.txt", ascii),
                ("hello.txt", world),
                ("multiblock.txt", multiblock),
            ],
        );
        let mixed = dag.directory(v1, &[("subdir", mixed_subdir)]);
        published(
            mixed,
            "bafybeidh6k2vzukelqtrjsmd4p52cpmltd2ufqrdtdg6yigi73in672fwu",
        );

        let tricky = [
            ("plain.txt", "plain ascii name"),
            ("with space.txt", "name with space"),
            ("100% sure.txt", "name with percent sign"),
            ("a#b?c.txt", "name with hash and question mark"),
            ("łódź.txt", "name with latin diacritics"),
            ("emoji🚀.txt", "name with emoji"),
            ("你好.txt", "name in chinese"),
            ("ファイル.txt", "name in japanese"),
            ("파일.txt", "name in korean"),
            ("ملف.txt", "name in arabic"),
            ("קובץ.txt", "name in hebrew"),
            ("файл.txt", "name in cyrillic"),
            ("αρχείο.txt", "name in greek"),
            ("नमस्ते.txt", "name in devanagari"),
            ("ไฟล์.txt", "name in thai"),
        ];
        let tricky = tricky.map(|(name, text)| (name, dag.raw(format!("{text}\n").as_bytes())));
        let tricky = dag.directory(v1, &tricky);
        published(
            tricky,
            "bafybeiflhd5aimv4xavauidbetge3v3uadbqfibu5lfo4b26yyieqvnvae",
        );
        let trap = dag.raw(b"name with encoder traps\n");
        let nested = dag.directory(v1, &[("file!'()*~.txt", trap)]);
        let nested = dag.directory(v1, &[("sub dir", nested)]);
        published(
            nested,
            "bafybeiab2yboxqoybfufvfjatsmqu2mkzf6piueex7xwsk74tdxobyuw6u",
        );
        let real = dag.raw(b"real nested file\n");
        let real = dag.directory(v1, &[("b.txt", real)]);
        let decoy = dag.raw(b"not path-addressable\n");
        // The recipe has written the sizes itself.
        let real = Linked { tsize: 70, ..real };
        let slash = dag.directory(v1, &[("a", real), ("a/b.txt", decoy)]);
        published(
            slash,
            "bafybeihuqitp4tzukehqfyaozl6zexd7szyzeywojuynfxopnn7dqjepv4",
        );
        let file = dag.raw(PERCENT);
        let percent = dag.directory(v1, &[("Portugal%2C+España=Peninsula Ibérica.txt", file)]);
        published(
            percent,
            "bafybeig675grnxcmshiuzdaz2xalm6ef4thxxds6o6ypakpghm5kghpc34",
        );

        let (file, link) = (dag.inline_v0(b"content\n"), dag.symlink_v0("foo"));
        let symlink = dag.directory(Version::V0, &[("foo", file), ("bar", link)]);
        published(symlink, "QmWvY6FaqFMS89YAQ9NAPjVP4WZKA1qbHbicc9HeSKQTgt");

        for (cid, block) in ORDERS {
            published(dag.encoded(hex(block)), cid);
        }

        let file = dag.raw(RAW_ASCII);
        let dir = dag.directory(v1, &[("ascii.txt", file)]);
        let raw_block = dag.directory(v1, &[("dir", dir)]);
        published(
            raw_block,
            "bafybeie72edlprgtlwwctzljf6gkn2wnlrddqjbkxo3jomh4n7omwblxly",
        );
        let raw_block = vec![raw_block.cid, dir.cid, file.cid];

        let text = dag.raw(b"I am a txt file\n");
        let bar = dag.raw(b"text-file-content\n");
        let ipns = dag.directory(v1, &[("bar", bar)]);
        let ipfs = dag.directory(v1, &[("file.txt", text), ("ipns", ipns)]);
        let api = dag.directory(v1, &[("file.txt", text)]);
        let subdomain_dir = dag.directory(v1, &[("api", api), ("hello", hello), ("ipfs", ipfs)]);
        published(
            subdomain_dir,
            "bafybeiht6dtwk3les7vqm6ibpvz6qpohidvlshsfyr7l5mpysdw2vmbbhe",
        );
        let hello_v0 = dag.inline_v0(b"hello\n");
        published(hello_v0, "QmZULkCELmmk5XNfCgTnCyFgAVxBRBXyDHGGMVoLFLiXEN");

        // The suite's is random; this one is text, as the suite wants it to be told.
        let lines = (0..3 * 1024 / 16).map(|line| format!("line {line:>10}\n"));
        let incomplete_bytes = lines.collect::<String>().into_bytes();
        let file = dag.chunked_v0(&incomplete_bytes, 1024);
        let blocks = incomplete_bytes
            .chunks(1024)
            .map(|leaf| dag.inline_v0(leaf).cid);
        let incomplete: Vec<_> = [file.cid].into_iter().chain(blocks).collect();
        dag.blocks.remove(&incomplete[2]).expect("it was there");

        let inlined = dag::inlined(b"in its own CID");
        let inlined = dag.directory(v1, &[("a", inlined), ("b", inlined)]);
        Fixtures {
            cache: [root1, root2, root3, root4, hello]
                .map(|it| it.cid)
                .to_vec(),
            listing: listing.cid,
            listed_file: listed_file.cid,
            files: files.cid,
            multiblock: multiblock_blocks,
            two_files: [two_files, subdir, ascii].map(|it| it.cid).to_vec(),
            mixed: [mixed, mixed_subdir, ascii, world]
                .map(|it| it.cid)
                .to_vec(),
            tricky: tricky.cid,
            nested: nested.cid,
            slash: slash.cid,
            percent: percent.cid,
            symlink: symlink.cid,
            raw_block,
            subdomain_dir: subdomain_dir.cid,
            incomplete,
            incomplete_bytes,
            inlined: inlined.cid,
            dag,
        }
    }

    fn block(&self, cid: &Cid) -> &[u8] {
        &self.dag.blocks[cid]
    }
}

fn joined(cids: &[Cid]) -> String {
    let cids: Vec<_> = cids.iter().map(Cid::to_string).collect();
    cids.join(",")
}

/// As Kubo writes a list: the way to it, the one back, its files, and their own addresses.
fn listing(check: Check, gateway: &str, here: &str, it: &Fixtures) -> Check {
    let (root, file) = (it.listing, it.listed_file);
    let parts = [
        "Index of".to_owned(),
        format!(
            "/ipfs/<a href=\"{gateway}/ipfs/{root}\">{root}</a>/<a href=\"{gateway}/ipfs/{root}/%C4%85\">ą</a>/<a href=\"{gateway}/ipfs/{root}/%C4%85/%C4%99\">ę</a>"
        ),
        format!("<a href=\"{here}/%C4%85/%C4%99/..\">..</a>"),
        format!("<a href=\"{here}/%C4%85/%C4%99/file-%C5%BA%C5%82.txt\">file-źł.txt</a>"),
        format!(
            "<a class=\"ipfs-hash\" translate=\"no\" href=\"{gateway}/ipfs/{file}?filename=file-%25C5%25BA%25C5%2582.txt\">"
        ),
    ];
    let check = check.with("etag", "\"DirIndex-");
    parts
        .into_iter()
        .fold(check, |check, part| check.body(Body::With(part)))
}

fn unixfs(it: &Fixtures) -> Vec<Check> {
    let group = "UnixFS";
    let at = |root: &Cid, path: &str| Check::new(group, format!("/ipfs/{root}{path}"));
    let root = it.listing;
    let mut checks = vec![
        at(&root, "/")
            .body(Body::With("Index of".to_owned()))
            .body(Body::Without(format!("<a href=\"/ipfs/{root}/\">..</a>"))),
        at(&root, "/%C4%85/%C4%99").moved(301, format!("/ipfs/{root}/%C4%85/%C4%99/")),
        listing(
            at(&root, "/%C4%85/%C4%99/"),
            "",
            &format!("/ipfs/{root}"),
            it,
        ),
        at(&root, "/i-do-not-exist").status(404),
        at(
            &it.percent,
            "/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt",
        )
        .bytes(PERCENT),
        at(&it.symlink, "/")
            .body(Body::With(">foo<".to_owned()))
            .body(Body::With(">bar<".to_owned())),
        at(&it.symlink, "?format=raw").bytes(it.block(&it.symlink)),
    ];

    let root = it.cache[0];
    let known = |path: &str, depth: usize| {
        at(&root, path)
            .exactly("x-ipfs-path", format!("/ipfs/{root}{path}"))
            .exactly("x-ipfs-roots", joined(&it.cache[..depth]))
    };
    let (list, index, file) = (
        "/root2/root3/",
        "/root2/root3/root4/",
        "/root2/root3/root4/index.html",
    );
    let tag = |at: usize| format!("\"{}\"", it.cache[at]);
    let listed = format!("_CID-{}\"", it.cache[2]);
    checks.extend([
        known(list, 3)
            .header("etag", Is::With(vec!["DirIndex-".to_owned(), listed]))
            .exactly(
                "cache-control",
                "public, max-age=604800, stale-while-revalidate=2678400",
            ),
        known(index, 4)
            .exactly("etag", tag(3))
            .exactly("cache-control", IMMUTABLE),
        known(file, 5)
            .exactly("etag", tag(4))
            .exactly("cache-control", IMMUTABLE),
    ]);
    let unknown = "/ipfs/QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN";
    for method in ["HEAD", "GET"] {
        let check = Check::new(group, unknown).method(method).status(412);
        checks.push(check.sent("cache-control", "only-if-cached"));
    }
    for (path, tag) in [
        (file, tag(4)),
        (index, tag(3)),
        (file, format!("\"fakeEtag1\", \"fakeEtag2\", {}", tag(4))),
        (file, format!("W/{}", tag(4))),
        (file, "*".to_owned()),
        (list, format!("W/{}", tag(2))),
    ] {
        checks.push(at(&root, path).sent("if-none-match", tag).status(304));
    }

    let ascii = || at(&it.files, "/ascii.txt").with("content-type", "text/plain");
    let incomplete = || at(&it.incomplete[0], "").with("content-type", "text/plain");
    checks.extend([
        part(ascii(), "bytes=6-16", ASCII, 6..=16),
        part(ascii(), "bytes=-3", ASCII, 28..=30),
        // One of several is enough; the suite looks at which one it is in a check of its own.
        ascii().sent("range", "bytes=6-16,0-4").status(206),
        part(ascii(), "bytes=6-16,0-4", ASCII, 6..=16),
        part(
            incomplete(),
            "bytes=997-1000",
            &it.incomplete_bytes,
            997..=1000,
        ),
        part(
            incomplete(),
            "bytes=2200-2201",
            &it.incomplete_bytes,
            2200..=2201,
        ),
    ]);
    checks
}

/// The tag of a list is the gateway's own: it has to be asked for.
fn tag_of_a_list(it: &Fixtures, viewer: &str) -> Vec<Check> {
    let path = format!("/ipfs/{}/root2/root3/", it.cache[0]);
    let answer = http::get(&format!("{viewer}{path}"));
    let tag = answer
        .header("etag")
        .unwrap_or_default()
        .trim_matches('"')
        .to_owned();
    let at = || Check::new("UnixFS", path.clone());
    let again = |tag: String| at().sent("if-none-match", tag).status(304);
    vec![
        at().exactly("etag", format!("\"{tag}\"")),
        again(format!("\"{tag}\"")),
        again(format!("W/\"{tag}\"")),
    ]
}

fn cors() -> Vec<Check> {
    let exposed = &[
        "Content-Range",
        "Content-Length",
        "X-Ipfs-Roots",
        "X-Chunked-Output",
        "X-Stream-Output",
        "Ipfs-Uri",
    ];
    let sent = &["Content-Type", "Range", "User-Agent", "X-Requested-With"];
    let shared = |method| {
        Check::new("CORS", "/ipfs/bafkqabtimvwgy3yk/")
            .method(method)
            .exactly("access-control-allow-origin", "*")
            .header(
                "access-control-allow-methods",
                Is::Words(&["GET", "HEAD", "OPTIONS"]),
            )
            .header("access-control-allow-headers", Is::Words(sent))
            .header("access-control-expose-headers", Is::Words(exposed))
    };
    vec![shared("GET"), shared("OPTIONS")]
}

fn ipfs_uri(it: &Fixtures) -> Vec<Check> {
    let group = "Ipfs-Uri";
    let at = |root: &Cid, path: &str, uri: &str| {
        Check::new(group, format!("/ipfs/{root}{path}"))
            .exactly("ipfs-uri", format!("ipfs://{root}{uri}"))
    };
    let same = |root: &Cid, path: &str| at(root, path, path);
    let plain = Dag::default().raw(PLAIN).cid;
    let canonical = "/Portugal%252C%2BEspa%C3%B1a%3DPeninsula%20Ib%C3%A9rica.txt";
    let delimiters = format!("/ipfs/{}/a#b?c.txt", it.tricky);
    let trap = "/sub%20dir/file%21%27%28%29%2A~.txt";
    let v0 = Cid::new_v0(*it.tricky.hash()).unwrap();
    let name = "k51qzi5uqu5dlxdsdu5fpuu7h69wu4ohp32iwm9pdt9nq3y5rpn3ln9j12zfhe";
    let peer = Base::Base58Btc.encode(name.parse::<Cid>().unwrap().hash().to_bytes());
    let below = "root2/root3/root4/index.html";
    let mut by_peer = Check::new(group, format!("/ipns/{peer}/{below}"))
        .header("ipfs-uri", Is::AtMost(format!("ipns://{name}/{below}")))
        .header("location", Is::AtMost(format!("/ipns/{name}/{below}")));
    by_peer.status = 200..=399;
    vec![
        same(&plain, ""),
        same(&it.nested, "/sub%20dir/"),
        same(&it.nested, trap).bytes(b"name with encoder traps\n"),
        at(&it.tricky, "/a%2F..%2Fplain%2Etxt", "/plain.txt").bytes(PLAIN),
        same(&it.slash, "/a/b.txt").bytes(b"real nested file\n"),
        at(&it.slash, "/a%2Fb.txt", "/a/b.txt").bytes(b"real nested file\n"),
        at(
            &it.tricky,
            "/plain.txt?filename=download.txt&format=json",
            "/plain.txt",
        ),
        same(&it.tricky, "/a%23b%3Fc.txt")
            .header("x-ipfs-path", Is::AtMost(delimiters))
            .bytes(b"name with hash and question mark\n"),
        same(&it.tricky, "/emoji%F0%9F%9A%80.txt")
            .header("x-ipfs-path", Is::Absent)
            .bytes(b"name with emoji\n"),
        same(&it.tricky, "").moved(301, format!("/ipfs/{}/", it.tricky)),
        same(&it.percent, canonical)
            .header("x-ipfs-path", Is::Absent)
            .bytes(PERCENT),
        at(
            &it.percent,
            "/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt",
            canonical,
        )
        .bytes(PERCENT),
        at(
            &it.percent,
            "/Portugal%252C%2bEspa%c3%b1a%3dPeninsula%20Ib%c3%a9rica%2etxt",
            canonical,
        )
        .bytes(PERCENT),
        Check::new(group, format!("/ipfs/{v0}/plain.txt"))
            .exactly("ipfs-uri", format!("ipfs://{}/plain.txt", it.tricky)),
        by_peer,
    ]
}

fn canonical_names() -> Vec<Check> {
    let moved = [
        (
            "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK",
            "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8",
        ),
        (
            "QmcJM7PRfkSbcM5cf1QugM5R37TLRKyJGgBEhXjLTB8uA2",
            "k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger",
        ),
    ];
    let checks = moved.map(|(written, name)| {
        Check::new("canonical names", format!("/ipns/{written}/root2/"))
            .moved(302, format!("/ipns/{name}/root2/"))
    });
    checks.into()
}

fn block_orders() -> Vec<Check> {
    let group = "block order";
    let leaf = "/ipfs/bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am";
    let mut checks = vec![
        Check::new(group, leaf)
            .sent("accept", RAW)
            .bytes(b"hello\n"),
    ];
    for (cid, block) in ORDERS {
        let raw = Check::new(group, format!("/ipfs/{cid}")).sent("accept", RAW);
        checks.push(raw.bytes(&hex(block)));
    }
    for (cid, _) in &ORDERS[..2] {
        checks.push(Check::new(group, format!("/ipfs/{cid}/hello.txt")).bytes(b"hello\n"));
    }
    checks
}

/// By a path, and by the CID alone.
fn raw(it: &Fixtures) -> Vec<Check> {
    let group = "raw block";
    let [root, dir, file] = it.raw_block[..] else {
        panic!("three blocks")
    };
    let mut checks = Vec::new();
    for (of_dir, of_file) in [
        (
            format!("/ipfs/{root}/dir"),
            format!("/ipfs/{root}/dir/ascii.txt"),
        ),
        (format!("/ipfs/{dir}"), format!("/ipfs/{file}")),
    ] {
        let by_path = of_dir.ends_with("dir");
        let at = |path: &str| Check::new(group, path).sent("accept", RAW);
        let known = if by_path { root } else { file };
        checks.extend([
            Check::new(group, format!("{of_dir}?format=raw")).bytes(it.block(&dir)),
            at(&of_dir).bytes(it.block(&dir)),
            at(&of_file)
                .exactly("content-type", RAW)
                .exactly("content-length", RAW_ASCII.len().to_string())
                .header(
                    "content-disposition",
                    Is::With(vec![
                        "attachment; filename=\"".to_owned(),
                        ".bin\"".to_owned(),
                    ]),
                )
                .exactly("x-content-type-options", "nosniff")
                .bytes(RAW_ASCII),
            at(&format!("{of_file}?filename=foobar.bin"))
                .with("content-disposition", "attachment; filename=\"foobar.bin\""),
            at(&of_file)
                .with("etag", "\"")
                .exactly("x-ipfs-path", of_file.clone())
                .with("x-ipfs-roots", known.to_string())
                .exactly("cache-control", IMMUTABLE),
        ]);
        let (of_part, all) = match by_path {
            true => (&of_dir, it.block(&dir)),
            false => (&of_file, RAW_ASCII),
        };
        checks.extend([
            part(
                at(of_part).exactly("content-type", RAW),
                "bytes=6-16",
                all,
                6..=16,
            ),
            at(&of_file).sent("range", "bytes=6-16,0-4").status(206),
            part(
                at(&of_file).exactly("content-type", RAW),
                "bytes=6-16,0-4",
                RAW_ASCII,
                6..=16,
            ),
        ]);
    }
    checks
}

/// With the headers that every CAR has.
fn of_car(check: Check) -> Check {
    let named = Is::With(vec![
        "attachment; filename=\"".to_owned(),
        ".car\"".to_owned(),
    ]);
    check
        .exactly("x-content-type-options", "nosniff")
        .exactly("accept-ranges", "none")
        .with("content-type", CAR)
        .header("content-disposition", named)
}

/// Each is asked for twice, by the query and by `Accept`.
fn cars(it: &Fixtures) -> Vec<Check> {
    let group = "CAR";
    let chain = |parts: &[&[Cid]]| parts.concat();
    let (two, mixed, multi) = (&it.two_files, &it.mixed, &it.multiblock);
    let (path, to_multi) = (&mixed[..2], format!("{}/subdir/multiblock.txt", mixed[0]));
    let of_multi = |bytes: &str| format!("{}?dag-scope=entity&entity-bytes={bytes}", multi[0]);
    let incomplete = &it.incomplete;
    let of_incomplete =
        |bytes: &str| format!("{}?dag-scope=entity&entity-bytes={bytes}", incomplete[0]);
    let mut checks = Vec::new();
    for (asked, blocks) in [
        (format!("{}/subdir/ascii.txt", two[0]), two.clone()),
        (
            format!("{}/subdir?dag-scope=block", two[0]),
            two[..2].to_vec(),
        ),
        (
            format!("{}/subdir/ascii.txt?dag-scope=block", two[0]),
            two.clone(),
        ),
        (format!("{}?dag-scope=entity", two[0]), two[..1].to_vec()),
        (
            format!("{}/subdir/ascii.txt?dag-scope=entity", mixed[0]),
            mixed[..3].to_vec(),
        ),
        (
            format!("{to_multi}?dag-scope=entity"),
            chain(&[path, multi]),
        ),
        (
            format!("{}/subdir?dag-scope=all", mixed[0]),
            chain(&[mixed, multi]),
        ),
        (format!("{to_multi}?dag-scope=all"), chain(&[path, multi])),
        (of_incomplete("0:1000"), incomplete[..2].to_vec()),
        (of_incomplete("2200:*"), vec![incomplete[0], incomplete[3]]),
        (
            format!("{to_multi}?dag-scope=entity&entity-bytes=0:*"),
            chain(&[path, multi]),
        ),
        (of_multi("512:*"), chain(&[&multi[..1], &multi[3..]])),
        (of_multi("512:1023"), chain(&[&multi[..1], &multi[3..5]])),
        (of_multi("512:-256"), chain(&[&multi[..1], &multi[3..5]])),
        (of_multi("-5:*"), chain(&[&multi[..1], &multi[4..]])),
        (of_multi("-9999:*"), multi.clone()),
        (of_multi("-9999:-3"), multi[..5].to_vec()),
        (of_multi("0:0"), multi[..2].to_vec()),
    ] {
        let and = if asked.contains('?') { '&' } else { '?' };
        let by_query = Check::new(group, format!("/ipfs/{asked}{and}format=car"));
        let by_accept = Check::new(group, format!("/ipfs/{asked}")).sent("accept", CAR);
        for check in [by_query, by_accept] {
            checks.push(of_car(check).body(Body::Blocks(blocks.clone())));
        }
    }
    let nothing = format!("/ipfs/{}/subdir/i-do-not-exist", two[0]);
    checks.extend([
        Check::new(group, format!("{nothing}?format=car")).status(404),
        Check::new(group, nothing).sent("accept", CAR).status(404),
    ]);

    let files = it.files;
    let [_, _, ascii, world] = mixed[..] else {
        panic!("four blocks")
    };
    let twice = chain(&[&[files, ascii, ascii, world], multi]);
    let once = chain(&[&[files, ascii, world], multi]);
    let of_files = |query: &str, parameters: &str| {
        let check = Check::new(group, format!("/ipfs/{files}{query}"));
        check
            .sent("accept", format!("{CAR}{parameters}"))
            .with("content-type", CAR)
    };
    let order = |check: Check| check.with("content-type", "order=dfs");
    let dups = |check: Check, dups: &str| check.with("content-type", format!("dups={dups}"));
    let all = "; version=1; order=dfs; dups=y";
    checks.extend([
        dups(order(of_files("", all)), "y").body(Body::Blocks(twice.clone())),
        dups(order(of_files("", "; version=1; order=dfs; dups=n")), "n")
            .body(Body::Blocks(once.clone())),
        of_files("", "; version=1; order=unk")
            .with("content-type", "order=")
            .body(Body::BlocksWith(once)),
        dups(
            Check::new(group, "/ipfs/bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa")
                .sent("accept", format!("{CAR}; dups=y"))
                .with("content-type", CAR),
            "y",
        )
        .body(Body::Blocks(Vec::new())),
        dups(order(of_files("?format=car", all)), "y").body(Body::Blocks(twice)),
        order(of_files("?format=car&car-order=dfs", "; order=unk")),
        dups(of_files("?format=car&car-dups=y", "; dups=n"), "y"),
    ]);
    let dir = it.raw_block[1];
    for (format, accept, kind) in [("car", RAW, CAR), ("raw", CAR, RAW)] {
        let check = Check::new(group, format!("/ipfs/{dir}?format={format}"));
        checks.push(check.sent("accept", accept).with("content-type", kind));
    }
    checks
}

fn subdomains(it: &Fixtures) -> Vec<Check> {
    let group = "subdomains";
    let port = ":8080";
    let gateway = format!("{GATEWAY}{port}");
    let at = |path: &str| Check::new(group, path).host(&gateway);
    let below =
        |root: &Cid, path: &str| Check::new(group, path).host(format!("{root}.ipfs.{gateway}"));
    let own = |root: &Cid, path: &str| format!("http://{root}.ipfs.{gateway}{path}");
    let (hello, dir, list) = (it.cache[4], it.subdomain_dir, it.listing);
    let v0 = "QmZULkCELmmk5XNfCgTnCyFgAVxBRBXyDHGGMVoLFLiXEN";
    let v0_to_1 = v0.parse::<Cid>().unwrap().into_v1().unwrap();
    let to_own = |cid: &Cid| at(&format!("/ipfs/{cid}/")).moved(301, own(cid, "/"));
    let percent = "/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt";
    let wiki = "QmXoypizjW3WknFiJnKLwHCnL72vedxjQkDDP1mXWo6uco/wiki/Diego_Maradona.html";
    // sha2-512 of `hello` and a new line.
    let long = "bafkrgqhhyivzstcz3hhswshfjgy6ertgmnqeleynhwt4dlfsthi4hn7zgh4uvlsb5xncykzapi3ocd4lzogukir6ksdy6wzrnz6ohnv4aglcs";
    let too_long = |check: Check| {
        let why = "CID incompatible with DNS label length limit of 63";
        check.status(400).body(Body::With(why.to_owned()))
    };
    let secure = format!("https://{hello}.ipfs.{gateway}/");
    let strange = || Check::new(group, format!("/ipfs/{hello}")).host("fake.domain.com");
    let crumbs = format!(
        "/ipfs/<a href=\"//{gateway}/ipfs/{dir}\">{dir}</a>/<a href=\"//{gateway}/ipfs/{dir}/ipfs\">ipfs</a>/<a href=\"//{gateway}/ipfs/{dir}/ipfs/ipns\">ipns</a>"
    );
    let with = |check: Check, part: &str| check.body(Body::With(part.to_owned()));
    vec![
        with(below(&list, "/"), "Index of").body(Body::Without("<a href=\"/\">..</a>".to_owned())),
        below(&list, "/%C4%85/%C4%99").moved(301, "/%C4%85/%C4%99/"),
        listing(
            below(&list, "/%C4%85/%C4%99/"),
            &format!("//{gateway}"),
            "",
            it,
        ),
        to_own(&hello),
        at(&format!("/ipfs/{}{percent}", it.percent)).moved(301, own(&it.percent, percent)),
        to_own(&dir),
        at(&format!("/ipfs/{v0}/")).moved(301, own(&v0_to_1, "/")),
        below(&hello, "/").bytes(b"hello\n"),
        below(&hello, &format!("/ipfs/{hello}")).status(404),
        below(&dir, "/ipfs/file.txt").bytes(b"I am a txt file\n"),
        with(
            with(below(&dir, "/"), "<a href=\"/hello\">hello</a>"),
            "<a href=\"/ipfs\">ipfs</a>",
        ),
        with(
            with(
                below(&dir, "/ipfs/ipns/"),
                "<a href=\"/ipfs/ipns/..\">..</a>",
            ),
            "<a href=\"/ipfs/ipns/bar\">bar</a>",
        ),
        below(&dir, "/ipfs/ipns/bar").bytes(b"text-file-content\n"),
        with(with(below(&dir, "/ipfs/ipns/"), "Index of"), &crumbs),
        to_own(&hello),
        with(
            at("/ipfs/QmInvalidCID").status(400),
            "invalid path \"/ipfs/QmInvalidCID\"",
        ),
        at(&format!("/ipfs/{v0}/")).moved(301, own(&v0_to_1, "/")),
        at(&format!("/ipfs/{hello}/"))
            .sent("x-forwarded-proto", "https")
            .moved(301, secure.clone()),
        at(&format!(
            "/ipfs/?uri=ipfs%3A%2F%2F{}",
            wiki.replace('/', "%2F")
        ))
        .moved(301, format!("/ipfs/{wiki}")),
        too_long(at(&format!("/ipfs/{long}"))),
        too_long(Check::new(group, "/").host(format!("{long}.ipfs.{gateway}"))),
        strange().bytes(b"hello\n"),
        strange()
            .sent("x-forwarded-host", gateway.clone())
            .moved(301, own(&hello, "/")),
        strange()
            .sent("x-forwarded-host", gateway.clone())
            .sent("x-forwarded-proto", "https")
            .moved(301, secure),
    ]
}

fn subdomain_names() -> Vec<Check> {
    let group = "subdomain names";
    let base36 = |codec: u64, peer: &str| {
        let hash = Base::Base58Btc.decode(peer).unwrap();
        let hash = cid::multihash::Multihash::from_bytes(&hash).unwrap();
        let cid = Cid::new_v1(codec, hash);
        cid.to_string_of_base(Base::Base36Lower).unwrap()
    };
    let (ed25519, rsa) = (
        "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d",
        "QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3",
    );
    let (libp2p_key, dag_pb) = (0x72, 0x70);
    let own = |peer: &str| format!("http://{}.ipns.{GATEWAY}/", base36(libp2p_key, peer));
    let mut checks = Vec::new();
    for peer in [rsa, ed25519] {
        let at = Check::new(group, format!("/ipns/{peer}")).host(GATEWAY);
        let below = Check::new(group, "/").host(format!("{}.ipns.{GATEWAY}", base36(dag_pb, peer)));
        checks.extend([at.moved(301, own(peer)), below.moved(301, own(peer))]);
    }
    let at = Check::new(group, format!("/ipns/{ed25519}")).host(GATEWAY);
    checks.push(at.moved(301, own(ed25519)));
    checks
}

/// Beyond the suite, of the same content.
fn ours(it: &Fixtures) -> Vec<Check> {
    let group = "ours";
    let dir = it.inlined;
    let car = |query: &str| Check::new(group, format!("/ipfs/{dir}?format=car&{query}"));
    let v0 = it.incomplete[0];
    let list = it.cache[0];
    let gateway = |check: Check| {
        let check = check.exactly("access-control-allow-origin", "*");
        check.header("access-control-expose-headers", Is::Words(&["Ipfs-Uri"]))
    };
    vec![
        // What a CID carries is in the block that has the CID.
        car("car-dups=y").body(Body::Blocks(vec![dir])),
        car("car-dups=n").body(Body::Blocks(vec![dir])),
        Check::new(group, format!("/ipfs/{dir}/a")).bytes(b"in its own CID"),
        // The probe of the specification, to the byte: a root of 4 bytes, and no block.
        Check::new(group, "/ipfs/bafkqaaa?format=car").bytes(&hex(
            "19a265726f6f747381d82a45000155000067 76657273696f6e01"
                .replace(' ', "")
                .as_str(),
        )),
        // A range is of bytes: of a directory it is the list, whatever else is said (entity-bytes implies dag-scope=entity).
        Check::new(
            group,
            format!("/ipfs/{list}/root2?format=car&dag-scope=all&entity-bytes=0:5"),
        )
        .body(Body::Blocks(it.cache[..2].to_vec())),
        // The tag and the roots are in the form in which the content was asked for.
        Check::new(group, format!("/ipfs/{v0}?format=raw"))
            .exactly("etag", format!("\"{v0}.raw\""))
            .exactly("x-ipfs-roots", v0.to_string())
            .bytes(it.block(&v0)),
        // A block is a block, whatever is in it.
        Check::new(
            group,
            format!("/ipfs/{}?format=car&dag-scope=block", ORDERS[2].0),
        )
        .body(Body::Blocks(vec![ORDERS[2].0.parse().unwrap()])),
        Check::new(group, format!("/ipfs/{}/bar?format=raw", it.symlink)).bytes(
            it.block(&Dag::default().symlink_v0("foo").cid)
                .to_vec()
                .as_slice(),
        ),
        Check::new(group, format!("/ipfs/{}/bar", it.symlink)).status(404),
        Check::new(group, format!("/ipfs/{}?format=", it.cache[4]))
            .exactly("content-type", "text/plain; charset=utf-8")
            .bytes(b"hello\n"),
        Check::new(group, format!("/ipfs/{list}/root2/?format=json")).status(406),
        // Who may get a compressed answer may go on with a range, too.
        Check::new(group, format!("/ipfs/{}/ascii.txt", it.files))
            .exactly("accept-ranges", "bytes")
            .header("content-encoding", Is::Absent)
            .bytes(ASCII),
        // Scripts of other origins may follow where they are led, and read what is refused.
        gateway(Check::new(group, format!("/ipfs/{list}")).host(GATEWAY))
            .moved(301, format!("http://{list}.ipfs.{GATEWAY}/")),
        gateway(Check::new(group, "/").host(format!("www.{GATEWAY}"))).status(400),
        Check::new(group, "/ipfs/?uri=https%3A%2F%2Fother.example").status(400),
    ]
}

#[test]
fn the_gateway_does_what_the_conformance_suite_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        viewer: format!("gateway_host = \"{GATEWAY}\"\n"),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    let it = Fixtures::new();
    it.dag.store(&dir.path().join("data"));

    let suite = [
        unixfs(&it),
        tag_of_a_list(&it, &podium.viewer),
        cors(),
        ipfs_uri(&it),
        canonical_names(),
        block_orders(),
        raw(&it),
        cars(&it),
        subdomains(&it),
        subdomain_names(),
    ];
    let mut passed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for check in suite.into_iter().flatten().chain(ours(&it)) {
        let sent = check
            .sent
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let sent: Vec<_> = sent.chain([("accept-encoding", "gzip")]).collect();
        let url = format!("{}{}", podium.viewer, check.path);
        let found = check.judge(&http::request(check.method, &url, &sent));
        match found.is_empty() {
            true => *passed.entry(check.group).or_default() += 1,
            false => wrong.push(format!(
                "{}: {} {} {:?}: {}",
                check.group,
                check.method,
                check.path,
                check.sent,
                found.join("; ")
            )),
        }
    }
    for (group, count) in &passed {
        println!("{group}: {count} checks pass");
    }
    for (group, count, why) in DECLINED {
        println!("{group}: {count} are declined: {why}");
    }
    assert!(
        wrong.is_empty(),
        "{} checks fail:\n{}",
        wrong.len(),
        wrong.join("\n")
    );

    // What the README says of it.
    let passed: usize = passed
        .iter()
        .filter(|(group, _)| **group != "ours")
        .map(|it| it.1)
        .sum();
    let all = passed + DECLINED.iter().map(|(_, count, _)| count).sum::<usize>();
    let said = format!("of the {all} checks in its groups that apply {passed} pass");
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let readme = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(readme.contains(&said), "README.md does not say: {said}");
}

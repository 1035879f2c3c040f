//! The poller against a small HTTP server. Server and poller share a clock that only waiting moves, so that nothing depends
//! on the machine.

mod origin;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oracle::{Clock, Options, watch_with};
use origin::Origin;

/// Microseconds.
#[derive(Clone, Default)]
struct VirtualClock(Arc<AtomicU64>);

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn wait(&self, time: Duration) {
        self.0.fetch_add(time.as_micros() as u64, Ordering::SeqCst);
    }
}

/// Serves `origin`; a request that blocks moves the clock to its answer.
fn serve(origin: Origin, clock: VirtualClock, gzip: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
            let line = lines.next().expect("a request").expect("a line");
            while lines
                .next()
                .is_some_and(|line| !line.expect("a line").is_empty())
            {}
            let target = line.split(' ').nth(1).expect("a path").to_owned();
            let reply = origin.answer(&target, clock.now());
            clock.wait(reply.at.saturating_sub(clock.now()));
            let mut body = reply.body.to_vec();
            let mut encoding = "";
            if gzip && target.contains(".m3u8") && reply.status == 200 {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(&body).expect("memory");
                body = encoder.finish().expect("memory");
                encoding = "Content-Encoding: gzip\r\n";
            }
            let head = format!(
                "HTTP/1.1 {} X\r\nContent-Type: {}\r\n{encoding}Content-Length: {}\r\nConnection: close\r\n\r\n",
                reply.status,
                reply.content_type,
                body.len()
            );
            stream.write_all(head.as_bytes()).expect("a reader");
            stream.write_all(&body).expect("a reader");
        }
    });
    format!("http://{address}/index.m3u8")
}

fn check(origin: Origin, gzip: bool, expected: &[&str]) {
    let clock = VirtualClock::default();
    let url = serve(origin, clock.clone(), gzip);
    let options = Options {
        duration: Duration::from_secs(20),
        ..Options::default()
    };
    let mut told = 0;
    let report = watch_with(&url, &options, &clock, &mut |_| told += 1).expect("it is there");
    let rules: Vec<&str> = report.violations.iter().map(|it| it.rule).collect();
    assert_eq!(rules, expected, "{report}");
    assert_eq!(told, report.violations.len());
    assert_eq!(report.passed(), expected.is_empty());
    assert!(report.segments > 20, "{report}");
    assert_eq!(report.parts > 0, origin.low_latency, "{report}");
    assert_eq!(report.ended, origin.end.is_some(), "{report}");
}

#[test]
fn a_good_origin_passes_over_http() {
    check(Origin::default(), true, &[]);
}

#[test]
fn a_good_low_latency_origin_passes_and_its_end_ends_the_watching() {
    let origin = Origin {
        low_latency: true,
        end: Some(122),
        ..Origin::default()
    };
    check(origin, true, &[]);
}

#[test]
fn what_the_origin_does_wrong_is_in_the_report() {
    let rules = ["playlist-not-gzipped"; 3];
    check(Origin::default(), false, &rules);
}

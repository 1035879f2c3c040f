//! Origins that are not ours, for the oracle to judge: what it says of them must be true, and what it says of us is worth no
//! more than that.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Process, http, judge, wait_for};

/// A live stream of an origin that is not ours. Dropping it ends it.
#[derive(Debug)]
pub struct Origin {
    /// Address of its multivariant playlist.
    pub url: String,
    _processes: Vec<Process>,
    _dir: tempfile::TempDir,
}

/// A test picture and a tone at the speed of the clock, H.264 and AAC, a keyframe every 2 s.
const SOURCE: &str = "-v error -nostdin -re -f lavfi -i testsrc2=size=640x360:rate=30 \
    -re -f lavfi -i sine=frequency=440:sample_rate=48000 \
    -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 60 -keyint_min 60 -sc_threshold 0 -b:v 800k \
    -maxrate 800k -bufsize 400k -c:a aac -b:a 96k -ac 2";

impl Origin {
    /// ffmpeg's HLS muxer (fragmented MP4, a sliding window of eight segments of 2 s) behind nginx, or `None` where one of
    /// them is missing; see [`judge::have`].
    pub fn ffmpeg_and_nginx() -> Option<Origin> {
        if !judge::have("ffmpeg") || !judge::have("nginx") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (nginx, port) = nginx(dir.path());
        let ffmpeg = ffmpeg(
            dir.path(),
            "-f hls -hls_time 2 -hls_list_size 8 -hls_delete_threshold 12 -hls_segment_type fmp4 \
             -hls_flags delete_segments+independent_segments+program_date_time -master_pl_name index.m3u8 \
             -hls_segment_filename segment-%d.m4s video.m3u8",
        );
        Some(Origin::ready(port, "index.m3u8", vec![ffmpeg, nginx], dir))
    }

    /// multimux, a low-latency origin in Rust, fed by ffmpeg with an MPEG transport stream; `None` where one is missing.
    pub fn multimux() -> Option<Origin> {
        let program = multimux()?;
        if !judge::have("ffmpeg") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let input = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let input = input.expect("a free port");
        let (origin, port) = on_free_port(|port| {
            let config = serde_json::json!({
                "bind": format!("127.0.0.1:{port}"),
                "target_duration_secs": 2.0,
                "part_target_ms": 500,
                "window_segments": 8,
                "routes": [{ "name": "live", "input": { "type": "ts_udp", "addr": input.to_string() } }],
            });
            let path = dir.path().join("multimux.json");
            std::fs::write(&path, config.to_string()).expect("the config can be written");
            let mut command = Command::new(&program);
            command.arg("--config").arg(path);
            command
        });
        let output = format!("-f mpegts udp://{input}?pkt_size=1316");
        let ffmpeg = ffmpeg(dir.path(), &output);
        let index = "live/master.m3u8";
        Some(Origin::ready(port, index, vec![ffmpeg, origin], dir))
    }

    fn ready(port: u16, path: &str, processes: Vec<Process>, dir: tempfile::TempDir) -> Origin {
        let url = format!("http://127.0.0.1:{port}/{path}");
        wait_for(&url, || {
            (http::try_get(&url, &[]).ok()?.status == 200).then_some(())
        });
        Origin {
            url,
            _processes: processes,
            _dir: dir,
        }
    }
}

fn ffmpeg(dir: &Path, output: &str) -> Process {
    let mut command = Command::new("ffmpeg");
    command
        .args(SOURCE.split_whitespace())
        .args(output.split_whitespace());
    start(command.current_dir(dir))
}

/// nginx as a person would set it up for HLS: the types and gzip, nothing else.
fn nginx(dir: &Path) -> (Process, u16) {
    on_free_port(|port| {
        let root = dir.display();
        let config = format!(
            "daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/nginx.log;\n\
             events {{}}\n\
             http {{\n\
               access_log off; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;\n\
               fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;\n\
               types {{ application/vnd.apple.mpegurl m3u8; video/iso.segment m4s; video/mp4 mp4; }}\n\
               gzip on; gzip_min_length 0; gzip_types application/vnd.apple.mpegurl;\n\
               server {{ listen 127.0.0.1:{port}; root {root}; }}\n\
             }}\n"
        );
        let path = dir.join("nginx.conf");
        let file = std::fs::File::create(&path);
        file.and_then(|mut file| file.write_all(config.as_bytes()))
            .expect("the config can be written");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir).arg("-c").arg(path);
        command
    })
}

/// Starts a server that cannot be told to take any free port: on one that was free a moment ago, and if somebody else has
/// taken it since, on another.
fn on_free_port(mut command: impl FnMut(u16) -> Command) -> (Process, u16) {
    for _ in 0..10 {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let port = free.expect("a free port").port();
        let mut process = start(&mut command(port));
        let up = wait_for("a server", || {
            if process.ended() {
                return Some(false);
            }
            TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true)
        });
        if up {
            return (process, port);
        }
    }
    panic!("the server ends at once on ten ports: start it by hand to see why");
}

fn start(command: &mut Command) -> Process {
    Process::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

/// Where `tests/setup/multimux` has put it, or on the PATH.
fn multimux() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|it| {
        let mut all = it.ancestors().map(|dir| dir.join("foreign/bin/multimux"));
        all.find(|path| path.is_file())
    });
    beside.or_else(|| judge::have("multimux").then(|| "multimux".into()))
}

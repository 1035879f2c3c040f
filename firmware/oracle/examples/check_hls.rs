//! `check_hls URL [SECONDS]`: what `podium check-hls` does.

use std::process::ExitCode;

fn main() -> Result<ExitCode, oracle::WatchError> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_default();
    let seconds = arguments.next().and_then(|it| it.parse().ok());
    let passed = oracle::main_command(&url, seconds.unwrap_or(60), false)?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

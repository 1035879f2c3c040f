//! A link that tests cut, mend and damage: a TCP relay with an address that stays while what is behind it changes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes handed on at a time.
const PIECE: usize = 16 << 10;

#[derive(Debug, Default)]
struct State {
    /// Nobody is let through while there is none.
    target: Option<SocketAddr>,
    open: Vec<TcpStream>,
    /// Every connection breaks after so many bytes towards whoever has connected.
    breaks_after: Option<usize>,
    /// How many have.
    broken: usize,
    /// How many there have been.
    connections: usize,
}

/// A relay on a free port of this machine.
#[derive(Debug, Clone)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Relay {
    /// Leads to `target`.
    ///
    /// # Panics
    /// Where no port is free.
    pub fn to(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let relay = Relay {
            address: listener.local_addr().expect("it is bound"),
            state: Arc::default(),
        };
        relay.mend(target);
        let state = relay.state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connect(stream, &state);
            }
        });
        relay
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Breaks every connection, and refuses new ones.
    pub fn cut(&self) {
        let mut state = self.state();
        state.target = None;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets connections through, to `target` from now on.
    pub fn mend(&self, target: SocketAddr) {
        self.state().target = Some(target);
    }

    /// From now on each new connection breaks when so many bytes have come back; `None`: they last.
    pub fn breaks_after(&self, bytes: Option<usize>) {
        self.state().breaks_after = bytes;
    }

    /// How many connections it has let through so far.
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// How many connections have broken because of that.
    pub fn broken(&self) -> usize {
        self.state().broken
    }
}

fn connect(client: TcpStream, shared: &Arc<Mutex<State>>) {
    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(Ok(server)) = state.target.map(TcpStream::connect) else {
        return;
    };
    let clones = (client.try_clone(), server.try_clone());
    let (Ok(client_too), Ok(server_too)) = clones else {
        return;
    };
    for stream in [client.try_clone(), server.try_clone()] {
        state.open.extend(stream);
    }
    state.connections += 1;
    let budget = state.breaks_after;
    drop(state);
    std::thread::spawn(move || pump(client, server, None));
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        if pump(server_too, client_too, budget) {
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            state.broken += 1;
        }
    });
}

/// Hands on until one side ends, or the budget is used up; then both sides end. Returns whether it was the budget.
fn pump(mut from: TcpStream, mut to: TcpStream, budget: Option<usize>) -> bool {
    let mut left = budget.unwrap_or(usize::MAX);
    let mut piece = [0; PIECE];
    while let Ok(length) = from.read(&mut piece)
        && length > 0
        && to.write_all(&piece[..length]).is_ok()
    {
        left = left.saturating_sub(length);
        if left == 0 {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
    left == 0
}

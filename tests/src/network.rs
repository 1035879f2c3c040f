//! Machines on a bad network: each host is a network namespace of the kernel with one device, and each IP packet between two
//! of them goes through a relay in this process, which delays it, loses it or meets a cut cable.
//!
//! The kernel's own `netem` would do that, too, but not every kernel is built with it. The stacks at both ends are the kernel's and
//! libp2p's, as in the field; the relay is a wire and changes no byte.
//!
//! Nothing here has a name outside of this process. A namespace lives by an open file, so it is gone with the process,
//! however that ends, and two tests never meet though they use the same addresses.

mod way;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::process::Command;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::runtime::Runtime;
use tokio_tun::Tun;

pub use way::Counters;
use way::Way;

use crate::needs;

/// Bytes of an IP packet: what Ethernet carries.
const MTU: usize = 1500;
/// Hosts of a network: the first has the address after its base.
const MOST_HOSTS: usize = 254;

/// Where packets go: by the addresses they come from and go to.
type Ways = Arc<RwLock<HashMap<(Ipv4Addr, Ipv4Addr), Arc<Way>>>>;

/// Hosts and the links between them. What is linked to nothing reaches nothing.
#[derive(Debug)]
pub struct Network {
    base: Ipv4Addr,
    relay: Option<Runtime>,
    ways: Ways,
    chance: fastrand::Rng,
    hosts: usize,
}

impl Drop for Network {
    fn drop(&mut self) {
        // Waits for nobody, as a test that panics in the middle of it must not either.
        if let Some(relay) = self.relay.take() {
            relay.shutdown_background();
        }
    }
}

/// A machine of its own, as far as the network goes: programs started in it see its device and its loopback, nothing else.
pub struct Host {
    name: String,
    address: Ipv4Addr,
    namespace: File,
    device: Arc<Tun>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.address)
    }
}

/// A second device of a host.
pub struct Cable {
    _device: Vec<Tun>,
}

impl fmt::Debug for Cable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cable")
    }
}

/// The wire between two hosts, both ways. What is set holds for packets that are sent from then on.
#[derive(Debug)]
pub struct Link {
    ways: [Arc<Way>; 2],
}

/// A link that is cut. Dropping it heals the link, also where a test fails meanwhile: who waits at an end is not left waiting.
#[derive(Debug)]
#[must_use = "the link is healed when it is dropped"]
pub struct Partition<'a> {
    link: &'a Link,
}

impl Drop for Partition<'_> {
    fn drop(&mut self) {
        self.link.set(|it| it.cut = false);
    }
}

impl Network {
    /// A network of private addresses, without hosts. All chance in it comes from `seed`, and from the order in which programs
    /// send. `None` where the machine does not allow it, which the test says loudly.
    ///
    /// # Panics
    /// Where nothing may be skipped (`PODIUM_NO_SKIP`).
    pub fn new(seed: u64) -> Option<Network> {
        Network::at(Ipv4Addr::new(10, 0, 0, 0), seed)
    }

    /// The same with addresses above `base`, of which the last byte is zero: some programs take only public ones seriously.
    pub fn at(base: Ipv4Addr, seed: u64) -> Option<Network> {
        if let Err(missing) = possible() {
            needs(false, &format!("no network namespaces: {missing}"));
            return None;
        }
        let relay = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("relay")
            .enable_all()
            .build();
        Some(Network {
            base,
            relay: Some(relay.expect("a relay")),
            ways: Ways::default(),
            chance: fastrand::Rng::with_seed(seed),
            hosts: 0,
        })
    }

    fn relay(&self) -> &Runtime {
        self.relay.as_ref().expect("it runs until it is dropped")
    }

    /// One more host, with the next free address.
    ///
    /// # Panics
    /// Where the kernel refuses what it allowed to [`Network::new`].
    pub fn host(&mut self, name: &str) -> Host {
        self.hosts += 1;
        assert!(self.hosts <= MOST_HOSTS, "too many hosts");
        let address = Ipv4Addr::from_bits(self.base.to_bits() + self.hosts as u32);
        let relay = self.relay().handle().clone();
        let (namespace, device) = on_thread(name, || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            let namespace = File::open("/proc/thread-self/ns/net").expect("the namespace");
            loopback_up();
            // The device belongs to the namespace; what is read from it belongs to the relay.
            let _relay = relay.enter();
            let built = Tun::builder()
                .name("wire")
                .address(address)
                .netmask(Ipv4Addr::new(255, 255, 255, 0))
                .mtu(MTU as i32)
                .up()
                .build();
            let mut built = built.expect("a TUN device in the new namespace");
            (namespace, Arc::new(built.remove(0)))
        });
        self.relay()
            .spawn(from_host(Arc::clone(&device), Arc::clone(&self.ways)));
        Host {
            name: name.to_owned(),
            address,
            namespace,
            device,
        }
    }

    /// One more device of a host, with an address in a network where nobody else is: a cable that is put in, and pulled out when
    /// what is returned is dropped.
    ///
    /// # Panics
    /// Where the kernel refuses it.
    pub fn cable(&self, host: &Host, address: Ipv4Addr) -> Cable {
        let relay = self.relay().handle().clone();
        let built = host.enter(|| {
            let _relay = relay.enter();
            let tun = Tun::builder().name("cable").address(address);
            let tun = tun.netmask(Ipv4Addr::new(255, 255, 255, 0)).up();
            tun.build()
        });
        Cable {
            _device: built.expect("a second TUN device"),
        }
    }

    /// A wire between two hosts: at first without delay, without loss, and as fast as the machine.
    pub fn link(&mut self, a: &Host, b: &Host) -> Link {
        let ways = [(a, b), (b, a)].map(|(from, to)| {
            let (way, arrivals) = Way::new(self.chance.fork());
            let way = Arc::new(way);
            let line = Arc::clone(&way).deliver(arrivals, Arc::clone(&to.device));
            self.relay().spawn(line);
            let mut all = self.ways.write().expect("nobody panics with it");
            all.insert((from.address, to.address), Arc::clone(&way));
            way
        });
        Link { ways }
    }
}

impl Host {
    /// Its address in the network.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Takes the device away: what is left is the loopback.
    ///
    /// # Panics
    /// Where the kernel refuses it.
    pub fn unplug(&self) {
        let done = self.enter(|| {
            let mut ip = Command::new("ip");
            ip.args(["link", "set", "wire", "down"]).status()
        });
        assert!(done.is_ok_and(|it| it.success()), "ip link set wire down");
    }

    /// Does `work` on this host: sockets that it opens, and programs and threads that it starts, are the host's, for as long as they live.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        on_thread(&self.name, || {
            setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("the host's namespace");
            work()
        })
    }
}

impl Link {
    fn set(&self, change: impl Fn(&mut way::Conditions)) -> &Link {
        for way in &self.ways {
            way.set(&change);
        }
        self
    }

    /// How long a packet is under way, one way.
    pub fn delay(&self, delay: Duration) -> &Link {
        self.set(|it| it.delay = delay)
    }

    /// How many of all packets are lost: 0.0 to 1.0.
    pub fn loss(&self, loss: f64) -> &Link {
        self.set(|it| it.loss = loss)
    }

    /// Bits a second, each way, behind a queue of 200 ms; what finds it full is lost. `None` is no limit.
    pub fn rate(&self, rate: Option<u64>) -> &Link {
        self.set(|it| it.rate = rate)
    }

    /// Cuts it until what is returned is dropped: nothing gets through, and what is under way is lost. Nobody is told, as with a
    /// cable further away.
    pub fn partition(&self) -> Partition<'_> {
        self.set(|it| it.cut = true);
        Partition { link: self }
    }

    /// What became of all packets so far, of both ways.
    pub fn counters(&self) -> Counters {
        let [there, back] = [&self.ways[0], &self.ways[1]].map(|way| way.counters());
        there + back
    }
}

/// Runs `work` on a thread that may change its namespace, since nobody uses it afterwards; a panic in it is the caller's.
fn on_thread<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, work);
        let done = thread.expect("a thread").join();
        done.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// What is missing for namespaces and their devices, if something is.
fn possible() -> Result<(), String> {
    if let Err(error) = on_thread("probe", || unshare(CloneFlags::CLONE_NEWNET)) {
        return Err(format!("the kernel says {error}; run the tests as root"));
    }
    File::open("/dev/net/tun")
        .map_err(|error| format!("/dev/net/tun: {error}; load the module `tun`"))?;
    let found = Command::new("ip").arg("-V").output().is_ok();
    found
        .then_some(())
        .ok_or_else(|| "ip (iproute2) is missing; run `make deps-test`".into())
}

/// Programs of a host talk to each other over its loopback, which a new namespace has switched off.
fn loopback_up() {
    let done = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(done.is_ok_and(|it| it.success()), "ip link set lo up");
}

/// Takes what a host sends and gives it to the way that it goes, until the device is gone.
async fn from_host(device: Arc<Tun>, ways: Ways) {
    let mut buffer = [0; MTU];
    while let Ok(length) = device.recv(&mut buffer).await {
        let packet = &buffer[..length];
        let way = addresses(packet).and_then(|addresses| {
            let ways = ways.read().expect("nobody panics with it");
            ways.get(&addresses).cloned()
        });
        if let Some(way) = way {
            way.send(packet);
        }
    }
}

/// Source and destination of an IPv4 packet (RFC 791 section 3.1). What else a kernel says on a new device is for nobody.
fn addresses(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let [from, to] = [12, 16].map(|at| {
        let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes))
    });
    (packet.first()? >> 4 == 4).then_some((from?, to?))
}

// A js-libp2p that knows the box and nobody else.
import { withLibp2pLight } from '@helia/libp2p'
import { createHeliaLight } from 'helia'
import { tcp } from '@libp2p/tcp'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { multiaddr } from '@multiformats/multiaddr'

/** A Helia that is not started. `settings` are libp2p's; `transports` and `services` of them come on top. */
export function withLibp2p ({ transports = [], services = {}, ...settings } = {}) {
  return withLibp2pLight(createHeliaLight({ start: false }), {
    addresses: { listen: [] },
    transports: [tcp(), ...transports],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // By default Helia refuses to dial private addresses, and the box is on one.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify(), ...services },
    ...settings
  })
}

/** Connects to the box and waits until it has said what it speaks: what begins before that has no peer for its protocol. */
export async function connect ({ libp2p }, address, within) {
  const signal = AbortSignal.timeout(within)
  const identified = new Promise((resolve, reject) => {
    libp2p.addEventListener('peer:identify', (e) => resolve(e.detail), { once: true })
    signal.addEventListener('abort', () => reject(new Error(`the box has not said what it speaks in ${within / 1000} s`)))
  })
  const dialled = libp2p.dial(multiaddr(address), { signal })
  const [connection, peer] = await Promise.all([dialled, identified])
  return { connection, peer }
}

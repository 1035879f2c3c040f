// Reads what the box published with Helia, the JavaScript IPFS: a second implementation, over bitswap and nothing else.
//
//   node helia.mjs <multiaddr with /p2p/> <root-cid> <path in the directory> [<segment-cid>]
//
// Node 22 or newer: `node_modules/.bin/node helia.mjs …`. One line of JSON on standard output: for each read its size,
// sha256 and time, or its error. Exit 0 if the box could be dialled.
import { createHash } from 'node:crypto'
import { createHeliaLight } from 'helia'
import { withLibp2pLight } from '@helia/libp2p'
import { withBitswap } from '@helia/bitswap'
import { unixfs } from '@helia/unixfs'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { multiaddr } from '@multiformats/multiaddr'
import { CID } from 'multiformats/cid'

const READ_MS = 20_000

const [address, root, path, segment] = process.argv.slice(2)
if (!path) {
  console.error('usage: helia.mjs <multiaddr> <root-cid> <path> [<segment-cid>]')
  process.exit(2)
}

try {
  const finding = { multiaddr: address, path: await visit(CID.parse(root), path) }
  if (segment) finding.segment = await visit(CID.parse(segment))
  console.log(JSON.stringify(finding))
  process.exit(0) // libp2p's timers would keep the process for seconds
} catch (e) {
  console.error(`could not judge: ${e.message ?? e}`)
  process.exit(1)
}

/** A fresh node for every read: with an empty store, each byte must have come over bitswap just now. */
async function visit (cid, path) {
  const helia = withBitswap(withLibp2pLight(createHeliaLight({ start: false }), {
    addresses: { listen: [] },
    transports: [tcp(), webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // By default Helia refuses to dial private addresses, and the box is on one.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify() }
  }))
  await helia.start()
  try {
    const identified = new Promise((done) => helia.libp2p.addEventListener('peer:identify', (e) => done(e.detail), { once: true }))
    const began = performance.now()
    const connection = await helia.libp2p.dial(multiaddr(address), { signal: AbortSignal.timeout(READ_MS) })
    // A read that starts before identify has no peer that speaks bitswap.
    const peer = await Promise.race([identified, late('identify')])
    const found = {
      cid: cid.toString(),
      path: path ?? null,
      peer: connection.remotePeer.toString(),
      agent: peer.agentVersion ?? null,
      protocols: peer.protocols,
      dial_ms: Math.round(performance.now() - began)
    }
    const reading = performance.now()
    const hash = createHash('sha256')
    let bytes = 0
    try {
      for await (const piece of unixfs(helia).cat(cid, { path, signal: AbortSignal.timeout(READ_MS) })) {
        hash.update(piece)
        bytes += piece.length
      }
      return { ...found, bytes, sha256: hash.digest('hex'), read_ms: Math.round(performance.now() - reading), error: null }
    } catch (e) {
      return { ...found, bytes, sha256: null, read_ms: Math.round(performance.now() - reading), error: `${e.name}: ${e.message}` }
    }
  } finally {
    await helia.stop()
  }
}

async function late (what) {
  await new Promise((done) => setTimeout(done, READ_MS))
  throw new Error(`no ${what} from the box in ${READ_MS / 1000} s`)
}

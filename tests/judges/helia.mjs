// Reads what the box published with Helia, the JavaScript IPFS: a second implementation, over bitswap and nothing else.
//
//   node helia.mjs <multiaddr with /p2p/> <root-cid> <path in the directory> [<segment-cid>]
//
// Node 22 or newer: `node_modules/.bin/node helia.mjs …`. One line of JSON on standard output: for each read its size,
// sha256 and time, or its error. Exit 0 if the box could be dialled.
import { createHash } from 'node:crypto'
import { withBitswap } from '@helia/bitswap'
import { unixfs } from '@helia/unixfs'
import { webSockets } from '@libp2p/websockets'
import { CID } from 'multiformats/cid'
import { connect, withLibp2p } from './lib/libp2p.mjs'

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
  const helia = withBitswap(withLibp2p({ transports: [webSockets()] }))
  await helia.start()
  try {
    const began = performance.now()
    const { connection, peer } = await connect(helia, address, READ_MS)
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

// Helia as a stranger's node that keeps the stream: it resolves the box's name by each route that Helia has, follows it over
// PubSub, reads every segment by its path as it comes, pins the finished broadcast, and reads that again when the box is gone.
//
//   node helia-follow.mjs <multiaddr with /p2p/> <box's address for viewers> <name>
//
// Node 22 or newer. On standard output a line of JSON for each thing done: {"route"}, {"segment"}, {"pinned"}, {"file"}, {"end"}. After
// {"pinned"} it waits for a line on standard input: from then on it reads only what it has. Exit 1 where it cannot go on.
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { createHeliaLight } from 'helia'
import { withBitswap } from '@helia/bitswap'
import { withHTTP } from '@helia/http'
import { ipns, pubSubIPNSRouting } from '@helia/ipns'
import { unixfs } from '@helia/unixfs'
import { gossipsub } from '@libp2p/gossipsub'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { CID } from 'multiformats/cid'
import { base36 } from 'multiformats/bases/base36'
import { connect, withLibp2p } from './lib/libp2p.mjs'

const READ_MS = 60_000
const POLL_MS = 100

const [address, viewer, name] = process.argv.slice(2)
if (!name) {
  console.error("usage: helia-follow.mjs <multiaddr> <box's address for viewers> <name>")
  process.exit(2)
}
const key = CID.parse(name, base36).multihash
const say = (finding) => console.log(JSON.stringify(finding))
const line = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

try {
  await byHttp()
  await byDht()
  await follow()
  say({ end: true })
  process.exit(0) // libp2p's timers would keep the process for seconds
} catch (e) {
  console.error(`could not judge: ${e.stack ?? e}`)
  process.exit(1)
}

/** A node that knows this box and nobody else, with these services on top. */
async function connected (services) {
  const helia = withBitswap(withLibp2p({
    // A connection that does not answer for five seconds is ended; by default ten seconds pass before it is asked.
    connectionMonitor: { pingInterval: 1_000 },
    services
  }))
  await helia.start()
  await connect(helia, address, READ_MS)
  return helia
}

/** What the name means by a node's only route; asked again while that knows nothing yet. */
async function resolve (names) {
  for (const until = Date.now() + READ_MS; ;) {
    try {
      for await (const { record } of names.resolve(key, { signal: AbortSignal.timeout(READ_MS) })) {
        return { value: new TextDecoder().decode(record.value), sequence: record.sequence }
      }
    } catch (e) {
      if (Date.now() > until) throw e
    }
    await sleep(POLL_MS)
  }
}

async function byHttp () {
  // By default Helia asks neither plain HTTP nor private addresses, and the box is both.
  const helia = withHTTP(createHeliaLight({ start: false }), {
    delegatedRouters: [viewer], recursiveGateways: [], allowInsecure: true, allowLocal: true
  })
  await helia.start()
  await found('http', helia, ipns(helia))
}

async function byDht () {
  const dht = kadDHT({ protocol: '/ipfs/kad/1.0.0', clientMode: true, peerInfoMapper: passthroughMapper })
  const helia = await connected({ dht, ping: ping() })
  await found('dht', helia, ipns(helia))
}

async function found (route, helia, names) {
  const { value, sequence } = await resolve(names)
  say({ route, value, sequence: String(sequence) })
  await helia.stop()
}

async function follow () {
  // Helia answers pings by default. This one does not, and asks by them all the same.
  const helia = await connected({ pubsub: gossipsub() })
  const [connection] = helia.libp2p.getConnections()
  const names = ipns(helia, { routers: [pubSubIPNSRouting(helia)] })
  const files = unixfs(helia)
  const read = async (root, path, options) => {
    const hash = createHash('sha256')
    const pieces = []
    for await (const piece of files.cat(root, { path, signal: AbortSignal.timeout(READ_MS), ...options })) {
      hash.update(piece)
      pieces.push(piece)
    }
    return { bytes: Buffer.concat(pieces), sha256: hash.digest('hex') }
  }

  const seen = new Set()
  let last, first, highest = 0n, root
  for (;;) {
    const { value, sequence } = await resolve(names)
    if (sequence < highest) throw new Error(`${sequence} after ${highest}`)
    highest = sequence
    if (value === last) {
      await sleep(POLL_MS)
      continue
    }
    if (!last) say({ route: 'pubsub', value, sequence: String(sequence) })
    last = value
    root = CID.parse(value.split('/')[2])
    first ??= root
    for (const rendition of ['video', 'audio']) {
      const playlist = (await read(root, `${rendition}/live.m3u8`)).bytes.toString()
      for (const uri of playlist.split('\n').filter((line) => line.endsWith('.m4s'))) {
        const path = `${rendition}/${uri}`
        if (seen.has(path)) continue
        seen.add(path)
        const { bytes, sha256 } = await read(root, path)
        say({ segment: path, bytes: bytes.length, sha256 })
      }
    }
    const entries = []
    for await (const entry of files.ls(root)) entries.push(entry.name)
    if (entries.includes('vod.m3u8')) break
  }
  // Nobody dials anew, so it is the one that was there in the beginning.
  if (connection.status !== 'open') throw new Error('the connection with the box has ended')

  let blocks = 0
  for await (const _ of helia.pins.add(root, { signal: AbortSignal.timeout(READ_MS) })) blocks++
  say({ pinned: last, blocks })
  await line.next()

  // What is not pinned goes, so that what is read was kept by the pin.
  await helia.gc()
  if (await helia.blockstore.has(first)) throw new Error('the first root is there still: nothing was collected')
  const walk = async (cid, at) => {
    for await (const entry of files.ls(cid, { offline: true })) {
      const path = at + entry.name
      if ((await files.stat(entry.cid, { offline: true })).type === 'directory') {
        await walk(entry.cid, `${path}/`)
      } else {
        const { bytes, sha256 } = await read(root, path, { offline: true })
        say({ file: path, bytes: bytes.length, sha256 })
      }
    }
  }
  await walk(root, '')
}

// Asks for blocks by bitswap as Kubo does where it is in a hurry: whether the box has them, and for the blocks themselves before the
// answer has come. What was asked for has to come, however the two answers meet on the box: Kubo takes a HAVE for an answer,
// and does not ask that peer again.
//
//   node bitswap.mjs <multiaddr with /p2p/> <rounds> <cid> [<cid>...]
//
// Node 22 or newer. It ends after so many rounds, or with the first one in which blocks were not there after eight seconds. One line
// of JSON on standard output: how many were asked for and have come, and how many of them late. Exit 1 where it cannot go on.
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { multiaddr } from '@multiformats/multiaddr'
import { CID } from 'multiformats/cid'
import { withLibp2p } from './lib/libp2p.mjs'

const BITSWAP = '/ipfs/bitswap/1.2.0'
const LATE_MS = 8_000
const LOST_MS = 120_000
// cancel = 3, wantType = 4 (0 is the block, 1 whether it is there), sendDontHave = 5.
const HAVE = Buffer.from([0x20, 1, 0x28, 1])
const BLOCK = Buffer.from([0x20, 0, 0x28, 1])
const CANCEL = Buffer.from([0x18, 1])

const [address, rounds, ...cids] = process.argv.slice(2)
if (cids.length === 0) {
  console.error('usage: bitswap.mjs <multiaddr> <rounds> <cid> [<cid>...]')
  process.exit(2)
}
const wanted = cids.map((it) => CID.parse(it))

try {
  console.log(JSON.stringify(await ask()))
  process.exit(0) // libp2p's timers would keep the process for seconds
} catch (e) {
  console.error(`could not judge: ${e.stack ?? e}`)
  process.exit(1)
}

async function ask () {
  const helia = withLibp2p()
  await helia.start()
  const { libp2p } = helia
  let missing = new Set()
  await libp2p.handle(BITSWAP, async (stream) => {
    let rest = Buffer.alloc(0)
    for await (const bytes of stream) {
      rest = Buffer.concat([rest, bytes.subarray()])
      for (let at; (at = message(rest)) && rest.length >= at.end; rest = rest.subarray(at.end)) {
        for (const block of fields(rest.subarray(at.begin, at.end), 3)) {
          for (const data of fields(block, 2)) missing.delete(createHash('sha256').update(data).digest('hex'))
        }
      }
    }
  })
  const stream = await libp2p.dialProtocol(multiaddr(address), BITSWAP)
  const finding = { asked: 0, come: 0, late: 0 }
  for (let round = 0; round < Number(rounds) && finding.late === 0; round++) {
    missing = new Set(wanted.map((cid) => Buffer.from(cid.multihash.digest).toString('hex')))
    stream.send(wants(HAVE))
    stream.send(wants(BLOCK))
    await come(LATE_MS)
    finding.late = missing.size
    await come(LOST_MS)
    finding.asked += wanted.length
    finding.come += wanted.length - missing.size
    stream.send(wants(CANCEL))
  }
  return finding

  async function come (ms) {
    for (const until = Date.now() + ms; missing.size > 0 && Date.now() < until;) await sleep(5)
  }
}

/** A message with a want list (bitswap 1.2.0, its `message.proto`). */
function wants (kind) {
  const entries = wanted.map((cid) => Buffer.concat([field(1, Buffer.from(cid.bytes)), Buffer.from([0x10, 1]), kind]))
  const message = field(1, Buffer.concat(entries.map((entry) => field(1, entry))))
  return Buffer.concat([varint(message.length), message])
}

function field (number, bytes) {
  return Buffer.concat([Buffer.from([number << 3 | 2]), varint(bytes.length), bytes])
}

/** The fields of this number in a message of protobuf, of those that have a length. */
function * fields (bytes, number) {
  for (let at = 0; at < bytes.length;) {
    const tag = read(bytes, at)
    const value = read(bytes, tag.end)
    const withLength = (tag.value & 7) === 2
    at = value.end + (withLength ? value.value : 0)
    if (withLength && tag.value >> 3 === number) yield bytes.subarray(value.end, at)
  }
}

/** Where the first message is, as far as its length has come. */
function message (bytes) {
  const length = read(bytes, 0)
  return length && { begin: length.end, end: length.end + length.value }
}

function varint (value) {
  const bytes = []
  for (; value > 127; value >>= 7) bytes.push(value & 127 | 128)
  return Buffer.from([...bytes, value])
}

function read (bytes, at) {
  for (let value = 0, shift = 0; at < bytes.length; shift += 7) {
    const byte = bytes[at++]
    value |= (byte & 127) << shift
    if (byte < 128) return { value, end: at }
  }
}

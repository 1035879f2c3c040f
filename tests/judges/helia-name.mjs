// Follows the box's name with Helia over HTTP alone, as a web page can: the signed record from `/routing/v1`, verified, and
// blocks from the trustless gateway, verified.
//
//   node helia-name.mjs <box's address> <name> <path in the directory>
//
// Node 22 or newer. One line of JSON on standard output: value, sequence, and the file's size and sha256.
import { createHash } from 'node:crypto'
import { createHeliaLight } from 'helia'
import { withHTTP } from '@helia/http'
import { ipns } from '@helia/ipns'
import { unixfs } from '@helia/unixfs'
import { CID } from 'multiformats/cid'
import { base36 } from 'multiformats/bases/base36'

const READ_MS = 20_000

const [base, name, path] = process.argv.slice(2)
if (!path) {
  console.error("usage: helia-name.mjs <box's address> <name> <path>")
  process.exit(2)
}

try {
  const helia = withHTTP(createHeliaLight({ start: false }), {
    delegatedRouters: [base],
    recursiveGateways: [base],
    // By default Helia asks neither plain HTTP nor private addresses, and the box is both.
    allowInsecure: true,
    allowLocal: true
  })
  await helia.start()
  const key = CID.parse(name, base36).multihash
  let record
  for await (const found of ipns(helia).resolve(key, { nocache: true, signal: AbortSignal.timeout(READ_MS) })) {
    record = found.record
    break
  }
  const value = new TextDecoder().decode(record.value)
  const hash = createHash('sha256')
  let bytes = 0
  const root = CID.parse(value.split('/')[2])
  for await (const piece of unixfs(helia).cat(root, { path, signal: AbortSignal.timeout(READ_MS) })) {
    hash.update(piece)
    bytes += piece.length
  }
  console.log(JSON.stringify({ value, sequence: String(record.sequence), bytes, sha256: hash.digest('hex') }))
  process.exit(0)
} catch (e) {
  console.error(`could not judge: ${e.message ?? e}`)
  process.exit(1)
}

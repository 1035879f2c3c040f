// Reads a media playlist's init segments and segments with GPAC's mp4box.js, as a player on Media Source Extensions would.
//
//   node mp4box.mjs <address of a media playlist>
//
// One line of JSON on standard output: a row a segment (its boxes, its samples, where they begin and end, what EXTINF said),
// and `findings`: what mp4box complained about, and where timestamps do not go on without EXT-X-DISCONTINUITY.
import { createFile, Log, MP4BoxBuffer } from 'mp4box'

const findings = []
for (const level of ['warn', 'error']) console[level] = (...words) => findings.push(words.join(' '))
Log.setLogLevel(Log.LOG_LEVEL_WARNING)

const url = process.argv[2]
const text = await (await fetch(url)).text()
const bytes = async (uri) => (await fetch(new URL(uri, url))).arrayBuffer()

// One run of fragments after one init segment: mp4box sees them as a file that grows.
class Run {
  file = createFile()
  position = 0
  seen = 0

  append(data) {
    const buffer = MP4BoxBuffer.fromArrayBuffer(data, this.position)
    this.position += data.byteLength
    const boxes = this.file.boxes.length
    this.file.appendBuffer(buffer)
    this.file.flush()
    return this.file.boxes.slice(boxes).map((box) => box.type)
  }

  // The samples of what was appended last.
  samples() {
    const [track] = this.file.getInfo().tracks
    const all = this.file.getTrackSamplesInfo(track.id)
    const fresh = all.slice(this.seen)
    this.seen = all.length
    return { track, fresh }
  }
}

const segments = []
let run, end, seconds
for (const line of text.split('\n')) {
  const map = line.match(/^#EXT-X-MAP:.*URI="([^"]+)"/)
  const extinf = line.match(/^#EXTINF:([\d.]+)/)
  if (line === '#EXT-X-DISCONTINUITY') end = undefined
  if (map) {
    run = new Run()
    const boxes = run.append(await bytes(map[1]))
    if (boxes.join() !== 'ftyp,moov') findings.push(`${map[1]} has the boxes ${boxes}`)
  }
  if (extinf) seconds = Number(extinf[1])
  if (!line || line.startsWith('#')) continue
  const boxes = run.append(await bytes(line))
  const { track, fresh } = run.samples()
  if (fresh.length === 0) {
    findings.push(`${line} has no samples`)
    continue
  }
  if (!fresh[0].is_sync) findings.push(`${line} does not begin with a sync sample`)
  for (const sample of fresh) {
    if (end !== undefined && sample.dts !== end) findings.push(`${line}: a sample at ${sample.dts}, the one before ended at ${end}`)
    if (sample.cts !== sample.dts) findings.push(`${line}: a sample at ${sample.dts} is shown at ${sample.cts}`)
    end = sample.dts + sample.duration
  }
  const first = fresh[0].dts
  const media = (end - first) / track.timescale
  if (Math.abs(media - seconds) > 1e-6 + 0.5e-6) findings.push(`${line}: EXTINF ${seconds}, its samples last ${media}`)
  segments.push({ uri: line, boxes, codec: track.codec, samples: fresh.length, first, end, seconds })
}
console.log(JSON.stringify({ segments, findings }))

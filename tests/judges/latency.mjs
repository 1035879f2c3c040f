// How late is the picture? Plays a stream whose picture carries the time (firmware/media/src/timecode.rs), reads that from the
// pictures as they are shown, and compares it with this machine's clock.
//
//   node latency.mjs <watch-page-url> <seconds>              the page as viewers get it
//   node latency.mjs --change <watch-page-url> <seconds>     the same, in another of its qualities every ten seconds
//   node latency.mjs --plain <playlist-url> <seconds>        hls.js without its low-latency mode
//   node latency.mjs --plain <playlist-file> <seconds>       the same, from a directory that this program serves
//
// One line of JSON on standard output; exit 0 if it could judge. Milliseconds. `why` says what never came.
import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { open, report } from './lib/browser.mjs'

const START_MS = 60_000
// What the first seconds are like is another question.
const SETTLE_MS = 10_000
const CHANGE_MS = 10_000
const HLS = join(dirname(fileURLToPath(import.meta.url)), '../../firmware/web/node_modules/hls.js/dist/hls.min.js')
const TYPES = { '.m3u8': 'application/vnd.apple.mpegurl', '.js': 'text/javascript', '.html': 'text/html' }

await report(async () => {
  const plain = process.argv[2] === '--plain'
  const change = process.argv[2] === '--change'
  const [url, seconds] = process.argv.slice(plain || change ? 3 : 2)
  if (!(Number(seconds) > 0)) throw new Error('usage: latency.mjs [--plain | --change] <url> <seconds>')
  const server = plain ? await serve(url) : null
  const address = server ? `http://127.0.0.1:${server.address().port}/` : url
  const { page, record, browser, close } = await open(address, { width: 1280, height: 800 })
  const asked = { playlists: 0, awaited: 0, deltas: 0, parts: 0, segments: 0 }
  page.on('request', (request) => {
    const { pathname, search } = new URL(request.url())
    if (pathname.endsWith('.m3u8')) {
      asked.playlists += 1
      if (search.includes('_HLS_msn=') && search.includes('_HLS_part=')) asked.awaited += 1
      if (search.includes('_HLS_skip=')) asked.deltas += 1
    } else if (pathname.endsWith('.m4s')) {
      if (pathname.includes('/part-')) asked.parts += 1
      else asked.segments += 1
    }
  })
  try {
    await page.goto(address, { waitUntil: 'load', timeout: START_MS })
    const finding = { url, browser, why: null }
    try {
      await page.waitForFunction(() => document.querySelector('video')?.currentTime > 0, null, { timeout: START_MS })
      await page.waitForTimeout(SETTLE_MS)
      await page.evaluate(watch)
      if (change) await page.evaluate(changeQuality, CHANGE_MS)
      await page.waitForTimeout(Number(seconds) * 1000)
    } catch (e) {
      finding.why = e.message.split('\n')[0]
    }
    Object.assign(finding, await page.evaluate(() => globalThis.latency?.() ?? {}))
    finding.asked = asked
    finding.bad_status = record.bad_status
    finding.errors = [...record.console_errors, ...record.page_errors]
    return finding
  } finally {
    await close()
    server?.close()
  }
})

/** A page that plays `what` plainly, and the playlist's directory if it is a file. */
async function serve (what) {
  const remote = /^https?:/.test(what)
  const stream = remote ? what : `/media/${basename(what)}`
  const html = `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><video muted autoplay></video><script src="/hls.js"></script><script>
    const hls = new Hls({ lowLatencyMode: false })
    window.hls = hls
    hls.loadSource(${JSON.stringify(stream)})
    hls.attachMedia(document.querySelector('video'))
    hls.on('hlsManifestParsed', () => document.querySelector('video').play())
  </script>`
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost')
    try {
      const body = pathname === '/' ? html
        : await readFile(pathname === '/hls.js' ? HLS : join(dirname(what), basename(pathname)))
      response.setHeader('content-type', TYPES[extname(pathname) || '.html'] ?? 'application/octet-stream')
      response.end(body)
    } catch {
      response.writeHead(404).end()
    }
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  return server
}

// Runs in the page. The next quality at once, wherever in the live edge's segment that is.
function changeQuality (every) {
  const { hls } = globalThis.podium
  setInterval(() => { hls.loadLevel = (hls.loadLevel + 1) % hls.levels.length }, every)
}

// Runs in the page. Installs `globalThis.latency`, which ends the watch and tells.
function watch () {
  const BITS = 16
  const video = document.querySelector('video')
  const canvas = new OffscreenCanvas(2 * BITS, 1).getContext('2d', { willReadFrequently: true })
  const late = []
  const stalls = { waiting: 0, frozen: 0, frozen_ms: 0, seeks: 0 }
  const rates = {}
  let unreadable = 0
  let looked = -Infinity
  let moved = performance.now()
  let position = video.currentTime
  let height = video.videoHeight
  let changes = 0
  let over = false

  const read = () => {
    // The middle of the strip, each cell drawn into one pixel.
    const rows = Math.max(Math.floor(video.videoHeight / 30), 8)
    canvas.drawImage(video, 0, rows / 4, video.videoWidth, rows / 2, 0, 0, 2 * BITS, 1)
    const { data } = canvas.getImageData(0, 0, 2 * BITS, 1)
    let time = 0
    for (let cell = 0; cell < BITS; cell++) {
      const bit = data[4 * cell] > 127
      if (bit === data[4 * (cell + BITS)] > 127) return null
      time = time * 2 + bit
    }
    return time
  }
  const shown = (_, { expectedDisplayTime }) => {
    if (over) return
    if (video.videoHeight !== height) {
      height = video.videoHeight
      changes += 1
    }
    if (performance.now() - looked > 90) {
      looked = performance.now()
      const time = read()
      // The picture is on the screen when the compositor says so, or now if that is past.
      const at = performance.timeOrigin + Math.max(performance.now(), expectedDisplayTime)
      if (time === null) unreadable += 1
      else late.push(((Math.round(at) - time) % 65536 + 65536) % 65536)
    }
    video.requestVideoFrameCallback(shown)
  }
  video.requestVideoFrameCallback(shown)
  video.addEventListener('waiting', () => { stalls.waiting += 1 })
  video.addEventListener('seeking', () => { stalls.seeks += 1 })
  // A picture that stands for a quarter of a second is seen.
  const timer = setInterval(() => {
    const now = performance.now()
    rates[video.playbackRate] = (rates[video.playbackRate] ?? 0) + 1
    if (video.currentTime !== position) {
      if (now - moved > 250) { stalls.frozen += 1; stalls.frozen_ms += Math.round(now - moved) }
      position = video.currentTime
      moved = now
    }
  }, 20)

  const begun = performance.now()
  globalThis.latency = () => {
    over = true
    clearInterval(timer)
    const sorted = late.toSorted((a, b) => a - b)
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? null
    const hls = globalThis.podium?.hls ?? globalThis.hls
    const quality = video.getVideoPlaybackQuality()
    return {
      seconds: Math.round((performance.now() - begun) / 100) / 10,
      samples: late.length,
      unreadable,
      p50: at(0.5),
      p95: at(0.95),
      max: sorted.at(-1) ?? null,
      last: late.at(-1) ?? null,
      stalls,
      rates,
      changes,
      dropped: quality.droppedVideoFrames,
      frames: quality.totalVideoFrames,
      // What the page and hls.js believe, seconds.
      told: globalThis.podium?.latency ?? null,
      target: hls?.targetLatency ?? null,
      low_latency: hls?.lowLatencyMode ?? null
    }
  }
}

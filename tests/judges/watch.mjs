// Watches a page with a <video> as a viewer would, and tells what was seen and heard.
//
//   node watch.mjs <viewer-url> <screenshot.png> [seconds of media time, default 10]
//
// One line of JSON on standard output; exit 0 if it could judge, also where the verdict is bad. `played` is false where
// the video did not start or did not keep going; `why` then says what it waited for. Levels are dBFS, luma is 0 to 255.
// What the page knows of itself it tells in `window.podium` (hls, state, source, latency, lastError); another page may offer
// its hls.js as `window.hls`.
import { open, painted, report } from './lib/browser.mjs'

const START_MS = 60_000 // a cold box on a busy machine; a healthy one starts in under five seconds
const SLACK_MS = 30_000 // stalls beyond the asked media time before we give up

await report(async () => {
  const [url, screenshot, seconds = '10'] = process.argv.slice(2)
  if (!screenshot || !(Number(seconds) > 0)) throw new Error('usage: watch.mjs <viewer-url> <screenshot.png> [seconds]')
  const { page, record, browser, close } = await open(url, { width: 1280, height: 800 })
  try {
    const began = performance.now()
    const finding = { url, browser, played: false, why: null }
    const wait = async (what, ms, predicate, arg) => {
      if (finding.why) return false
      try {
        await page.waitForFunction(predicate, arg, { timeout: ms })
        return true
      } catch (e) {
        finding.why = `${what}: ${e.message.split('\n')[0]}`
        return false
      }
    }

    const response = await page.goto(url, { waitUntil: 'load', timeout: START_MS })
    finding.status = response?.status() ?? null
    finding.video_after_ms = null
    if (await wait('no video element with a picture', START_MS, () => document.querySelector('video')?.readyState >= 2)) {
      finding.video_after_ms = Math.round(performance.now() - began)
      finding.started_by = await page.evaluate(start)
      finding.played = await wait('media time did not advance', Number(seconds) * 1000 + SLACK_MS,
        (s) => globalThis.judge.done(s), Number(seconds))
    }
    Object.assign(finding, await page.evaluate(() => globalThis.judge?.finding() ?? {}))
    finding.page = await page.evaluate(() => {
      const { state = null, source = null, latency = null, lastError = null } = globalThis.podium ?? {}
      return { state, source, latency, last_error: lastError }
    })
    finding.title = await page.title()
    finding.text = await page.evaluate(() => document.body.innerText)
    await painted(page)
    await page.screenshot({ path: screenshot })
    return { ...finding, ...record, screenshot }
  } finally {
    await close()
  }
})

// Runs in the page. Starts the video if the page did not, and installs the instruments as `globalThis.judge`.
async function start () {
  const video = document.querySelector('video')
  const dbfs = (x) => x > 0 ? Math.round(200 * Math.log10(x)) / 10 : -200
  const faults = { stalls: 0, seeks: 0 }
  const hlsErrors = []
  const hls = globalThis.podium?.hls ?? globalThis.hls
  hls?.on?.('hlsError', (_, e) => hlsErrors.push({ type: e.type, details: e.details, fatal: e.fatal }))

  // A muted element is silent to WebAudio too. Pages may start muted, as browsers demand.
  video.muted = false
  video.volume = 1
  const startedBy = video.paused ? 'judge' : 'page'
  if (video.paused) await video.play()

  const audio = new AudioContext()
  let source, method
  try {
    source = audio.createMediaElementSource(video)
    source.connect(audio.destination)
    method = 'element'
  } catch {
    // The page has taken the element's sound already.
    source = audio.createMediaStreamSource(video.captureStream())
    method = 'stream'
  }
  const splitter = audio.createChannelSplitter(2)
  source.connect(splitter)
  const ears = ['left', 'right'].map((name, channel) => {
    const analyser = audio.createAnalyser()
    analyser.fftSize = 4096 // 85 ms at 48 kHz, longer than the pause between two looks
    splitter.connect(analyser, channel)
    return { name, analyser, peak: 0, energy: 0, looks: 0, loud: 0 }
  })
  await audio.resume()
  const wave = new Float32Array(4096)
  const listen = () => {
    for (const ear of ears) {
      ear.analyser.getFloatTimeDomainData(wave)
      let sum = 0
      let top = 0
      for (const x of wave) { sum += x * x; top = Math.max(top, Math.abs(x)) }
      ear.peak = Math.max(ear.peak, top)
      ear.energy += sum / wave.length
      ear.looks += 1
      if (sum / wave.length > 1e-6) ear.loud += 1 // above -60 dBFS
    }
  }

  const small = new OffscreenCanvas(160, 90).getContext('2d', { willReadFrequently: true })
  const picture = { samples: 0, luma_mean: 0, luma_variance: 0, black: 0, moved: 0, still: 0 }
  let before = null
  const look = () => {
    small.drawImage(video, 0, 0, 160, 90)
    const { data } = small.getImageData(0, 0, 160, 90)
    const luma = new Float32Array(160 * 90)
    let sum = 0
    let squares = 0
    let change = 0
    for (let i = 0; i < luma.length; i++) {
      luma[i] = 0.2126 * data[4 * i] + 0.7152 * data[4 * i + 1] + 0.0722 * data[4 * i + 2]
      sum += luma[i]
      squares += luma[i] ** 2
      if (before) change += Math.abs(luma[i] - before[i])
    }
    const mean = sum / luma.length
    picture.samples += 1
    picture.luma_mean += mean
    picture.luma_variance += squares / luma.length - mean ** 2
    if (mean < 20) picture.black += 1
    if (before) {
      picture.moved = Math.max(picture.moved, change / luma.length)
      if (change === 0) picture.still += 1
    }
    before = luma
  }

  video.addEventListener('waiting', () => { faults.stalls += 1 })
  video.addEventListener('seeking', () => { faults.seeks += 1 })
  const from = { media: video.currentTime, wall: performance.now(), frames: video.getVideoPlaybackQuality().totalVideoFrames }
  let lookedAt = -Infinity
  const timer = setInterval(() => {
    listen()
    // Half a second of media time apart: a clock or a talking head has moved by then.
    if (Math.abs(video.currentTime - lookedAt) >= 0.5) { lookedAt = video.currentTime; look() }
  }, 50)

  const round = (x) => Math.round(x * 1000) / 1000
  globalThis.judge = {
    done: (seconds) => video.currentTime - from.media >= seconds,
    finding: () => {
      clearInterval(timer)
      const quality = video.getVideoPlaybackQuality()
      return {
        video: {
          width: video.videoWidth,
          height: video.videoHeight,
          media_seconds: round(video.currentTime - from.media),
          wall_seconds: round((performance.now() - from.wall) / 1000),
          frames: quality.totalVideoFrames - from.frames,
          dropped: quality.droppedVideoFrames,
          paused: video.paused,
          ended: video.ended,
          error: video.error?.message ?? null,
          behind_live_edge: video.seekable.length ? round(video.seekable.end(video.seekable.length - 1) - video.currentTime) : null,
          ...faults
        },
        picture: {
          ...picture,
          luma_mean: round(picture.luma_mean / picture.samples),
          luma_variance: round(picture.luma_variance / picture.samples),
          moved: round(picture.moved)
        },
        sound: {
          method,
          context: audio.state,
          decoded_bytes: video.webkitAudioDecodedByteCount ?? null,
          ...Object.fromEntries(ears.map((e) => [e.name, {
            peak: dbfs(e.peak), rms: dbfs(Math.sqrt(e.energy / e.looks)), loud_share: round(e.loud / e.looks)
          }]))
        },
        hls: {
          exposed: hls?.on !== undefined,
          errors: hlsErrors,
          latency: Number.isFinite(hls?.latency) ? round(hls.latency) : null
        }
      }
    }
  }
  return startedBy
}

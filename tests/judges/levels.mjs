// Plays a page's stream in each of its qualities, one after the other and back, and tells whether that was seen.
//
//   node levels.mjs <viewer-url> [seconds in each, default 4]
//
// One line of JSON on standard output: the levels that hls.js found, and for each change the height of the picture that then
// played, and the stalls and seeks on the way. What it plays is in `window.podium.hls`, see watch.mjs.
import { open, report } from './lib/browser.mjs'

const PATIENCE_MS = 60_000
const BEHIND_SECONDS = 10

await report(async () => {
  const [url, seconds = '4'] = process.argv.slice(2)
  if (!url || !(Number(seconds) > 0)) throw new Error('usage: levels.mjs <viewer-url> [seconds]')
  const { page, record, browser, close } = await open(url, { width: 1280, height: 800 })
  const wait = (predicate, arg) => page.waitForFunction(predicate, arg, { timeout: PATIENCE_MS })
  try {
    await page.goto(url, { waitUntil: 'load', timeout: PATIENCE_MS })
    await wait(() => {
      const video = document.querySelector('video')
      return globalThis.podium?.hls?.levels.length > 0 && video.currentTime > 0 && !video.paused && video.readyState >= 3
    })
    // Like a viewer who went back: at the live edge one second is in the buffer, and a machine that is busy for as long stalls
    // whether the quality changes or not.
    await page.evaluate((behind) => { document.querySelector('video').currentTime -= behind }, BEHIND_SECONDS)
    await wait((ahead) => {
      const video = document.querySelector('video')
      const { buffered } = video
      const end = buffered.length > 0 ? buffered.end(buffered.length - 1) : 0
      return !video.seeking && !video.paused && video.readyState >= 3 && end > video.currentTime + ahead
    }, BEHIND_SECONDS / 2)
    await page.evaluate(() => {
      const video = document.querySelector('video')
      const seen = globalThis.seen = { stalls: 0, seeks: 0, errors: [] }
      video.addEventListener('waiting', () => { seen.stalls += 1 })
      video.addEventListener('seeking', () => { seen.seeks += 1 })
      globalThis.podium.hls.on('hlsError', (_, e) => {
        // What a change of quality calls off is not an error of the stream.
        if (e.details !== 'aborted') seen.errors.push({ details: e.details, fatal: e.fatal })
      })
    })
    const levels = await page.evaluate(() => globalThis.podium.hls.levels.map(({ width, height, bitrate, frameRate, attrs }) =>
      ({ width, height, bitrate, frame_rate: frameRate, codecs: attrs.CODECS })))
    const changes = []
    for (const level of [...levels.keys(), ...[...levels.keys()].reverse()]) {
      // From the next segment on: what is in the buffer, of whatever quality, is played to its end first.
      const end = await page.evaluate((level) => {
        globalThis.podium.hls.loadLevel = level
        const { buffered } = document.querySelector('video')
        return buffered.end(buffered.length - 1)
      }, level)
      await wait(([level, height, end]) => {
        const { videoHeight, currentTime } = document.querySelector('video')
        return currentTime >= end && globalThis.podium.hls.currentLevel === level && videoHeight === height
      }, [level, levels[level].height, end])
      const from = await page.evaluate(() => document.querySelector('video').currentTime)
      await wait(([from, seconds]) => document.querySelector('video').currentTime >= from + seconds, [from, Number(seconds)])
      changes.push(await page.evaluate((level) => ({ level, height: document.querySelector('video').videoHeight }), level))
    }
    const seen = await page.evaluate(() => globalThis.seen)
    // And the sound alone, as a viewer chooses it.
    let pictures = 0
    const choose = (value) => page.locator('select.quality').selectOption(value)
    const plays = async (picture) => {
      await wait((picture) => (document.querySelector('video').videoHeight > 0) === picture, picture)
      const from = await page.evaluate(() => document.querySelector('video').currentTime)
      await wait(([from, seconds]) => document.querySelector('video').currentTime >= from + seconds, [from, Number(seconds)])
    }
    await choose('sound')
    await wait(() => document.querySelector('video').videoHeight === 0)
    page.on('request', (request) => { pictures += /\/(video|low)[./]/.test(new URL(request.url()).pathname) })
    await plays(false)
    const sound = { picture_requests: pictures }
    await choose('')
    await plays(true)
    return { url, browser, levels, changes, sound, ...seen, ...record }
  } finally {
    await close()
  }
})

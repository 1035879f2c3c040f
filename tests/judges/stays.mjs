// Stays from one broadcast to the next as a viewer does who pauses, on the watch page and on the page under the box's name.
//
//   node stays.mjs <watch page> <page under the name> <screenshot.png>
//
// A line of JSON for each of these, and an empty line on standard input between them: both play, the watch page has repaired its
// player, was then paused, and has loaded what broke; the broadcast has ended; the recording is watched; the next broadcast is on,
// and the recording has broken and was loaded again; the recording was deleted and has broken, and what is live plays.
import { painted, session } from './lib/browser.mjs'

/** Seconds into the recording: not its beginning, and within what the test records. */
const SOUGHT = 4

const [url, named, screenshot] = process.argv.slice(2)
const { lines, say, open, judged } = session()
async function visit (url) {
  const { page, record } = await open(url, { width: 960, height: 600 })
  await page.goto(url, { waitUntil: 'load' })
  return { page, record }
}

/** Has hls.js give up. */
const giveUp = (page) => page.evaluate(() => {
  const { hls } = globalThis.podium
  globalThis.broken = hls
  hls.trigger('hlsError', { type: 'networkError', details: 'judge', fatal: true, error: new Error('judge') })
})

/** The same, and waits until the page has loaded anew and shows a picture. */
async function breakIt (page) {
  await giveUp(page)
  await page.waitForFunction(() => {
    const { hls, video } = globalThis.podium
    return hls !== null && hls !== globalThis.broken && video.readyState >= 2 && !video.seeking
  })
}

const tell = ({ page, record }) => page.evaluate(() => ({
  state: globalThis.podium.state,
  source: globalThis.podium.source,
  paused: globalThis.podium.video.paused,
  time: globalThis.podium.video.currentTime,
  url: globalThis.podium.hls?.url ?? null
})).then((seen) => ({ ...seen, page_errors: record.page_errors }))

const note = (page, begins) => page.waitForFunction((begins) => document.getElementById('note').textContent.startsWith(begins), begins)
const tellName = ({ page, record }) => page.evaluate(() => ({
  note: document.getElementById('note').textContent,
  title: document.title
})).then((seen) => ({ ...seen, page_errors: record.page_errors }))

await judged(async () => {
  const [watch, name] = await Promise.all([visit(url), visit(named)])
  const live = async () => {
    await note(name.page, 'Live')
    await name.page.waitForFunction(() => document.title !== '' && document.getElementById('video').currentTime > 1)
  }
  await Promise.all([watch.page.waitForFunction(() => globalThis.podium.state === 'live'), live()])
  const repaired = await watch.page.evaluate(() => {
    const { hls, video } = globalThis.podium
    hls.trigger('hlsError', { type: 'mediaError', details: 'judge', fatal: true, error: new Error('judge') })
    return { same: globalThis.podium.hls === hls, paused: video.paused }
  })
  await watch.page.evaluate(() => globalThis.podium.video.pause())
  await breakIt(watch.page)
  await watch.page.waitForFunction(() => globalThis.podium.state === 'live')
  say({ repaired, watch: await tell(watch), name: await tellName(name) })

  await lines.next()
  await note(name.page, 'The broadcast has ended.')
  const recording = watch.page.locator('#watch-recording')
  await recording.waitFor()
  await painted(watch.page)
  await watch.page.screenshot({ path: screenshot })
  say({ watch: await tell(watch), name: await tellName(name) })

  await lines.next()
  await recording.click()
  await watch.page.waitForFunction(() => globalThis.podium.source === 'recording' && globalThis.podium.video.currentTime > 0)
  const began = await tell(watch)
  await watch.page.evaluate((to) => { globalThis.podium.video.currentTime = to }, SOUGHT)
  await watch.page.waitForFunction((to) => !globalThis.podium.video.seeking && globalThis.podium.video.currentTime > to, SOUGHT)
  await watch.page.evaluate(() => globalThis.podium.video.pause())
  say({ began, watch: await tell(watch) })

  // What the name's page says of the next one is of the next one.
  await name.page.evaluate(() => { document.title = '' })
  await lines.next()
  await live()
  await watch.page.locator('#watch-live').waitFor()
  await breakIt(watch.page)
  const again = await tell(watch)
  await watch.page.evaluate(() => globalThis.podium.video.play())
  await watch.page.waitForFunction((from) => globalThis.podium.state === 'recording' && globalThis.podium.video.currentTime > from, again.time)
  say({ watch: again, name: await tellName(name) })

  await lines.next()
  // Who routes goes past the browser's cache, which has it for longer than the box.
  await watch.page.route('**/ipfs/**', (route) => route.continue())
  await giveUp(watch.page)
  await watch.page.waitForFunction(() => globalThis.podium.source !== 'recording')
  const error = await watch.page.evaluate(() => globalThis.podium.lastError)
  await watch.page.waitForFunction(() => globalThis.podium.state === 'live')
  say({ error, watch: await tell(watch) })
})

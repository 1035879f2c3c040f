// Opens the sync page, lets it flash and beep, and records what Chromium shows and plays as one WebM file: who looks into it
// later says how far they are apart. Recording takes its own time for either, so a second recording tells by how much: that of
// a clip, whose sound and picture Chromium's player keeps together.
//
//   node sync.mjs <url> <recording.webm> <seconds> [clip]
//
// One line of JSON on standard output; exit 0 if it could judge.
import { readFile, writeFile } from 'node:fs/promises'
import { open, painted, report } from './lib/browser.mjs'

await report(async () => {
  const [url, recording, seconds, clip] = process.argv.slice(2)
  if (!(Number(seconds) > 0)) throw new Error('usage: sync.mjs <url> <recording.webm> <seconds> [clip]')
  const { page, record, browser, close } = await open(url, { width: 640, height: 360, args: ['--auto-accept-this-tab-capture'] })
  try {
    if (clip) {
      const body = '<button id=start style="position:fixed;z-index:1" onclick="this.remove(); document.querySelector(`video`).play()">Play</button><video src=/clip style="position:fixed;inset:0;width:100%">'
      await page.route(url, (route) => route.fulfill({ contentType: 'text/html', body }))
      await page.route('**/clip', async (route) => route.fulfill({ contentType: 'video/webm', body: await readFile(clip) }))
    }
    await page.goto(url, { waitUntil: 'load' })
    await painted(page)
    const words = await page.evaluate(() => document.body.innerText)
    const box = await page.locator('#start').boundingBox()
    // Capturing needs a finger too, and the page's own button takes the one that is there.
    await page.evaluate(() => {
      document.addEventListener('click', async () => {
        try {
          const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: 60 }, audio: { suppressLocalAudioPlayback: false, echoCancellation: false, noiseSuppression: false, autoGainControl: false }, preferCurrentTab: true })
          const recorder = new MediaRecorder(stream, { mimeType: 'video/webm;codecs=vp8,opus', videoBitsPerSecond: 4_000_000 })
          const parts = []
          recorder.ondataavailable = (event) => parts.push(event.data)
          recorder.start(1000)
          window.recorded = () => new Promise((resolve) => {
            recorder.onstop = async () => {
              const bytes = new Uint8Array(await new Blob(parts).arrayBuffer())
              let text = ''
              for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768))
              resolve(btoa(text))
            }
            recorder.stop()
          })
        } catch (error) {
          window.refused = String(error)
        }
      }, { once: true, capture: true })
    })
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2)
    await page.waitForFunction(() => window.recorded || window.refused)
    const refused = await page.evaluate(() => window.refused)
    if (refused) throw new Error(refused)
    await page.waitForFunction((ms) => { window.since ??= performance.now(); return performance.now() - window.since > ms }, Number(seconds) * 1000, { timeout: Number(seconds) * 1000 + 60_000, polling: 500 })
    await writeFile(recording, Buffer.from(await page.evaluate(() => window.recorded()), 'base64'))
    return { url, browser, words, fullscreen: await page.evaluate(() => document.fullscreenElement !== null), ...record }
  } finally {
    await close()
  }
})

// Chromium for the judges: one profile a run, no traffic of its own, and a record of everything that a page asks for.
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium'

/**
 * Opens a page that can reach only the host of `url` and names below it, and keeps what it asks for and complains about.
 * Returns `{ page, record, close }`; `record` is part of every judge's JSON.
 */
export async function open (url, { width, height, args = [] }) {
  const home = new URL(url)
  const name = home.hostname.replace(/^\[|\]$/g, '')
  const browser = await chromium.launch({
    executablePath: EXECUTABLE,
    headless: true,
    args: [
      // Chromium's sandbox refuses to run as root, which is who CI is.
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      // A container's /dev/shm is too small for decoded pictures.
      '--disable-dev-shm-usage',
      '--disable-gpu',
      // Chromium's own calls home would be counted as the page's, and hang where there is no way out.
      '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic', '--no-first-run',
      `--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE ${name}, EXCLUDE *.${name}`,
      // The judge listens to the sound, and nobody is there to click first.
      '--autoplay-policy=no-user-gesture-required',
      ...args
    ],
    // Playwright mutes headless Chromium by default, and then there is no sound to measure.
    ignoreDefaultArgs: ['--mute-audio']
  })
  const page = await browser.newPage({ viewport: { width, height } })

  const record = {
    requests: 0,
    hosts: {},
    foreign: [],
    failed: [],
    bad_status: [],
    console_errors: [],
    page_errors: []
  }
  const asked = (text) => {
    const { protocol, host, origin } = new URL(text)
    if (['data:', 'blob:', 'about:'].includes(protocol) || origin === 'null') return
    record.requests += 1
    record.hosts[host] = (record.hosts[host] ?? 0) + 1
    if (host !== home.host && !host.endsWith(`.${home.host}`)) record.foreign.push(text)
  }
  page.on('request', (r) => asked(r.url()))
  page.on('websocket', (s) => asked(s.url()))
  page.on('requestfailed', (r) => record.failed.push({ url: r.url(), error: r.failure()?.errorText ?? '' }))
  page.on('response', (r) => { if (r.status() >= 400) record.bad_status.push({ url: r.url(), status: r.status() }) })
  page.on('console', (m) => {
    if (m.type() === 'error') record.console_errors.push(`${m.text()} (${m.location().url}:${m.location().lineNumber})`)
  })
  page.on('pageerror', (e) => record.page_errors.push(String(e)))

  return { page, record, browser: browser.version(), close: () => browser.close() }
}

/** Waits until what is on the screen is what the page means: fonts and pictures loaded, and painted. */
export async function painted (page) {
  await page.evaluate(async () => {
    await document.fonts.ready
    await Promise.all([...document.images].map((i) => i.decode().catch(() => {})))
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
  })
}

/** Prints the finding as the one line on standard output, or says on standard error why there is none. */
export async function report (judge) {
  try {
    console.log(JSON.stringify(await judge()))
  } catch (e) {
    console.error(`could not judge: ${e.message ?? e}`)
    process.exitCode = 1
  }
}

const WAIT_MS = 120_000

/**
 * For a judge that is asked again and again: each finding is a line of JSON, and an empty line on standard input asks for the next.
 * `open` is the one above, and `judged` closes what it has opened, whatever becomes of the judge.
 */
export function session () {
  const opened = []
  return {
    lines: createInterface({ input: process.stdin })[Symbol.asyncIterator](),
    say: (finding) => console.log(JSON.stringify(finding)),
    async open (url, size) {
      const { page, record, close } = await open(url, size)
      opened.push(close)
      page.setDefaultTimeout(WAIT_MS)
      return { page, record }
    },
    async judged (judge) {
      try {
        await judge()
      } catch (e) {
        console.error(`could not judge: ${e.message ?? e}`)
        process.exitCode = 1
      } finally {
        for (const close of opened) await close()
        process.stdin.destroy()
      }
    }
  }
}

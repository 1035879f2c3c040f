// Opens any page, presses what it is told to, and keeps a screenshot.
//
//   node page.mjs <url> <screenshot.png> [width] [height] [--click SEL] [--hold SEL MS] [--until SEL]
//
// SEL is a Playwright selector (`#go-live`, `text=On air`). Actions run in the order given; `--until` waits for an element
// to be visible, so that nothing here sleeps for luck. One line of JSON on standard output; exit 0 if it could judge.
import { open, painted, report } from './lib/browser.mjs'

const WAIT_MS = 30_000

await report(async () => {
  const words = process.argv.slice(2)
  const plain = []
  const actions = []
  while (words.length > 0) {
    const word = words.shift()
    if (word === '--click' || word === '--until') actions.push({ action: word.slice(2), selector: words.shift() })
    else if (word === '--hold') actions.push({ action: 'hold', selector: words.shift(), ms: Number(words.shift()) })
    else plain.push(word)
  }
  const [url, screenshot, width = '1280', height = '800'] = plain
  if (!screenshot || actions.some((a) => !a.selector || (a.action === 'hold' && !(a.ms > 0)))) {
    throw new Error('usage: page.mjs <url> <screenshot.png> [width] [height] [--click SEL] [--hold SEL MS] [--until SEL]')
  }

  const { page, record, browser, close } = await open(url, { width: Number(width), height: Number(height) })
  try {
    page.setDefaultTimeout(WAIT_MS)
    const response = await page.goto(url, { waitUntil: 'load' })
    for (const step of actions) {
      const element = page.locator(step.selector).first()
      try {
        if (step.action === 'click') await element.click()
        if (step.action === 'hold') await element.click({ delay: step.ms })
        if (step.action === 'until') await element.waitFor({ state: 'visible' })
        step.done = true
      } catch (e) {
        step.done = false
        step.why = e.message.split('\n')[0]
        break
      }
    }
    await painted(page)
    await page.screenshot({ path: screenshot })
    return {
      url,
      browser,
      status: response?.status() ?? null,
      title: await page.title(),
      text: await page.evaluate(() => document.body.innerText),
      // What hangs over the edge is what a person would have to scroll sideways for.
      overflows: await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth),
      actions,
      ...record,
      screenshot
    }
  } finally {
    await close()
  }
})

/** The published price list, read once per visit: what an item of a bill is called and under which class it is summed. */
import { shallowRef } from 'vue'
import type { Price } from '@/api/billing'
import { get } from '@/api/http'
import { locale } from '@/i18n'

const PAGE = 200
export const prices = shallowRef<ReadonlyMap<string, Price>>(new Map())
let reading: Promise<void> | null = null

async function readAll(): Promise<void> {
  const found = new Map<string, Price>()
  let path: string | null = `/api/billing/prices?limit=${PAGE}`
  while (path !== null) {
    const page: { prices: Price[]; next: string | null } = await get(path)
    for (const price of page.prices) found.set(price.code, price)
    path = page.next
  }
  prices.value = found
}

/** Read the list unless it was; without it items are shown by their codes. */
export function wantPrices(): Promise<void> {
  reading ??= readAll().catch(() => {
    reading = null
  })
  return reading
}

/** What an item is called in the language of the screen; an item the list does not know is shown by its code. */
export function itemName(code: string | null): string {
  if (code === null) return ''
  const price = prices.value.get(code)
  if (price === undefined) return code
  return locale.value === 'zh' ? price.name_zh : price.name_en
}

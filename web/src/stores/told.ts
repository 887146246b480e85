/** Bills somebody walked away from while nobody knew what the fund had done: watched on, and told when it is known. */
import { defineStore } from 'pinia'
import { ref } from 'vue'
import type { Bill } from '@/api/billing'
import { get } from '@/api/http'
import { isAsking } from '@/billing/bill'

const LOOK_MS = 3_000

export interface Told {
  encounterId: string
  who: string
  result: 'settled' | 'collecting' | 'failed'
}

export const useTold = defineStore('told', () => {
  const results = ref<Told[]>([])
  const waiting = new Map<string, string>()
  let timer: ReturnType<typeof setTimeout> | null = null

  /** Watch the bill of a stay whose page was left. */
  function watchFor(encounterId: string, who: string): void {
    waiting.set(encounterId, who)
    timer ??= setTimeout(() => void look(), LOOK_MS)
  }

  /** Its page is open again, so nobody has to be told. */
  function forget(encounterId: string): void {
    waiting.delete(encounterId)
    results.value = results.value.filter((one) => one.encounterId !== encounterId)
  }

  async function look(): Promise<void> {
    for (const [encounterId, who] of waiting) {
      const bill = await get<Bill>(`/api/billing/encounters/${encounterId}/bills/latest`).catch(() => null)
      if (bill === null || isAsking(bill) || !waiting.has(encounterId)) continue
      waiting.delete(encounterId)
      const result = bill.state === 'settled' || bill.state === 'collecting' ? bill.state : 'failed'
      results.value = [...results.value, { encounterId, who, result }]
    }
    timer = waiting.size > 0 ? setTimeout(() => void look(), LOOK_MS) : null
  }

  function clear(): void {
    waiting.clear()
    results.value = []
  }

  return { results, watchFor, forget, clear }
})

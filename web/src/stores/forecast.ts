/** How many will leave each ward, as the pool expects it; read when somebody looks, and again after ten minutes. */
import { defineStore } from 'pinia'
import { ref, shallowRef } from 'vue'
import type { Forecast, Leavers } from '@/api/pool'
import { get } from '@/api/http'
import { type Problem, asProblem } from '@/api/problem'

const OLD_MS = 600_000
/** With fewer earlier stays the numbers are rough, and said to be. */
export const FEW_STAYS = 30
export const HOURS_SHOWN = [24, 48, 72] as const

export const useForecast = defineStore('forecast', () => {
  const found = shallowRef<Forecast | null>(null)
  const problem = shallowRef<Problem | null>(null)
  const readAt = ref(0)

  async function want(): Promise<void> {
    if (Date.now() - readAt.value < OLD_MS) return
    readAt.value = Date.now()
    try {
      found.value = await get<Forecast>('/api/beds/forecast')
      problem.value = null
    } catch (error) {
      problem.value = asProblem(error)
      readAt.value = 0
    }
  }

  /** What is expected of a ward (null: the whole hospital), for the hours that are shown. */
  function of(ward: string | null): Leavers[] {
    const row = found.value?.wards.find((one) => one.ward === ward)
    return HOURS_SHOWN.map((hours) => row?.leaving.find((one) => one.within_hours === hours) ?? { within_hours: hours, mean: 0, low: 0, high: 0 })
  }

  return { found, problem, want, of }
})

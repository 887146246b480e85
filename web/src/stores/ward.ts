/** The work of one ward: who comes, who lies here, what is to be cleaned; read anew whenever a bed of the ward changes. */
import { defineStore } from 'pinia'
import { ref, shallowRef } from 'vue'
import type { WardWork } from '@/api/pool'
import { get, post } from '@/api/http'
import { type Problem, asProblem } from '@/api/problem'

export const useWard = defineStore('ward', () => {
  const ward = ref<string | null>(null)
  const work = shallowRef<WardWork | null>(null)
  const problem = shallowRef<Problem | null>(null)

  async function read(code: string): Promise<void> {
    if (ward.value !== code) {
      ward.value = code
      work.value = null
    }
    try {
      const answer = await get<WardWork>(`/api/beds/wards/${encodeURIComponent(code)}/work`)
      if (ward.value !== code) return
      work.value = answer
      problem.value = null
    } catch (error) {
      if (ward.value === code) problem.value = asProblem(error)
    }
  }

  async function clean(bedId: number, step: 'cleaning-start' | 'cleaning-done'): Promise<void> {
    await post(`/api/beds/beds/${bedId}/${step}`, {})
    if (ward.value !== null) await read(ward.value)
  }

  async function pauseCleaning(bedId: number, reason: string): Promise<void> {
    await post(`/api/beds/beds/${bedId}/cleaning-suspension`, { reason })
    if (ward.value !== null) await read(ward.value)
  }

  async function accept(encounterId: string): Promise<void> {
    await post(`/api/beds/encounters/${encounterId}/acceptance`, {})
    if (ward.value !== null) await read(ward.value)
  }

  return { ward, work, problem, read, clean, pauseCleaning, accept }
})

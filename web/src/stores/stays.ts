/** Whose stay a row of a list is: asked once for what is on the screen, and as what the patient chip shows. */
import { defineStore } from 'pinia'
import { shallowRef } from 'vue'
import type { Encounter } from '@/api/billing'
import { get } from '@/api/http'
import type { Patient } from '@/api/pool'
import { type Masked, useNames } from '@/stores/names'

const AT_ONCE = 4

/** A patient as the chip shows one, from what admission gives out. */
export function patientOf(patientTok: string, masked: Masked | null | undefined): Patient {
  const born = masked?.birth_year ?? null
  return {
    patient_tok: patientTok,
    sex: (masked?.sex as Patient['sex'] | undefined) ?? 'unknown',
    age_years: born === null ? null : new Date().getFullYear() - born,
    isolation: 'none',
  }
}

export const useStays = defineStore('stays', () => {
  const names = useNames()
  const known = shallowRef<Map<string, Encounter | null>>(new Map())
  const wanted: string[] = []
  let busy = 0

  async function next(): Promise<void> {
    const encounterId = wanted.shift()
    if (encounterId === undefined) return
    busy += 1
    try {
      const found = await get<Encounter>(`/api/admission/encounters/${encounterId}`)
      known.value = new Map(known.value).set(encounterId, found)
      names.want(found.patient_tok)
    } catch {
      // A stay that cannot be had is no alarm: the row shows its last four, and asks again when the page opens anew.
    } finally {
      busy -= 1
      void next()
    }
  }

  /** Ask whose stay this is, once. */
  function want(encounterId: string): void {
    if (known.value.has(encounterId)) return
    known.value = new Map(known.value).set(encounterId, null)
    wanted.push(encounterId)
    if (busy < AT_ONCE) void next()
  }

  function clear(): void {
    wanted.length = 0
    known.value = new Map()
  }

  return { known, want, clear }
})

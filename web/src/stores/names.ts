/** Masked names of the patients on the open page, as admission gives them out; every one of these reads is recorded (S6). */
import { defineStore } from 'pinia'
import { shallowRef } from 'vue'
import { get, post } from '@/api/http'
import { useSession } from '@/stores/session'

const AT_ONCE = 4

export interface Masked {
  masked_name: string
  sex: string
  birth_year: number | null
}

export const useNames = defineStore('names', () => {
  const session = useSession()
  const known = shallowRef<Map<string, Masked | null>>(new Map())
  const wanted: string[] = []
  let busy = 0

  function set(patientTok: string, masked: Masked | null): void {
    known.value = new Map(known.value).set(patientTok, masked)
  }

  async function next(): Promise<void> {
    const patientTok = wanted.shift()
    if (patientTok === undefined) return
    busy += 1
    try {
      set(patientTok, await get<Masked>(`/api/admission/patients/${patientTok}`))
    } catch {
      // A name that cannot be had is no alarm: the chip shows sex, age and bed, and asks again when the page opens anew.
    } finally {
      busy -= 1
      void next()
    }
  }

  /** Ask for the masked name of a patient on this page, once. */
  function want(patientTok: string): void {
    if (!session.may('patients:read') || known.value.has(patientTok)) return
    set(patientTok, null)
    wanted.push(patientTok)
    if (busy < AT_ONCE) void next()
  }

  /** Reveal one full name; that it was revealed, by whom and what for is recorded. The name is not kept here. */
  async function reveal(patientTok: string, purpose: string): Promise<string> {
    const answer = await post<{ name: string }>(`/api/admission/patients/${patientTok}/reveal`, { purpose })
    return answer.name
  }

  function clear(): void {
    wanted.length = 0
    known.value = new Map()
  }

  return { known, want, reveal, clear }
})

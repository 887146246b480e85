/** Which stay a wristband or an admission number belongs to. */
import type { Encounter } from '@/api/billing'
import { get } from '@/api/http'
import { asProblem } from '@/api/problem'

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** Return the stay, or null when nobody here has this number. */
export async function findStay(scanned: string): Promise<string | null> {
  const text = scanned.trim()
  if (text === '') return null
  try {
    if (ID.test(text)) return (await get<Encounter>(`/api/admission/encounters/${text.toLowerCase()}`)).encounter_id
    const found = await get<{ encounters: Encounter[] }>(`/api/admission/encounters?identifier=${encodeURIComponent(text)}`)
    return found.encounters[0]?.encounter_id ?? null
  } catch (error) {
    const problem = asProblem(error)
    if (problem.status === 404 || problem.status === 400) return null
    throw problem
  }
}

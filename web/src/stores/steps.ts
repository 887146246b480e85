/** The steps on the way home and the reasons for delay, as the hospital's files name them; read once. */
import { ref, shallowRef } from 'vue'
import type { Steps } from '@/api/pool'
import { get } from '@/api/http'
import { locale } from '@/i18n'

const steps = shallowRef<Steps>({ steps: [], reasons: [] })
const asked = ref(false)

export async function wantSteps(): Promise<void> {
  if (asked.value) return
  asked.value = true
  try {
    steps.value = await get<Steps>('/api/beds/milestones')
  } catch {
    asked.value = false // without their names the steps are shown by their codes, and asked for again
  }
}

function nameIn(list: Steps['steps'], code: string): string {
  const found = list.find((one) => one.code === code)
  return found === undefined ? code.replaceAll('_', ' ') : locale.value === 'zh' ? found.name_zh : found.name_en
}

export const stepName = (code: string): string => nameIn(steps.value.steps, code)
export const delayName = (code: string): string => nameIn(steps.value.reasons, code)
export const delayReasons = (): readonly string[] => steps.value.reasons.map((one) => one.code)

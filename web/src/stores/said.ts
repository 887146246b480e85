/** The one sentence about what was just done. */
import { ref } from 'vue'

const SHOWN_MS = 10_000
export const said = ref<string | null>(null)
let timer: ReturnType<typeof setTimeout> | null = null

export function say(sentence: string): void {
  said.value = sentence
  if (timer !== null) clearTimeout(timer)
  timer = setTimeout(hush, SHOWN_MS)
}

export function hush(): void {
  said.value = null
}

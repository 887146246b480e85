/** Words in two languages: zh-CN first and complete, English complete by type. */
import { computed, ref } from 'vue'
import { en } from '@/i18n/en'
import { zh } from '@/i18n/zh'

export type Locale = 'zh' | 'en'
export type Messages = { [Group in keyof typeof zh]: { [Key in keyof (typeof zh)[Group]]: string } }
type Group = keyof Messages

export const locale = ref<Locale>('zh')
const words = computed<Messages>(() => (locale.value === 'zh' ? zh : en))

/** Return the sentence with its {names} filled in. */
export function t<G extends Group>(group: G, key: keyof Messages[G], values: Record<string, unknown> = {}): string {
  const text = words.value[group][key] as string
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (name in values ? String(values[name]) : whole))
}

/** Return the word for a code that a door sent; an unknown code is shown as it is rather than hidden. */
export function word(group: Group, code: string | null | undefined): string {
  if (code === null || code === undefined || code === '') return ''
  const found = (words.value[group] as Record<string, string>)[code]
  return found ?? code.replaceAll('_', ' ')
}

export function hasWord(group: Group, code: string): boolean {
  return code in words.value[group]
}

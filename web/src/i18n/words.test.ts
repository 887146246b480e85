import { expect, it } from 'vitest'
import { en } from '@/i18n/en'
import { duration } from '@/i18n/time'
import { zh } from '@/i18n/zh'

it('says everything in both languages, with the same facts in it', () => {
  const facts = (text: string): string[] => (text.match(/\{\w+\}/g) ?? []).sort()
  for (const [group, words] of Object.entries(zh)) {
    const other = en[group as keyof typeof en] as Record<string, string>
    expect(Object.keys(other).sort()).toEqual(Object.keys(words).sort())
    for (const [key, text] of Object.entries(words)) expect([group, key, facts(other[key] ?? '')]).toEqual([group, key, facts(text)])
  }
})

it('says durations as people do', () => {
  expect(duration(45_000)).toBe('45 秒')
  expect(duration(2 * 3_600_000 + 14 * 60_000)).toBe('2 小时 14 分')
  expect(duration(3 * 86_400_000)).toBe('3 天')
})

import { expect, it } from 'vitest'
import { capitals, fenOf, signed, typedOf, yuan } from '@/billing/money'

it('shows every fen and groups thousands', () => {
  expect([0, 5, 100, 123_456, 100_000_000, -242_126].map(yuan)).toEqual(['¥0.00', '¥0.05', '¥1.00', '¥1,234.56', '¥1,000,000.00', '-¥2,421.26'])
  expect([242_126, -242_126, 0].map(signed)).toEqual(['+¥2,421.26', '-¥2,421.26', '¥0.00'])
})

it('never shows an amount that is no whole number of fen', () => {
  expect(() => yuan(0.1 + 0.2)).toThrow(RangeError)
})

it('reads what a clerk types to the fen, and nothing else', () => {
  expect(['1,234.56', '￥12', '0.5', ' 100.00 ', '3.10'].map(fenOf)).toEqual([123_456, 1200, 50, 10_000, 310])
  expect(['', '1.234', '-5', '1e3', '.5', '12元', '999999999999'].map(fenOf)).toEqual([null, null, null, null, null, null, null])
  for (const fen of [1, 10, 99, 123_456, 1_000_000_007]) expect(fenOf(typedOf(fen))).toBe(fen)
})

it('writes capitals as a bank reads them', () => {
  const said: [number, string][] = [
    [0, '零元整'],
    [5, '伍分'],
    [50, '伍角整'],
    [10_520, '壹佰零伍元贰角整'],
    [100_005, '壹仟元零伍分'],
    [1_000_000, '壹万元整'],
    [10_001_000, '壹拾万零壹拾元整'],
    [242_126, '贰仟肆佰贰拾壹元贰角陆分'],
    [10_000_000_000, '壹亿元整'],
    [-100, '负壹元整'],
  ]
  for (const [fen, text] of said) expect([fen, capitals(fen)]).toEqual([fen, text])
})

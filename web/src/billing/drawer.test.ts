import { expect, it } from 'vitest'
import { DENOMINATIONS, isBegun, mayClose, piecesOf, rowFen, sumOf, verdictOf } from '@/billing/drawer'

it('adds up to the fen', () => {
  expect(sumOf({ 10000: '12', 5000: '3', 2000: '4', 1000: '7', 500: '2', 100: '9', 50: '5', 10: '13', 1: '7' })).toBe(
    120_000 + 15_000 + 8_000 + 7_000 + 1_000 + 900 + 250 + 130 + 7,
  )
})

it('keeps jiao whole where fractions would not', () => {
  // 0.1 + 0.2 is not 0.3; ten and twenty fen are thirty.
  expect(sumOf({ 10: '3' })).toBe(30)
  expect(sumOf({ 10: '99999', 50: '99999' })).toBe(999_990 + 4_999_950)
  for (const denomination of DENOMINATIONS) expect(Number.isSafeInteger(rowFen(denomination, '99999'))).toBe(true)
})

it('takes no half note, no minus and no word', () => {
  for (const typed of ['1.5', '-1', 'two', '1e3', '100000', '１']) expect(piecesOf(typed)).toBeNull()
  expect(sumOf({ 10000: '1.5' })).toBeNull()
  expect(piecesOf(' 7 ')).toBe(7)
  expect(piecesOf('')).toBe(0)
})

it('closes a drawer that holds what it should, and one that does not only with a reason', () => {
  expect(mayClose({ 10000: '5' }, 50_000, null)).toBe(true)
  expect(mayClose({ 10000: '4' }, 50_000, null)).toBe(false)
  expect(mayClose({ 10000: '4' }, 50_000, 'miscounted_change')).toBe(true)
  expect(mayClose({ 10000: 'x' }, 50_000, 'unexplained')).toBe(false)
})

it('takes an empty sheet for no count, and a zero for one', () => {
  expect(isBegun({ 100: ' ' })).toBe(false)
  expect(mayClose({}, 0, 'unexplained')).toBe(false)
  expect(mayClose({ 100: '0' }, 0, null)).toBe(true)
})

it('says too much and too little in words', () => {
  expect([verdictOf(0), verdictOf(1), verdictOf(-1)]).toEqual(['even', 'over', 'short'])
})

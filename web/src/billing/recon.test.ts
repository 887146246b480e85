import { expect, it } from 'vitest'
import type { Difference, Matched } from '@/api/moneydesk'
import { columnsOf, explanationsFor, inOrder, standings } from '@/billing/recon'
import { en } from '@/i18n/en'
import { zh } from '@/i18n/zh'

const difference = (given: Partial<Difference>): Difference => ({
  id: 'd',
  day: '2026-03-01',
  party: 'channel',
  kind: 'amount',
  object: 'P1',
  ours_fen: 100,
  theirs_fen: 70,
  found_at: '2026-03-02T02:00:00Z',
  age_seconds: 60,
  owner: null,
  explained_at: null,
  explained_by: null,
  explanation: null,
  ...given,
})
const matched: Matched = { party: 'channel', done_at: 'then', rows: 1, ours_fen: 1, theirs_fen: 1 }

it('puts a counted drawer under the drawer and a channel under the channel', () => {
  expect(columnsOf(difference({}))).toEqual({ ours: 100, outside: 70, drawer: null, difference: -30 })
  expect(columnsOf(difference({ party: 'drawer', theirs_fen: 130 }))).toEqual({ ours: 100, outside: null, drawer: 130, difference: 30 })
  expect(columnsOf(difference({ ours_fen: null })).difference).toBe(70)
})

it('offers no recounted drawer for a payment channel', () => {
  expect(explanationsFor('channel')).not.toContain('drawer_recounted')
  expect(explanationsFor('drawer')[0]).toBe('drawer_recounted')
})

it('has words for every explanation it offers', () => {
  for (const party of ['channel', 'insurance', 'drawer'] as const)
    for (const code of explanationsFor(party)) for (const words of [zh, en]) expect(words.explanation).toHaveProperty(code)
})

it('says what to do next for every kind of difference', () => {
  for (const words of [zh, en]) expect(Object.keys(words.diff_next).sort()).toEqual(Object.keys(words.diff_kind).sort())
})

it('lists what nobody explained first, oldest first', () => {
  const rows = [
    difference({ id: 'explained', explained_at: 'now', found_at: '1' }),
    difference({ id: 'young', found_at: '3' }),
    difference({ id: 'old', found_at: '2' }),
  ]
  expect(inOrder(rows).map((row) => row.id)).toEqual(['old', 'young', 'explained'])
})

it('waits for a party until it has answered anew', () => {
  const asked = new Map([['channel', 'then'], ['insurance', null]] as const)
  expect(standings([matched], asked).map((one) => one.isWaiting)).toEqual([true, true, false])
  expect(standings([{ ...matched, done_at: 'later' }], asked)[0]?.isWaiting).toBe(false)
  expect(standings([], null).every((one) => one.matched === null && !one.isWaiting)).toBe(true)
})

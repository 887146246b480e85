import { expect, it } from 'vitest'
import { BLOCKERS, type Unsettled } from '@/api/moneydesk'
import { countsOf, dayPlus, pageOf, percentOf, turnOf } from '@/billing/worklist'
import { en } from '@/i18n/en'
import { zh } from '@/i18n/zh'

const row = (blocker: Unsettled['blocker']): Unsettled => ({
  encounter_id: 'e',
  ward: '3A',
  left_at: '2026-03-01T08:00:00Z',
  age_seconds: 60,
  blocker,
  blocked_seconds: null,
  bill_id: null,
  payer_kind: null,
  charged_fen: 0,
  deposits_fen: 0,
})

it('has a word and a next step for every blocker', () => {
  for (const words of [zh, en]) {
    expect(Object.keys(words.blocker).sort()).toEqual([...BLOCKERS].sort())
    expect(Object.keys(words.blocker_next).sort()).toEqual([...BLOCKERS].sort())
  }
})

it('opens the bedside for what a family decides and the account for the rest', () => {
  expect(pageOf(row('collecting'))).toEqual({ name: 'bedside', to: '/bedside/e' })
  expect(pageOf(row('arrears'))).toEqual({ name: 'account', to: '/accounts/e' })
})

it('puts first what nobody knows', () => {
  expect(turnOf('payer_unknown')).toBe('first')
  expect(turnOf('payer_asked')).toBe('outside')
  expect(turnOf('no_bill')).toBe('ours')
})

it('counts what is waited for, most first', () => {
  expect(countsOf([row('quoted'), row('no_bill'), row('no_bill')])).toEqual([
    { blocker: 'no_bill', count: 2 },
    { blocker: 'quoted', count: 1 },
  ])
})

it('never rounds a miss away', () => {
  expect(percentOf({ kept: 999, missed: 1, running: 7 })).toBe(99)
  expect(percentOf({ kept: 3, missed: 0, running: 7 })).toBe(100)
  expect(percentOf({ kept: 0, missed: 0, running: 7 })).toBeNull()
})

it('knows the day before the first of March', () => {
  expect(dayPlus('2026-03-01', -1)).toBe('2026-02-28')
  expect(dayPlus('2027-12-31', 1)).toBe('2028-01-01')
})

import { expect, it } from 'vitest'
import { begunFor, blank } from '@/billing/unfinished'

const act = { name: 'confirm', path: '/p', body: {} } as const
const AT = 1_000_000_000

it('goes on with what the same person began for the same patient', () => {
  const stored = JSON.stringify({ ...blank('u1', 'e1'), isIdentified: true, act, actAt: AT })
  expect(begunFor('u1', 'e1', AT + 60_000, stored)).toMatchObject({ isIdentified: true, act })
})

it('never goes on with what somebody else began, or for another patient', () => {
  const stored = JSON.stringify({ ...blank('u1', 'e1'), isIdentified: true, act, actAt: AT })
  expect(begunFor('u2', 'e1', AT, stored)).toEqual(blank('u2', 'e1'))
  expect(begunFor('u1', 'e2', AT, stored)).toEqual(blank('u1', 'e2'))
})

it('asks the server instead of repeating something old, and stands a broken store', () => {
  const stored = JSON.stringify({ ...blank('u1', 'e1'), act, actAt: AT })
  expect(begunFor('u1', 'e1', AT + 3_600_000, stored).act).toBeNull()
  expect(begunFor('u1', 'e1', AT, '{broken')).toEqual(blank('u1', 'e1'))
})

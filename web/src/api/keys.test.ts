import { beforeEach, expect, it, vi } from 'vitest'
import { answered, fingerprintOf, keyFor, unansweredCount } from '@/api/keys'

beforeEach(() => {
  const kept = new Map<string, string>()
  vi.stubGlobal('sessionStorage', {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => void kept.set(name, value),
    removeItem: (name: string) => void kept.delete(name),
  })
})

it('keeps the key of a write until it is answered, and then makes a new one', async () => {
  const write = await fingerprintOf('nurse', 'POST', '/api/beds/beds/7/cleaning-start', '{}')
  const key = keyFor(write)
  expect(keyFor(write)).toBe(key)
  expect(unansweredCount()).toBe(1)
  answered(write)
  expect(unansweredCount()).toBe(0)
  expect(keyFor(write)).not.toBe(key)
})

it('keeps nothing of what was written', async () => {
  keyFor(await fingerprintOf('nurse', 'POST', '/api/admission/patients', '{"name":"canary"}'))
  expect(sessionStorage.getItem('wardstream.unanswered')).not.toContain('canary')
})

it('tells two writes apart where the browser has no SHA-256', async () => {
  vi.stubGlobal('crypto', { getRandomValues: (bytes: Uint8Array) => bytes })
  expect(await fingerprintOf('a', 'POST', '/x', '1')).not.toBe(await fingerprintOf('a', 'POST', '/x', '2'))
  vi.unstubAllGlobals()
})

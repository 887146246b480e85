import { describe, expect, it } from 'vitest'
import type { Bed } from '@/api/pool'
import { planOf } from '@/beds/plan'
import { alarmOf, countsOf, sexOfRoom, shortCode, stateOf } from '@/beds/state'

const NOW = Date.parse('2026-11-23T10:00:00+08:00')

function aBed(given: Partial<Bed> = {}): Bed {
  return {
    bed_id: 1,
    code: '3A-01',
    ward: '3A',
    room: '3A-R01',
    kind: 'inpatient',
    level: 'normal',
    class: 'standard',
    isolation: false,
    equipment: [],
    extra: false,
    quota: null,
    service: 'active',
    suspended_reason: null,
    suspended_until: null,
    condition: 'U',
    commitment: 'free',
    sex: null,
    encounter_id: null,
    isolation_patient: false,
    since: null,
    held_until: null,
    leaving_at: null,
    cleaning: null,
    version: 1,
    ...given,
  }
}

describe('the state of a bed', () => {
  it.each([
    ['a clean empty bed is free', {}, 'free'],
    ['a dirty bed is being cleaned', { condition: 'H' }, 'cleaning'],
    ['a contaminated bed is being cleaned', { condition: 'K' }, 'cleaning'],
    ['a bed out of order is closed', { service: 'suspended' }, 'blocked'],
    ['a held bed is held, though it is still dirty', { commitment: 'held', condition: 'H' }, 'held'],
    ['whoever lies in a closed bed is still seen', { commitment: 'active', service: 'suspended' }, 'occupied'],
    ['a patient on leave keeps the bed', { commitment: 'leave' }, 'occupied'],
    ['who leaves at noon leaves today', { commitment: 'active', leaving_at: '2026-11-23T12:00:00+08:00' }, 'leaving'],
    ['an estimate of last week says nothing', { commitment: 'active', leaving_at: '2026-11-16T12:00:00+08:00' }, 'occupied'],
  ] as [string, Partial<Bed>, string][])('%s', (_sentence, given, state) => {
    expect(stateOf(aBed(given), NOW)).toBe(state)
  })

  it('no bed of a closed ward is free', () => {
    expect(stateOf(aBed(), NOW, false)).toBe('blocked')
  })

  it('a hold that is over needs somebody', () => {
    expect(alarmOf(aBed({ commitment: 'held', held_until: '2026-11-23T09:59:00+08:00' }), NOW)).toBe('hold_over')
    expect(alarmOf(aBed({ commitment: 'held', held_until: '2026-11-23T10:01:00+08:00' }), NOW)).toBeNull()
  })

  it('the number on the door is what is left of the code', () => {
    expect(shortCode(aBed({ code: '3A-07' }))).toBe('07')
    expect(shortCode(aBed({ code: 'X7' }))).toBe('X7')
  })
})

describe('whom a room takes', () => {
  it('a room with a woman in it takes women', () => {
    const room = [aBed({ sex: 'female', commitment: 'active' }), aBed({ bed_id: 2, code: '3A-02' })]
    expect(sexOfRoom(room)).toBe('female')
    expect(countsOf(room, NOW).free).toEqual({ male: 0, female: 1, any: 0, isolation: 0 })
  })

  it('an empty room takes anybody', () => {
    expect(countsOf([aBed()], NOW).free.any).toBe(1)
  })
})

describe('the drawing of a ward', () => {
  it('shows every bed once, none outside its room and no room outside the width', () => {
    const beds = Array.from({ length: 46 }, (_, index) =>
      aBed({ bed_id: index, code: `3A-${index + 1}`, room: `3A-R${Math.floor(index / 3)}` }),
    )
    const plan = planOf(beds, 820)
    expect(plan.rooms.flatMap((room) => room.beds).length).toBe(46)
    for (const room of plan.rooms) {
      expect(room.x + room.width).toBeLessThanOrEqual(820)
      for (const bed of room.beds) {
        expect(bed.x).toBeGreaterThan(room.x)
        expect(bed.y).toBeLessThan(room.y + room.height)
      }
    }
  })
})

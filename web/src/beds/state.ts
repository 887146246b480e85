/** What a bed is to somebody who looks for one: eight states, each with its own shape and word (no colour alone). */
import type { Bed, Sex } from '@/api/pool'
import { isToday } from '@/i18n/time'

/** Six of them exclude each other; isolation and alarm lie over any of them. */
export type BedState = 'free' | 'held' | 'occupied' | 'leaving' | 'cleaning' | 'blocked'
export const BED_STATES: readonly BedState[] = ['free', 'held', 'occupied', 'leaving', 'cleaning', 'blocked']

export function stateOf(bed: Bed, now: number, wardIsOpen = true): BedState {
  if (bed.commitment === 'active' || bed.commitment === 'leave') {
    return bed.commitment === 'active' && leavesToday(bed, now) ? 'leaving' : 'occupied'
  }
  if (bed.service !== 'active' || bed.condition === 'C' || !wardIsOpen) return 'blocked'
  if (bed.commitment === 'held') return 'held'
  if (bed.condition === 'H' || bed.condition === 'K' || bed.cleaning !== null) return 'cleaning'
  return 'free'
}

/** Whether somebody is expected to leave today; an estimate that passed days ago says nothing any more. */
export function leavesToday(bed: Bed, now: number): boolean {
  return bed.leaving_at !== null && isToday(bed.leaving_at, now)
}

/** What in or about a bed needs a person now, the worst first; null is the normal case. */
export type Alarm = 'hold_over' | 'leaving_late' | 'cleaning_urgent' | 'cleaning_late' | 'lies_in_closed_bed'

const LEAVING_LATE_MS = 2 * 3_600_000
const CLEANING_LATE_MS = 90 * 60_000

export function alarmOf(bed: Bed, now: number): Alarm | null {
  if (bed.commitment === 'held' && bed.held_until !== null && Date.parse(bed.held_until) < now) return 'hold_over'
  if (bed.commitment === 'active' && bed.service === 'inactive') return 'lies_in_closed_bed'
  if (bed.commitment === 'active' && bed.leaving_at !== null && leavesToday(bed, now) && Date.parse(bed.leaving_at) < now - LEAVING_LATE_MS) {
    return 'leaving_late'
  }
  if (bed.cleaning !== null && bed.commitment === 'free') {
    if (bed.cleaning.urgent === true && bed.cleaning.state !== 'started') return 'cleaning_urgent'
    if (Date.parse(bed.cleaning.requested_at) < now - CLEANING_LATE_MS) return 'cleaning_late'
  }
  return null
}

export function isIsolation(bed: Bed): boolean {
  return bed.isolation_patient || bed.condition === 'I'
}

/** Whom a room takes now: the sex of who lies or is expected in it, or anybody. */
export function sexOfRoom(beds: readonly Bed[]): Sex | null {
  const sexes = new Set(beds.map((bed) => bed.sex).filter((sex) => sex === 'male' || sex === 'female'))
  if (sexes.size !== 1) return null
  return [...sexes][0] ?? null
}

export interface FreeFor {
  male: number
  female: number
  any: number
  isolation: number
}

export interface WardCounts {
  total: number
  states: Record<BedState, number>
  free: FreeFor
  leaving: number
  alarms: number
}

export function roomsOf(beds: readonly Bed[]): Map<string, Bed[]> {
  const rooms = new Map<string, Bed[]>()
  for (const bed of beds) {
    const room = rooms.get(bed.room)
    if (room) room.push(bed)
    else rooms.set(bed.room, [bed])
  }
  return rooms
}

export function countsOf(beds: readonly Bed[], now: number, wardIsOpen = true): WardCounts {
  const counts: WardCounts = {
    total: beds.length,
    states: { free: 0, held: 0, occupied: 0, leaving: 0, cleaning: 0, blocked: 0 },
    free: { male: 0, female: 0, any: 0, isolation: 0 },
    leaving: 0,
    alarms: 0,
  }
  for (const room of roomsOf(beds).values()) {
    const sex = sexOfRoom(room)
    for (const bed of room) {
      const state = stateOf(bed, now, wardIsOpen)
      counts.states[state] += 1
      if (alarmOf(bed, now) !== null) counts.alarms += 1
      if (state === 'leaving') counts.leaving += 1
      if (state !== 'free') continue
      if (bed.isolation) counts.free.isolation += 1
      else if (sex === 'male') counts.free.male += 1
      else if (sex === 'female') counts.free.female += 1
      else counts.free.any += 1
    }
  }
  return counts
}

/** The number on the door plate: what is left of a bed's code without its ward. */
export function shortCode(bed: Pick<Bed, 'code' | 'ward'>): string {
  return bed.code.startsWith(`${bed.ward}-`) ? bed.code.slice(bed.ward.length + 1) : bed.code
}

export function shortRoom(room: string, ward: string): string {
  return room.startsWith(`${ward}-`) ? room.slice(ward.length + 1) : room
}

export const byCode = (one: { code: string }, other: { code: string }): number =>
  one.code.localeCompare(other.code, 'en', { numeric: true })

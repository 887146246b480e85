/** The bed pool's answers. Its doors describe their bodies but not their answers, so the answers are written down here once. */
export type Sex = 'male' | 'female' | 'unknown'

export interface Patient {
  patient_tok: string
  sex: Sex
  age_years: number | null
  isolation: 'none' | 'contact' | 'droplet' | 'airborne'
}

export interface Cleaning {
  state: 'requested' | 'started' | 'suspended'
  terminal: boolean
  requested_at: string
  started_at: string | null
  urgent?: boolean
}

export interface Bed {
  bed_id: number
  code: string
  ward: string
  room: string
  kind: 'inpatient' | 'day'
  level: 'normal' | 'critical'
  class: 'standard' | 'single' | 'vip'
  isolation: boolean
  equipment: string[]
  extra: boolean
  quota: string | null
  service: 'active' | 'suspended' | 'inactive'
  suspended_reason: string | null
  suspended_until: string | null
  condition: 'U' | 'O' | 'H' | 'K' | 'I' | 'C'
  commitment: 'free' | 'held' | 'active' | 'leave'
  sex: Sex | null
  encounter_id: string | null
  isolation_patient: boolean
  since: string | null
  held_until: string | null
  leaving_at: string | null
  cleaning: Cleaning | null
  version: number
}

export interface Ward {
  ward: string
  name_zh: string
  name_en: string
  campus: string
  building: string
  floor: number
  specialty: string
  open: boolean
}

export interface Board {
  cursor: string
  as_of: string
  wards: Ward[]
  beds: Bed[]
  /** How many wait, by what they wait for; `since` is the longest wait among them. */
  waiting: { kind: string; specialty: string; urgency: string; count: number; since: string }[]
}

export interface BedsChanged {
  cursor: string
  as_of: string
  beds: Bed[]
}

export interface BedRequest {
  encounter_id: string
  patient: Patient
  kind: string
  urgency: 'emergency' | 'urgent' | 'elective' | string
  specialty: string
  needs: string[]
  place: number
  waiting_reason: string | null
  why: { priority: string; booked: boolean; waited_minutes: number; place_lost?: boolean }
  from_at: string | null
  requested_at: string
}

export interface RulePart {
  rule: string
  points: number
}

export interface Proposal {
  bed_id: number
  code: string
  ward: string
  room: string
  version: number
  score: number
  parts: RulePart[]
}

export interface Closed {
  rule: string
  beds: number
  wards: string[]
}

export interface Proposals {
  request: BedRequest
  rules_version: number
  proposals: Proposal[]
  closed: Closed[]
}

export interface Planned {
  encounter_id: string
  bed_id: number
  code: string
  ward: string
  version: number
  waited_minutes: number
  parts: RulePart[]
}

export interface Plan {
  made_at: string | null
  quality: { placed: number; waiting: number; gap?: number | null }
  proposals: Planned[]
  unplaced: { encounter_id: string; reason?: string | null }[]
}

export interface PlanAccepted {
  accepted: string[]
  changed: { encounter_id: string; code: string }[]
}

export interface Assigned {
  encounter_id: string
  bed_id: number
  bed_code: string
  held_until: string | null
}

export interface Arriving {
  encounter_id: string
  bed_id: number
  code: string
  patient: Patient
  held_until: string | null
  refusable_until: string | null
  bed_ready: boolean
}

export interface Lying {
  encounter_id: string
  bed_id: number
  code: string
  patient: Patient
  since: string | null
  leaving_at: string | null
  discharge_ordered_at: string | null
  away: boolean
}

export interface WardWork {
  ward: string
  as_of: string
  arriving: Arriving[]
  lying: Lying[]
  cleaning: Bed[]
  free: number
}

export interface QueuePlace {
  state: string
  place: number | null
  of: number
  moved: number | null
  reason: string | null
  from_at: string | null
  range_days?: [number, number] | null
  expires_at: string
  as_of: string
}

export const REFUSAL_REASONS = [
  'infection_risk',
  'staff_shortage',
  'equipment_missing',
  'wrong_sex',
  'not_clean',
  'other',
] as const
export const PATIENT_REFUSAL_REASONS = ['cost', 'wants_single', 'wants_other_ward', 'not_today', 'other'] as const
export const BLOCK_REASONS = ['repair', 'infection_control', 'staff_shortage', 'reserved', 'other'] as const
export const OVERRIDE_REASONS = ['clinical_decision', 'family_request', 'surge', 'other'] as const
export const SUSPENSION_REASONS = ['staff_shortage', 'equipment_missing', 'infection_control', 'other'] as const

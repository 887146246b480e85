/** The bed pool's answers. Its doors describe their bodies but not their answers, so the answers are written down here once. */
import type { components } from '@/api/generated/beds'

type Bodies = components['schemas']
export type AssignBody = Bodies['AssignBed']
export type TransferBody = Bodies['TransferPatient']
export type AnnounceBody = Bodies['AnnounceTransfer']
export type CancelTransferBody = Bodies['CancelTransfer']
export type SwapBody = Bodies['SwapPatients']
export type LeaveBody = Bodies['StartLeave']
export type ShareBody = Bodies['DeclareShare']
export type ExpectLeavingBody = Bodies['ExpectLeaving']

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
  closed_reason: string | null
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
  travel_minutes: number | null
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
  /** Why there is none now, by what the pool sees this moment. */
  waiting_reason: string | null
  soonest: Soonest[]
  closed: Closed[]
}

/** A bed that may be had as soon as it is clean, empty or released. */
export interface Soonest {
  bed_id: number
  code: string
  ward: string
  waits_for: 'condition' | 'commitment' | 'quota'
  cleaning: Cleaning | null
  leaving_at: string | null
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
  travel_minutes: number | null
  accepted_at: string | null
  escalated_at: string | null
  host_encounter_id: string | null
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
  away_until: string | null
  came_back_at: string | null
  host_encounter_id: string | null
  milestones: Standing[]
}

/** A newborn beside the patient of a bed; before its admission it is not here yet. */
export interface Guest {
  encounter_id: string
  patient: Patient
  is_here: boolean
}

/** How one step on the way home stands. */
export interface Standing {
  code: string
  state: 'reached' | 'late' | 'due' | 'open'
  due_at: string | null
  reached_at: string | null
  delay_reason: string | null
}

interface Named {
  code: string
  name_zh: string
  name_en: string
}

export interface Steps {
  steps: Named[]
  reasons: Named[]
}

export interface Share {
  share_id: string
  host_id: string
  kind: 'newborn' | 'companion'
  guest_id: string | null
  since: string
}

export interface Move {
  encounter_id: string
  patient: Patient
  state: 'wanted' | 'announced'
  reason: string
  urgent: boolean
  from_bed_id: number
  from_code: string
  from_ward: string
  to_bed_id: number | null
  to_code: string | null
  to_ward: string | null
  planned_at: string | null
  held_until: string | null
  requested_at: string
}

export interface Escalation {
  encounter_id: string
  patient: Patient
  urgency: string
  bed_id: number
  code: string
  ward: string
  held_since: string
  held_until: string | null
  escalated_at: string
}

export interface Leavers {
  within_hours: number
  mean: number
  low: number
  high: number
}

export interface Forecast {
  as_of: string
  interval: number
  stays: number
  wards: { ward: string | null; leaving: Leavers[] }[]
}

export interface WardWork {
  ward: string
  as_of: string
  arriving: Arriving[]
  lying: Lying[]
  cleaning: Bed[]
  shares: Share[]
  moves: Move[]
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
export const MOVE_REASONS = ['clinical_need', 'infection_control', 'patient_request', 'equipment', 'ward_capacity', 'breakdown', 'other'] as const
export const UNDO_REASONS = ['entered_wrongly', 'wrong_patient', 'plan_changed', 'other'] as const
export const CLOSE_REASONS = ['infection_control', 'staff_shortage', 'repair', 'other'] as const
export const SHARE_END_REASONS = ['child_observed', 'went_home', 'plan_changed', 'other'] as const
export const LEAVING_REASONS = ['recovers_well', 'recovers_slowly', 'awaiting_results', 'awaiting_receiver', 'family_request', 'other'] as const

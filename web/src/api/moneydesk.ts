/** What billing's doors of the cashier's desk answer: worklist, drawer, daily match. Written down here once. */
import type { components } from '@/api/generated/billing'

type Bodies = components['schemas']
export type OpeningBody = Bodies['Opening']
export type CountBody = Bodies['Count']
export type DifferenceReason = NonNullable<CountBody['reason']>
export type Explanation = Bodies['Explaining']['explanation']

export const BLOCKERS = [
  'no_account',
  'no_bill',
  'quoting',
  'quoted',
  'lines_changed',
  'quote_expired',
  'payer_asked',
  'payer_unknown',
  'payer_refused',
  'collecting',
  'reversing',
  'reopened',
  'arrears',
] as const
export type Blocker = (typeof BLOCKERS)[number]

export interface Unsettled {
  encounter_id: string
  ward: string | null
  left_at: string
  age_seconds: number
  blocker: Blocker
  blocked_seconds: number | null
  bill_id: string | null
  payer_kind: string | null
  charged_fen: number
  deposits_fen: number
}

export interface UnknownBill {
  encounter_id: string
  bill_id: string
  since: string
  unknown_seconds: number
}

export interface StuckRefund {
  encounter_id: string
  refund_no: string
  state: 'unknown' | 'failed'
  amount_fen: number
  since: string
  reason: string | null
}

export interface RefundRequest {
  request_id: string
  encounter_id: string
  ward: string | null
  deposit_entry_id: string
  amount_fen: number
  asked_at: string
  own: boolean
}

export const TURNED_DOWN = ['wrong_amount', 'wrong_patient', 'not_due', 'other_way'] as const

export interface Worklist {
  unsettled: Unsettled[]
  next: string | null
  unknown?: UnknownBill[]
  refunds?: StuckRefund[]
}

export interface Kept {
  kept: number
  missed: number
  running: number
}

export interface Miss {
  encounter_id: string
  left_at: string
  settled_at: string | null
  reason: string
  within_24_hours: boolean | null
  within_3_working_days: boolean | null
}

export interface SameDay {
  day: string
  left: number
  on_the_day: Kept
  within_24_hours: Kept
  within_3_working_days: Kept
  reasons: Record<string, number>
  misses: Miss[]
}

export interface Shift {
  shift_id: string
  opened_at: string
  float_fen: number
  cash_fen: number
  entries: number
  expected_fen: number
}

export interface Closing extends Shift {
  counted_fen: number
  difference_fen: number
  reason: DifferenceReason | null
}

export interface ClosedShift {
  id: string
  cashier: string
  opened_at: string
  closed_at: string
  float_fen: number
  expected_fen: number
  counted_fen: number
  difference_fen: number
  reason: DifferenceReason | null
}

export const PARTIES = ['channel', 'insurance', 'drawer'] as const
export type Party = (typeof PARTIES)[number]

export interface Difference {
  id: string
  day: string
  party: Party
  kind: string
  object: string
  ours_fen: number | null
  theirs_fen: number | null
  found_at: string
  age_seconds: number
  owner: string | null
  explained_at: string | null
  explained_by: string | null
  explanation: string | null
}

export interface Matched {
  party: Party
  done_at: string
  rows: number
  ours_fen: number
  theirs_fen: number
}

export interface DayMatch {
  day: string
  matched: Matched[]
  ledger: { cash_fen: number; channel_fen: number; payer_fen: number }
  open: number
  differences: Difference[]
}

export const DIFFERENCE_REASONS = [
  'miscounted_change',
  'counterfeit_note',
  'wrong_method_recorded',
  'float_wrong',
  'unexplained',
] as const satisfies readonly DifferenceReason[]

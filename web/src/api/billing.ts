/** Billing's answers. Its doors describe their bodies but not their answers, so the answers are written down here once. */
import type { components } from '@/api/generated/billing'

export type PaymentMethod = components['schemas']['DeskPayment']['method']
export type ChannelMethod = components['schemas']['ChannelOrder']['method']

export type BillState =
  | 'drafting'
  | 'quoted'
  | 'locking'
  | 'payer_pending'
  | 'payer_unknown'
  | 'collecting'
  | 'settled'
  | 'payer_reversing'
  | 'reopening'
  | 'cancelled'
  | 'expired'
  | 'failed'
  | 'reopened'

export interface Step {
  state: BillState
  at: string
  why: string | null
}

export interface Order {
  payment_id: string
  order_no: string
  method: ChannelMethod
  state: 'created' | 'waiting' | 'closing' | 'paid' | 'closed' | 'failed'
  amount_fen: number
  qr_text: string | null
  expires_at: string
}

export interface Settlement {
  settlement_id: string
  settled_at: string
  charged_fen: number
  deposits_fen: number
  waived_fen: number
  payer_fen: number
  refunded_fen: number
  reopened_at: string | null
}

export interface Receipt {
  number: string
  state: 'reserved' | 'issued' | 'failed' | string
  check_code: string | null
  url: string | null
}

export interface Bill {
  bill_id: string
  account_id: string
  number: number
  state: BillState
  since: string
  reason: string | null
  insured: boolean
  interim: boolean
  lines: number
  lines_hash: string
  charged_fen: number
  fund_fen: number
  account_fen: number
  patient_fen: number
  deposits_fen: number
  /** What of the deposits the blood centre pays (用血减免). */
  waived_fen: number
  due_fen: number
  refund_fen: number
  expires_at: string
  line_changed: boolean
  steps: Step[]
  payments: Order[]
  settlement: Settlement | null
  receipt: Receipt | null
}

export interface Account {
  account_id: string
  encounter_id: string
  state: 'open' | 'billing' | 'closed' | 'voided'
  payer_kind: string
  charged_fen: number
  deposits_fen: number
  waived_fen: number
  settlements: number
  interim_fen: number
  settled_at: string | null
  payment_group: string | null
}

export interface Entry {
  entry_id: string
  kind: string
  item: string | null
  amount_fen: number
  debit: string
  credit: string
  at: string
  reverses: string | null
  reversed_by: string | null
  interim_number: number | null
}

export interface Price {
  code: string
  name_zh: string
  name_en: string
  pinyin: string
  class: string
  receipt_class: string
  receipt_name: string
  insurance_class: string
  insurance_name: string
  unit: string
  unit_zh: string
  price_fen: number
  valid_from: string
  valid_to: string | null
  remark: string | null
}

export interface Encounter {
  encounter_id: string
  patient_tok: string
  state: string
  payer_kind: string | null
  bed_code: string | null
  ward: string | null
  admitted_at: string | null
  discharged_at: string | null
}

export const DESK_METHODS = ['cash', 'bank_card', 'bank_transfer'] as const satisfies readonly PaymentMethod[]
export const CHANNEL_METHODS = ['wechat', 'alipay'] as const satisfies readonly ChannelMethod[]
export const REOPENING_REASONS = ['wrong_charge', 'late_charge', 'coverage_changed', 'family_request', 'other'] as const
export const LATE_REASONS = ['forgotten_charge', 'late_result', 'price_correction', 'other'] as const

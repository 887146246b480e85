/** What the screens work out from a bill and a ledger: which step is next, groups of costs, running balances. Pure. */
import type { Bill, BillState, Entry, Order, Price } from '@/api/billing'

/** 核对 费用 支付 凭据 */
export type StepName = 'check' | 'costs' | 'payment' | 'proof'
export const STEPS: readonly StepName[] = ['check', 'costs', 'payment', 'proof']

const OVER: ReadonlySet<BillState> = new Set(['cancelled', 'expired', 'failed', 'reopened'])
const AT_PAYMENT: ReadonlySet<BillState> = new Set(['locking', 'payer_pending', 'payer_unknown', 'collecting', 'payer_reversing'])

/** Whether nothing more happens to this bill by itself. */
export function rests(bill: Bill | null): boolean {
  return bill === null || OVER.has(bill.state) || (bill.state === 'settled' && bill.receipt?.state !== 'reserved')
}

/** The bill people still have to do with; one that was given up or refused leaves only its reason behind. */
export function live(bill: Bill | null): Bill | null {
  return bill === null || OVER.has(bill.state) ? null : bill
}

/** The step the state of the bill asks for; who is before us must be sure before money is spoken of. */
export function stepOf(bill: Bill | null, isIdentified: boolean): StepName {
  if (bill !== null && (bill.state === 'settled' || bill.state === 'reopening')) return 'proof'
  if (!isIdentified) return 'check'
  return bill !== null && AT_PAYMENT.has(bill.state) ? 'payment' : 'costs'
}

/** Whether the payer's side is being asked, so that nothing can be paid yet. */
export function isAsking(bill: Bill): boolean {
  return bill.state === 'locking' || bill.state === 'payer_pending' || bill.state === 'payer_unknown'
}

/** The order that can still be paid, if there is one. */
export function openOrder(bill: Bill): Order | null {
  return bill.payments.find((one) => one.state === 'created' || one.state === 'waiting' || one.state === 'closing') ?? null
}

/** Since when the fund has been asked; the family counts from there, not from when we began to doubt. */
export function askedSince(bill: Bill): string {
  const asked = bill.steps.filter((step) => step.state === 'payer_pending').at(-1)
  return asked?.at ?? bill.since
}

export interface Money {
  what: 'due' | 'refund' | 'even'
  fen: number
}

/** The number that matters: what is still to be paid, what goes back, or that nothing is. */
export function theNumber(bill: Bill): Money {
  const refunded = bill.settlement?.refunded_fen ?? 0
  if (bill.state === 'settled') return refunded > 0 ? { what: 'refund', fen: refunded } : { what: 'even', fen: 0 }
  if (bill.due_fen > 0) return { what: 'due', fen: bill.due_fen }
  return bill.refund_fen > 0 ? { what: 'refund', fen: bill.refund_fen } : { what: 'even', fen: 0 }
}

export interface CostGroup {
  code: string
  fen: number
  lines: Entry[]
}
export const OTHER_CLASS = '14'

/**
 * Live charges by the classes of the receipt (医疗收费项目类别); what the price list does not know is 其他费.
 *
 * What an interim bill settles is not on any other bill: its number asks for those lines instead.
 */
export function costGroups(entries: readonly Entry[], prices: ReadonlyMap<string, Price>, interim: number | null = null): CostGroup[] {
  const groups = new Map<string, CostGroup>()
  for (const entry of entries) {
    if (entry.kind !== 'charge' || entry.reversed_by !== null || entry.interim_number !== interim) continue
    const code = (entry.item === null ? undefined : prices.get(entry.item)?.receipt_class) ?? OTHER_CLASS
    const group = groups.get(code) ?? { code, fen: 0, lines: [] }
    group.fen += entry.amount_fen
    group.lines.push(entry)
    groups.set(code, group)
  }
  return [...groups.values()].sort((one, other) => one.code.localeCompare(other.code))
}

/** What the blood costs that is charged and still to be settled. */
export function bloodOf(entries: readonly Entry[], prices: ReadonlyMap<string, Price>): number {
  const isBlood = (entry: Entry): boolean =>
    entry.kind === 'charge' && entry.reversed_by === null && entry.interim_number === null && prices.get(entry.item ?? '')?.class === 'blood'
  return entries.filter(isBlood).reduce((sum, entry) => sum + entry.amount_fen, 0)
}

/** Whether the blood centre pays this deposit: it is taken back, never refunded or moved. */
export function isWaiver(row: LedgerRow): boolean {
  return row.entry.debit === 'blood_centre'
}

/** What of these deposits is money somebody paid; the rest the blood centre pays. */
export function paidOf(held: { deposits_fen: number; waived_fen: number }): number {
  return held.deposits_fen - held.waived_fen
}

/** The ledger accounts that hold what lies between the patient and the hospital; all others are the hospital's own. */
const PATIENTS = new Set(['receivable', 'deposits', 'overpaid'])

export interface LedgerRow {
  number: number
  entry: Entry
  /** What the entry did to what the patient has here: money in is plus, costs are minus, a set-off is nothing. */
  change_fen: number
  balance_fen: number
  /** The rows of the original and of the reversal, so that neither is read without the other. */
  reverses: number | null
  reversedBy: number | null
}

/** The account as people read it: what came in, what was charged, what is left after each line. */
export function ledger(entries: readonly Entry[]): LedgerRow[] {
  const numbers = new Map(entries.map((entry, index) => [entry.entry_id, index + 1]))
  let balance = 0
  return entries.map((entry, index) => {
    const change = (PATIENTS.has(entry.credit) ? entry.amount_fen : 0) - (PATIENTS.has(entry.debit) ? entry.amount_fen : 0)
    balance += change
    return {
      number: index + 1,
      entry,
      change_fen: change,
      balance_fen: balance,
      reverses: entry.reverses === null ? null : (numbers.get(entry.reverses) ?? null),
      reversedBy: entry.reversed_by === null ? null : (numbers.get(entry.reversed_by) ?? null),
    }
  })
}

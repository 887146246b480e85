import { expect, it } from 'vitest'
import type { Bill, BillState, Entry, Price } from '@/api/billing'
import { bloodOf, costGroups, ledger, openOrder, paidOf, rests, stepOf, theNumber } from '@/billing/bill'

function aBill(state: BillState, more: Partial<Bill> = {}): Bill {
  return { state, due_fen: 0, refund_fen: 0, settlement: null, receipt: null, payments: [], steps: [], ...more } as unknown as Bill
}

let made = 0
function anEntry(kind: string, fen: number, debit: string, credit: string, more: Partial<Entry> = {}): Entry {
  made += 1
  return { entry_id: `e${made}`, kind, item: null, amount_fen: fen, debit, credit, at: '2026-11-23T01:00:00Z', reverses: null, reversed_by: null, interim_number: null, ...more }
}

it('speaks of money only when the patient is known to be the right one', () => {
  expect(stepOf(null, false)).toBe('check')
  expect(stepOf(aBill('quoted'), false)).toBe('check')
  expect(stepOf(aBill('quoted'), true)).toBe('costs')
  expect(stepOf(aBill('payer_unknown'), true)).toBe('payment')
  expect(stepOf(aBill('settled'), false)).toBe('proof')
})

it('starts again at the costs when a bill was given up', () => {
  for (const state of ['cancelled', 'expired', 'failed', 'reopened'] as const) expect(stepOf(aBill(state), true)).toBe('costs')
})

it('goes on watching a settled bill until its receipt is there', () => {
  const receipt = { number: '1', state: 'reserved', check_code: null, url: null }
  expect(rests(aBill('settled', { receipt }))).toBe(false)
  expect(rests(aBill('settled', { receipt: { ...receipt, state: 'issued' } }))).toBe(true)
  expect(rests(aBill('payer_unknown'))).toBe(false)
})

it('says one number: due, back, or nothing', () => {
  expect(theNumber(aBill('quoted', { due_fen: 500 }))).toEqual({ what: 'due', fen: 500 })
  expect(theNumber(aBill('quoted', { refund_fen: 700 }))).toEqual({ what: 'refund', fen: 700 })
  expect(theNumber(aBill('settled', { settlement: { refunded_fen: 700 } as Bill['settlement'] }))).toEqual({ what: 'refund', fen: 700 })
  expect(theNumber(aBill('settled')).what).toBe('even')
})

it('knows which code can still be paid', () => {
  const order = { payment_id: 'p', order_no: 'o', method: 'wechat', amount_fen: 1, qr_text: null, expires_at: '' } as const
  expect(openOrder(aBill('collecting', { payments: [{ ...order, state: 'closed' }] }))).toBeNull()
  expect(openOrder(aBill('collecting', { payments: [{ ...order, state: 'closed' }, { ...order, state: 'closing' }] }))?.state).toBe('closing')
})

it('groups live charges by class and leaves reversed ones out', () => {
  const prices = new Map([['BED', { receipt_class: '01' } as Price]])
  const groups = costGroups(
    [
      anEntry('charge', 5000, 'receivable', 'revenue', { item: 'BED' }),
      anEntry('charge', 300, 'receivable', 'revenue', { item: 'unknown' }),
      anEntry('charge', 900, 'receivable', 'revenue', { item: 'BED', reversed_by: 'r' }),
      anEntry('deposit', 100, 'cash', 'deposits'),
    ],
    prices,
  )
  expect(groups.map((group) => [group.code, group.fen])).toEqual([['01', 5000], ['14', 300]])
})

it('shows the costs of an interim bill by themselves and leaves them off every other bill', () => {
  const entries = [
    anEntry('charge', 700, 'receivable', 'revenue', { interim_number: 1 }),
    anEntry('charge', 50, 'receivable', 'revenue', { interim_number: 2 }),
    anEntry('charge', 3, 'receivable', 'revenue'),
  ]
  const sums = (interim: number | null): number[] => costGroups(entries, new Map(), interim).map((group) => group.fen)
  expect([sums(1), sums(2), sums(null)]).toEqual([[700], [50], [3]])
})

it('counts the blood that can still be waived: charged, not reversed, on no interim bill', () => {
  const blood = new Map([['BLD', { class: 'blood' } as Price], ['BED', { class: 'bed' } as Price]])
  const entries = [
    anEntry('charge', 22_000, 'receivable', 'revenue', { item: 'BLD' }),
    anEntry('charge', 100, 'receivable', 'revenue', { item: 'BLD', reversed_by: 'r' }),
    anEntry('charge', 10, 'receivable', 'revenue', { item: 'BLD', interim_number: 1 }),
    anEntry('charge', 1, 'receivable', 'revenue', { item: 'BED' }),
  ]
  expect(bloodOf(entries, blood)).toBe(22_000)
  expect(paidOf({ deposits_fen: 30_000, waived_fen: 22_000 })).toBe(8000)
})

it('keeps a running balance that ends at nothing when the account is settled', () => {
  const wrong = anEntry('charge', 900, 'receivable', 'revenue')
  const rows = ledger([
    anEntry('deposit', 10_000, 'cash', 'deposits'),
    wrong,
    anEntry('reversal', 900, 'revenue', 'receivable', { reverses: wrong.entry_id }),
    anEntry('charge', 6000, 'receivable', 'revenue'),
    anEntry('deposit_applied', 2000, 'deposits', 'receivable'),
    anEntry('payer_share', 4000, 'payer_receivable', 'receivable'),
    anEntry('rest_refunded', 8000, 'deposits', 'cash'),
  ])
  expect(rows.map((row) => row.balance_fen)).toEqual([10_000, 9100, 10_000, 4000, 4000, 8000, 0])
  expect(rows[2]?.reverses).toBe(2)
})

/** What a row of the worklist asks for: whose turn it is, and which page it opens. Pure. */
import type { Blocker, Kept, Unsettled } from '@/api/moneydesk'

/** Ours to do, somebody else's to answer, or first of all. */
export type Turn = 'ours' | 'outside' | 'first'

const OUTSIDE: ReadonlySet<Blocker> = new Set(['no_account', 'quoting', 'payer_asked', 'reversing'])
const FIRST: ReadonlySet<Blocker> = new Set(['payer_unknown', 'payer_refused', 'arrears'])
/** What is not settled by a bill in the family's hands is looked at on the account. */
const AT_ACCOUNT: ReadonlySet<Blocker> = new Set(['no_account', 'reversing', 'reopened', 'arrears'])

export function turnOf(blocker: Blocker): Turn {
  if (FIRST.has(blocker)) return 'first'
  return OUTSIDE.has(blocker) ? 'outside' : 'ours'
}

export function pageOf(row: Pick<Unsettled, 'blocker' | 'encounter_id'>): { name: 'account' | 'bedside'; to: string } {
  return AT_ACCOUNT.has(row.blocker)
    ? { name: 'account', to: `/accounts/${row.encounter_id}` }
    : { name: 'bedside', to: `/bedside/${row.encounter_id}` }
}

/** How many wait for what, most first. */
export function countsOf(rows: readonly Unsettled[]): { blocker: Blocker; count: number }[] {
  const counts = new Map<Blocker, number>()
  for (const row of rows) counts.set(row.blocker, (counts.get(row.blocker) ?? 0) + 1)
  return [...counts].map(([blocker, count]) => ({ blocker, count })).sort((a, b) => b.count - a.count || a.blocker.localeCompare(b.blocker))
}

/** Whole percent of those whose limit is over or who kept it; null while it is over for nobody. A miss is never rounded away. */
export function percentOf(kept: Kept): number | null {
  const decided = kept.kept + kept.missed
  return decided === 0 ? null : Math.floor((kept.kept * 100) / decided)
}

/** A day of the calendar before or after another: 2026-03-01 and -1 is 2026-02-28. */
export function dayPlus(day: string, days: number): string {
  const [year, month, date] = day.split('-').map(Number)
  return new Date(Date.UTC(year ?? 0, (month ?? 1) - 1, (date ?? 1) + days)).toISOString().slice(0, 10)
}

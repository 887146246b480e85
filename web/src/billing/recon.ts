/** How a difference is read: in which column what stands, what to do next, and which explanations can be true of it. Pure. */
import type { Difference, Explanation, Matched, Party } from '@/api/moneydesk'
import { PARTIES } from '@/api/moneydesk'

export interface Columns {
  ours: number | null
  outside: number | null
  drawer: number | null
  /** What they have more than we; what somebody does not have counts as nothing. */
  difference: number
}

export function columnsOf(row: Pick<Difference, 'party' | 'ours_fen' | 'theirs_fen'>): Columns {
  const isDrawer = row.party === 'drawer'
  return {
    ours: row.ours_fen,
    outside: isDrawer ? null : row.theirs_fen,
    drawer: isDrawer ? row.theirs_fen : null,
    difference: (row.theirs_fen ?? 0) - (row.ours_fen ?? 0),
  }
}

const ANYWHERE = ['other_business_day', 'posted_by_hand', 'borne_by_hospital', 'test_transaction'] as const satisfies readonly Explanation[]
const OF: Readonly<Record<Party, readonly Explanation[]>> = {
  channel: ['corrected_by_channel', 'given_back_by_hand', ...ANYWHERE],
  insurance: ['corrected_by_fund', ...ANYWHERE],
  drawer: ['drawer_recounted', 'cashier_made_good', ...ANYWHERE],
}

/** The explanations that can be true of a difference with this party, the likely ones first. */
export function explanationsFor(party: Party): readonly Explanation[] {
  return OF[party] ?? [...new Set(Object.values(OF).flat())]
}

export const isOpen = (row: Difference): boolean => row.explained_at === null

/** Open ones first, oldest first; what was explained stands below. */
export function inOrder(rows: readonly Difference[]): Difference[] {
  return [...rows].sort((a, b) => Number(!isOpen(a)) - Number(!isOpen(b)) || a.found_at.localeCompare(b.found_at))
}

export interface Standing {
  party: Party
  matched: Matched | null
  /** Asked to match again, and not answered since. */
  isWaiting: boolean
}

/** How each party stands; one that has not answered since it was asked again is waited for, whatever it said before. */
export function standings(matched: readonly Matched[], askedAgain: ReadonlyMap<Party, string | null> | null): Standing[] {
  return PARTIES.map((party) => {
    const found = matched.find((one) => one.party === party) ?? null
    const isWaiting = askedAgain?.has(party) === true && (found?.done_at ?? null) === askedAgain.get(party)
    return { party, matched: found, isWaiting }
  })
}

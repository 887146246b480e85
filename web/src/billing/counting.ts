/** A count that was begun, and the last closing sheet: kept over a reload and a lock, gone with the tab. Nothing here is about a patient. */
import type { Closing } from '@/api/moneydesk'
import type { Counts } from '@/billing/drawer'

const STORE = 'wardstream.drawer'

export interface Counting {
  user: string
  shift: string
  isCounting: boolean
  counts: Counts
  reason: string | null
  closed: { closing: Closing; at: string } | null
}

export function blankCounting(user: string): Counting {
  return { user, shift: '', isCounting: false, counts: {}, reason: null, closed: null }
}

/** What this user has begun; somebody else's count is never gone on with. */
export function readCounting(user: string): Counting {
  try {
    const found = { ...blankCounting(user), ...(JSON.parse(sessionStorage.getItem(STORE) ?? '{}') as Partial<Counting>) }
    return found.user === user ? found : blankCounting(user)
  } catch {
    return blankCounting(user)
  }
}

export function keepCounting(counting: Counting): void {
  sessionStorage.setItem(STORE, JSON.stringify(counting))
}

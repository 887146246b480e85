/**
 * What a person at a bedside has begun: kept over a reload, a lock, a closed lid, and gone with the tab.
 *
 * An act that nobody answered is kept as its path and body, so that it goes on by itself under its own Idempotency-Key
 * (api/keys.ts). The number of an insured person is never part of it, and no name is (S7).
 */
const STORE = 'wardstream.bedside'
/** Older than this nobody remembers having pressed it: the state on the server is asked instead. */
const GOES_ON_MS_MAX = 15 * 60_000

export interface Act {
  name: 'confirm' | 'pay' | 'order' | 'close' | 'cancel' | 'bill' | 'coverage' | 'deposit' | 'waiver' | 'refund' | 'move' | 'group' | 'reopen' | 'late'
  path: string
  body: unknown
}

export interface Begun {
  user: string
  encounter: string
  isIdentified: boolean
  payer: 'insured' | 'self' | null
  method: string
  amount: string
  /** The patient stays: the bill is an interim one (中途结算). */
  goesOn: boolean
  /** The interim bill whose proof was seen, so that the next one can be begun. */
  seen: string | null
  act: Act | null
  actAt: number
}

export function blank(user: string, encounter: string): Begun {
  return { user, encounter, isIdentified: false, payer: null, method: 'wechat', amount: '', goesOn: false, seen: null, act: null, actAt: 0 }
}

/** What this user has begun for this stay; somebody else's beginning, or one for another patient, is never gone on with. */
export function begunFor(user: string, encounter: string, now: number, stored: string | null): Begun {
  const none = blank(user, encounter)
  try {
    const found = { ...none, ...(JSON.parse(stored ?? '{}') as Partial<Begun>) }
    if (found.user !== user || found.encounter !== encounter) return none
    return now - found.actAt > GOES_ON_MS_MAX ? { ...found, act: null } : found
  } catch {
    return none
  }
}

export function read(user: string, encounter: string): Begun {
  return begunFor(user, encounter, Date.now(), sessionStorage.getItem(STORE))
}

export function keep(begun: Begun): void {
  sessionStorage.setItem(STORE, JSON.stringify(begun))
}

/** The count of a cash drawer: pieces by denomination, the sum in whole fen. Pure; nothing here is a fraction (R50). */

/** What a drawer holds, in fen: notes from ¥100 to ¥1, coins of 5 and 1 jiao, and loose fen by their number. */
export const DENOMINATIONS = [10_000, 5_000, 2_000, 1_000, 500, 100, 50, 10, 1] as const
const PIECES_MAX = 99_999

export type Counts = Partial<Record<number, string>>

/** How many pieces somebody typed; nothing is none, and null is no number of pieces. */
export function piecesOf(typed: string | undefined): number | null {
  const text = (typed ?? '').trim()
  if (text === '') return 0
  if (!/^\d{1,5}$/.test(text)) return null
  const pieces = Number(text)
  return pieces <= PIECES_MAX ? pieces : null
}

/** What lies there of one denomination, or null when its number is none. */
export function rowFen(denomination: number, typed: string | undefined): number | null {
  const pieces = piecesOf(typed)
  return pieces === null ? null : pieces * denomination
}

/** What was counted, or null while a row holds no number of pieces. */
export function sumOf(counts: Counts): number | null {
  let sum = 0
  for (const denomination of DENOMINATIONS) {
    const fen = rowFen(denomination, counts[denomination])
    if (fen === null) return null
    sum += fen
  }
  return sum
}

/** Whether anything was counted yet: an empty sheet is no count of nothing. */
export function isBegun(counts: Counts): boolean {
  return Object.values(counts).some((typed) => (typed ?? '').trim() !== '')
}

export type Verdict = 'even' | 'over' | 'short'

export function verdictOf(differenceFen: number): Verdict {
  return differenceFen === 0 ? 'even' : differenceFen > 0 ? 'over' : 'short'
}

/** Whether the drawer may be closed: counted, and a difference has its reason. */
export function mayClose(counts: Counts, expectedFen: number, reason: string | null): boolean {
  const counted = sumOf(counts)
  return counted !== null && isBegun(counts) && (counted === expectedFen || reason !== null)
}

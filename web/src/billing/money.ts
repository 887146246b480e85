/** Money as people read it, from whole fen; nothing here rounds, nothing here is a fraction (R50). */
const FEN_MAX = 10_000_000_000_000
const DIGITS = '零壹贰叁肆伍陆柒捌玖'

/** ¥1,234.56; a minus stands before the sign. */
export function yuan(fen: number): string {
  if (!Number.isSafeInteger(fen)) throw new RangeError(`${fen} is no whole number of fen.`)
  const amount = Math.abs(fen)
  const whole = String(Math.floor(amount / 100)).replace(/\B(?=(\d{3})+$)/g, ',')
  return `${fen < 0 ? '-' : ''}¥${whole}.${String(amount % 100).padStart(2, '0')}`
}

/** The same with its direction, for a column of movements: +¥10.00, -¥10.00, ¥0.00. */
export function signed(fen: number): string {
  return fen > 0 ? `+${yuan(fen)}` : yuan(fen)
}

/** Fen of what somebody typed (`1,234.5`, `￥12`), or null when it is no amount that fen can hold. */
export function fenOf(text: string): number | null {
  const typed = text.replace(/[\s,，¥￥]/g, '')
  const found = /^(\d{1,11})(?:\.(\d{1,2}))?$/.exec(typed)
  if (!found) return null
  const fen = Number(found[1]) * 100 + Number((found[2] ?? '').padEnd(2, '0'))
  return fen <= FEN_MAX ? fen : null
}

/** What goes into the field for an amount: 1234.50 */
export function typedOf(fen: number): string {
  return `${Math.floor(fen / 100)}.${String(fen % 100).padStart(2, '0')}`
}

/** 大写 as a Chinese bill must carry it: 壹佰零伍元贰角整 for 10520 fen; the same rule as shared/money.py. */
export function capitals(fen: number): string {
  const amount = Math.abs(fen)
  const whole = Math.floor(amount / 100)
  let text = ''
  let gap = false
  for (const [power, unit] of [[100_000_000, '亿'], [10_000, '万'], [1, '元']] as const) {
    const four = Math.floor(whole / power) % 10_000
    if (four > 0) text += (text !== '' && (gap || four < 1000) ? '零' : '') + fourCapitals(four) + unit
    else if (text !== '' && unit === '元') text += unit
    gap = four === 0
  }
  const jiao = Math.floor((amount % 100) / 10)
  const rest = amount % 10
  if (jiao > 0) text += `${DIGITS[jiao]}角`
  else if (rest > 0 && text !== '') text += '零'
  if (text === '' && rest === 0) text = '零元'
  return (fen < 0 ? '负' : '') + text + (rest > 0 ? `${DIGITS[rest]}分` : '整')
}

function fourCapitals(number: number): string {
  let text = ''
  for (const [power, unit] of [[1000, '仟'], [100, '佰'], [10, '拾'], [1, '']] as const) {
    const digit = Math.floor(number / power) % 10
    if (digit === 0) continue
    text += (text !== '' && Math.floor(number / (power * 10)) % 10 === 0 ? '零' : '') + DIGITS[digit] + unit
  }
  return text
}

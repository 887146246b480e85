/** Time as people say it, in the hospital's zone whatever the zone of the device. */
import { locale, t } from '@/i18n'

const ZONE = 'Asia/Shanghai'
const DAY_MS = 86_400_000

function parts(instant: number): Record<string, string> {
  const form = new Intl.DateTimeFormat('en-CA', {
    timeZone: ZONE,
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    hour12: false,
  })
  return Object.fromEntries(form.formatToParts(instant).map((part) => [part.type, part.value]))
}

/** 14:05 */
export function clock(instant: string | number): string {
  const said = parts(typeof instant === 'string' ? Date.parse(instant) : instant)
  return `${said['hour'] === '24' ? '00' : said['hour']}:${said['minute']}`
}

/** 2026-11-23 */
export function day(instant: string | number): string {
  const said = parts(typeof instant === 'string' ? Date.parse(instant) : instant)
  return `${said['year']}-${said['month']}-${said['day']}`
}

/** 14:05 today, 明天 14:05, 11-26 14:05 otherwise */
export function moment(instant: string | number, now: number): string {
  const at = typeof instant === 'string' ? Date.parse(instant) : instant
  if (day(at) === day(now)) return clock(at)
  if (day(at) === day(now + DAY_MS)) return `${t('time', 'tomorrow')} ${clock(at)}`
  if (day(at) === day(now - DAY_MS)) return `${t('time', 'yesterday')} ${clock(at)}`
  return `${day(at).slice(5)} ${clock(at)}`
}

/** 11月23日 周一 14:05:09 */
export function full(instant: string | number): string {
  const form = new Intl.DateTimeFormat(locale.value === 'zh' ? 'zh-CN' : 'en-GB', {
    timeZone: ZONE,
    year: 'numeric',
    month: 'long',
    day: 'numeric',
    weekday: 'short',
    hour: '2-digit',
    minute: '2-digit',
    hour12: false,
  })
  return form.format(typeof instant === 'string' ? Date.parse(instant) : instant)
}

/** 45 秒, 12 分, 2 小时 14 分, 3 天 4 小时 */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  if (seconds < 60) return t('time', 'seconds', { n: seconds })
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return t('time', 'minutes', { n: minutes })
  const hours = Math.floor(minutes / 60)
  if (hours < 24) {
    const rest = minutes % 60
    return rest === 0 ? t('time', 'hours', { n: hours }) : t('time', 'hours_minutes', { n: hours, m: rest })
  }
  const days = Math.floor(hours / 24)
  const rest = hours % 24
  return rest === 0 || days > 6 ? t('time', 'days', { n: days }) : t('time', 'days_hours', { n: days, m: rest })
}

/** 45 秒, 2 分 14 秒, 1 小时 3 分: while each second counts to somebody who waits. */
export function counted(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  if (seconds < 60 || seconds >= 3600) return duration(milliseconds)
  return t('time', 'minutes_seconds', { n: Math.floor(seconds / 60), s: seconds % 60 })
}

/** What a field for day and time holds (2026-11-23T14:05), in the hospital's zone. */
export function fieldOf(instant: number): string {
  return `${day(instant)}T${clock(instant)}`
}

/** The instant a field for day and time says, whatever the zone of the device; the hospital's has no summer time. */
export function instantOf(field: string): string {
  return `${field}:00+08:00`
}

/** 4:05, for what runs out while somebody looks at it */
export function countdown(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
}

export function isToday(instant: string, now: number): boolean {
  return day(instant) === day(now)
}

export function hourOf(instant: string | number): number {
  return Number(clock(instant).slice(0, 2))
}

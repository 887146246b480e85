/** Problems as sentences for the person at the screen; the door's own words only where there is no sentence here. */
import { hasWord, locale, t, word } from '@/i18n'
import type { Problem } from '@/api/problem'

export function sentenceOf(problem: Problem): string {
  const facts = { ...problem.facts, rule: word('rule', String(problem.facts['rule'] ?? '')) }
  if (hasWord('problem', problem.code)) return t('problem', problem.code as 'title', facts)
  const byStatus = `http_${problem.status}`
  // The door speaks English; a nurse who reads Chinese gets the general sentence for this kind of refusal first.
  if (locale.value === 'en' && problem.status < 500) return problem.message
  if (problem.status === 401) return t('problem', 'session_ended')
  if (problem.status === 403) return t('problem', 'not_your_role')
  if (problem.status === 422) return t('problem', 'invalid_fields')
  if (problem.status === 429) return t('problem', 'too_many_requests')
  if (hasWord('problem', byStatus)) return t('problem', byStatus as 'title')
  return problem.message
}

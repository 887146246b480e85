/** The one way to the doors: bearer token in memory, problem documents as `Problem`, writes under an Idempotency-Key. */
import { answered, fingerprintOf, keyFor } from '@/api/keys'
import { Problem, asProblem, problemOf } from '@/api/problem'

const READ_MS_MAX = 15_000
const WRITE_MS_MAX = 15_000
const WRITE_TRIES = 4

/** How `http` learns who is asking; the session store sets it, so that this module knows no store. */
export interface Credentials {
  user(): string
  token(): string | null
  /** Get a new token after the door said that the old one is over; false when the session has ended. */
  renew(): Promise<boolean>
}

let credentials: Credentials = { user: () => '', token: () => null, renew: () => Promise.resolve(false) }

export function useCredentials(given: Credentials): void {
  credentials = given
}

export function authorization(): Record<string, string> {
  const token = credentials.token()
  return token ? { Authorization: `Bearer ${token}` } : {}
}

/** Ask once; a token that ran out is renewed and the request repeated. */
export async function send(path: string, init: RequestInit, milliseconds: number | null): Promise<Response> {
  for (let tried = 0; ; tried += 1) {
    const aborting = new AbortController()
    const timer = milliseconds === null ? null : setTimeout(() => aborting.abort(), milliseconds)
    init.signal?.addEventListener('abort', () => aborting.abort(), { once: true })
    if (init.signal?.aborted) aborting.abort()
    let response: Response
    try {
      response = await fetch(path, {
        ...init,
        headers: { ...authorization(), ...(init.headers as Record<string, string> | undefined) },
        signal: aborting.signal,
        cache: 'no-store',
        credentials: 'same-origin',
      })
    } catch (error) {
      throw asProblem(error)
    } finally {
      if (timer !== null) clearTimeout(timer)
    }
    if (response.status === 401 && tried === 0 && (await credentials.renew())) continue
    return response
  }
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await send(path, { method: 'GET', signal: signal ?? null }, READ_MS_MAX)
  if (!response.ok) throw await problemOf(response)
  return (await response.json()) as T
}

/**
 * Do something once, however often it is sent.
 *
 * The key is forgotten only when the door has decided (done or refused). While nobody knows, the same request is repeated
 * with the same key: here a few times, and by the person at the screen for as long as they like.
 */
export async function post<T>(path: string, body: unknown, extra: Record<string, string> = {}): Promise<T> {
  const text = JSON.stringify(body)
  const fingerprint = await fingerprintOf(credentials.user(), 'POST', path, text)
  const key = keyFor(fingerprint)
  const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': key, ...extra }
  for (let tried = 1; ; tried += 1) {
    try {
      const response = await send(path, { method: 'POST', body: text, headers }, WRITE_MS_MAX)
      if (!response.ok) throw await problemOf(response)
      answered(fingerprint)
      return (response.status === 204 ? undefined : await response.json()) as T
    } catch (error) {
      const problem = asProblem(error)
      if (!problem.isUndecided) {
        answered(fingerprint)
        throw problem
      }
      if (tried >= WRITE_TRIES) throw problem
      await pause(problem.retryAfterSeconds === null ? 300 * 2 ** tried : problem.retryAfterSeconds * 1000)
    }
  }
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.min(milliseconds, 10_000)))
}

export { Problem }

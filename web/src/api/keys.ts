/**
 * One Idempotency-Key per intended write, kept until the write is answered.
 *
 * A write whose answer was lost is repeated with the same key, even after a reload, so that a double tap or a cut network
 * has one effect. What is stored is the key and a SHA-256 of the request, never the request: no web storage holds anything
 * about a patient (S7).
 */
const STORE = 'wardstream.unanswered'
const KEPT_MS = 12 * 3_600_000

interface Kept {
  key: string
  at: number
}

function kept(): Record<string, Kept> {
  try {
    const found = JSON.parse(sessionStorage.getItem(STORE) ?? '{}') as Record<string, Kept>
    const now = Date.now()
    return Object.fromEntries(Object.entries(found).filter(([, one]) => now - one.at < KEPT_MS))
  } catch {
    return {}
  }
}

function keep(all: Record<string, Kept>): void {
  if (Object.keys(all).length === 0) sessionStorage.removeItem(STORE)
  else sessionStorage.setItem(STORE, JSON.stringify(all))
}

function newKey(): string {
  // crypto.randomUUID exists only where the page came over TLS or from this machine; a ward may have neither.
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** Return a name of the request that tells nothing about it. */
export async function fingerprintOf(user: string, method: string, path: string, body: string): Promise<string> {
  const text = `${user}\n${method}\n${path}\n${body}`
  const bytes = new TextEncoder().encode(text)
  if (!crypto.subtle) return fallbackFingerprint(bytes)
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes))
  return Array.from(digest.subarray(0, 16), (byte) => byte.toString(16).padStart(2, '0')).join('')
}

/** Two FNV-1a hashes: enough to tell one's own few open requests apart where the browser offers no SHA-256. */
function fallbackFingerprint(bytes: Uint8Array): string {
  let first = 0x811c9dc5
  let second = 0x01000193
  for (const byte of bytes) {
    first = Math.imul(first ^ byte, 0x01000193) >>> 0
    second = Math.imul(second ^ byte, 0x85ebca6b) >>> 0
  }
  return `${first.toString(16)}-${second.toString(16)}-${bytes.length}`
}

/** Return the key of this write: the one of an earlier try that was never answered, or a new one. */
export function keyFor(fingerprint: string): string {
  const all = kept()
  const found = all[fingerprint]
  if (found) return found.key
  const key = newKey()
  keep({ ...all, [fingerprint]: { key, at: Date.now() } })
  return key
}

/** Forget the key: the write was answered, so the same act later is a new one. */
export function answered(fingerprint: string): void {
  const all = kept()
  delete all[fingerprint]
  keep(all)
}

/** Return how many writes wait for their answer. */
export function unansweredCount(): number {
  return Object.keys(kept()).length
}
